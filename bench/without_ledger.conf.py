"""The gateway's own gunicorn configuration, with a ledger that writes nothing: what the ledger costs is the difference.

For ``python -m bench.ledger_ratio`` alone. The product has no such switch, and must not have one.
"""

from pathlib import Path

exec(Path("gateway_project/gunicorn.conf.py").read_text())  # first of all: it patches for gevent


class Nothing:
    """The ledger writer's interface; every request is admitted and nothing is kept."""

    def hold(self, request):
        from datetime import UTC, datetime

        from accounting.ledger.records import HeldCharge, Hold

        charges = tuple(HeldCharge(rule.id, rule, request.hold_usd) for rule in request.budgets)
        return Hold(request.entry_id, datetime.now(UTC), request.provider, request.hold_usd, charges)

    def settle(self, settlement):
        return True

    def start(self):
        pass

    def stop(self):
        pass


def post_fork(server, worker):
    import os

    from accounting import ledger

    ledger._writers[os.getpid()] = Nothing()
