"""The gateway's own gunicorn configuration, with a ledger that writes nothing: what the ledger costs is the difference.

For ``python -m bench.ledger_ratio`` alone. The product has no such switch, and must not have one.
"""

from pathlib import Path

exec(Path("gateway_project/gunicorn.conf.py").read_text())  # first of all: it patches for gevent

_begin_work = post_fork  # noqa: F821  the product's own, just executed


class Nothing:
    """An ``accounting.ledger.LedgerWriter`` that admits every request and keeps nothing."""

    def start(self):
        pass

    def stop(self):
        pass

    def hold(self, request):
        from datetime import UTC, datetime

        from accounting.ledger.records import HeldCharge, Hold

        charges = tuple(HeldCharge(rule.id, rule, request.hold_usd) for rule in request.budgets)
        return Hold(request.entry_id, datetime.now(UTC), request.provider, request.hold_usd, charges)

    def top_up(self, request):
        return request.hold

    def settle(self, settlement):
        return True

    def busy_s(self):
        return 0.0


def post_fork(server, worker):
    from accounting import ledger

    ledger.start(Nothing())  # comes first, so the product finds a writer and makes none
    _begin_work(server, worker)
