"""``manage.py reconcile``: prove that balances equal the ledger. Exits 1 and says where if they do not."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from accounting.ledger.reconcile import reconcile
from accounting.money import plain_usd


class Command(BaseCommand):
    help = "Prove that every budget's balance equals its charges, and every entry its charges and attempts."

    def handle(self, *args: Any, **options: Any) -> None:
        result = reconcile()
        looked_at = f"{result.periods} budget periods, {result.entries} entries"
        if not result.discrepancies:
            self.stdout.write(f"the books are right: {looked_at}")
            return
        for off in result.discrepancies:
            since = f", since {off.since:%Y-%m-%d %H:%M:%S} UTC" if off.since else ""
            sign = "+" if off.difference_usd > 0 else ""
            self.stdout.write(
                f"{off.where}: {off.what}: {plain_usd(off.found_usd)} instead of {plain_usd(off.expected_usd)}"
                f" ({sign}{plain_usd(off.difference_usd)} USD){since}"
            )
        self.stdout.write(f"{len(result.discrepancies)} discrepancies in {looked_at}")
        sys.exit(1)
