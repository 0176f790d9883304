"""``manage.py expire_holds``: resolve the holds of dead workers. Each worker also does this every second."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection

from accounting.ledger.expiry import expire_dead
from accounting.money import plain_usd


class Command(BaseCommand):
    help = "Resolve the holds of dead workers, and those past their time, to 'unknown', charged at the hold."

    def handle(self, *args: Any, **options: Any) -> None:
        connection.ensure_connection()
        expired = expire_dead(connection.connection)
        for hold in expired:
            charged = "unpriced" if hold.hold_usd is None else f"{plain_usd(hold.hold_usd)} USD"
            self.stdout.write(f"{hold.request_id}: unknown, charged at its hold ({charged})")
        self.stdout.write(
            f"{len(expired)} holds expired; resolve them in the admin" if expired else "no hold to expire"
        )
