"""``manage.py reconcile``: prove that balances equal the ledger. Exits 1 and says where if they do not."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import Error, connection

from accounting.ledger.reconcile import reconcile, remember
from accounting.ledger.rollup import rebuild


class Command(BaseCommand):
    help = (
        "Prove that every budget's balance equals its charges, every entry its charges and attempts, and the sums of "
        "spend their entries."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--rebuild", action="store_true", help="forget the sums of spend first; the gateway makes them anew"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["rebuild"]:
            connection.ensure_connection()
            rebuild(connection.connection)
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
