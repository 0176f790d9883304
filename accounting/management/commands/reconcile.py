"""``manage.py reconcile``: prove that balances equal the ledger. Exits 1 and says where if they do not."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand
from django.db import Error

from accounting.ledger.reconcile import reconcile, remember


class Command(BaseCommand):
    help = "Prove that every budget's balance equals its charges, and every entry its charges and attempts."

    def handle(self, *args: Any, **options: Any) -> None:
        result = reconcile()
        try:
            remember(result)
        except Error as error:
            self.stderr.write(f"the first page of the admin will not show this result: {type(error).__name__}")
        looked_at = f"{result.periods} budget periods, {result.entries} entries"
        if not result.discrepancies:
            self.stdout.write(f"the books are right: {looked_at}")
            return
        for off in result.discrepancies:
            self.stdout.write(str(off))
        self.stdout.write(f"{len(result.discrepancies)} discrepancies in {looked_at}")
        sys.exit(1)
