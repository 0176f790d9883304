"""Proves that the ledger takes writes. A standby, a full disk, or somebody who holds its lock would not let it."""

from __future__ import annotations

from django.db import connection, transaction

from accounting import sql

WAIT_S = 2  # for what every hold waits for; it is ours within milliseconds


def prove_writable() -> None:
    """Write and roll back, leaving nothing. Raises django.db.Error when requests cannot be admitted.

    It begins as every hold does, with the ledger's lock, so that whoever keeps holds waiting keeps this waiting too.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{WAIT_S}s"])
            cursor.execute(sql.load("share_ledger"))
            cursor.execute("LOCK TABLE accounting_ledgerentry IN ROW EXCLUSIVE MODE")
            cursor.execute("CREATE TEMPORARY TABLE gateway_health (one int) ON COMMIT DROP")
        transaction.set_rollback(True)
