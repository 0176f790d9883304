"""``manage.py reprice PROVIDER MODEL --since DATE``: adjust entries that were charged at a wrong price."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounting import audit
from accounting.ledger import repricing
from accounting.ledger.corrections import NotCorrectable
from accounting.ledger.repricing import Repricing
from accounting.management import instants
from accounting.models import Attempt, Price
from accounting.money import plain_usd


class Command(BaseCommand):
    help = (
        "Compare what entries were charged with what the prices that are now on record for their time come to, and "
        "adjust the difference. Shows it only, unless --apply is given with --author and --reason."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("provider", help="the provider's name, as in the ledger")
        parser.add_argument("model", help="the model's name at the provider")
        parser.add_argument("--since", required=True, help="admitted from this day or time on (UTC), as 2026-11-01")
        parser.add_argument("--until", help="and before this one")
        parser.add_argument("--apply", action="store_true", help="write the adjustments")
        parser.add_argument("--author", default="", help="who corrects; required with --apply")
        parser.add_argument("--reason", default="", help="why; required with --apply")

    def handle(self, *args: Any, **options: Any) -> None:
        provider, model = options["provider"], options["model"]
        since = instants.past("--since", options["since"])
        until = instants.past("--until", options["until"]) if options["until"] else None
        if options["apply"] and not (options["author"].strip() and options["reason"].strip()):
            raise CommandError("--apply needs --author and --reason: an adjustment says who made it and why.")
        if not Attempt.objects.filter(provider=provider, model=model).exists():
            raise CommandError(f"The ledger has no attempt of {model} at {provider}.")
        if not Price.objects.filter(provider=provider, model=model).exists():
            raise CommandError(f"No price is known for {model} at {provider}; add it under Accounting, Prices first.")
        with audit.commanding("reprice"):
            self._reprice(repricing.differences(provider, model, since, until), **options)

    def _reprice(self, differences: Iterable[Repricing], **options: Any) -> None:
        count, total = 0, Decimal(0)
        for found in differences:
            charged = "unpriced" if found.charged_usd is None else plain_usd(found.charged_usd)
            when = f"{found.created_at:%Y-%m-%d %H:%M:%S}"
            self.stdout.write(
                f"{when}  {found.request_id}  {charged} -> {plain_usd(found.should_be_usd)}"
                f"  ({'+' if found.difference_usd > 0 else ''}{plain_usd(found.difference_usd)})"
            )
            if options["apply"]:
                try:
                    repricing.apply(found, author=options["author"], reason=options["reason"])
                except NotCorrectable as error:
                    self.stdout.write(f"  left as it is: {error}")
                    continue
            count, total = count + 1, total + found.difference_usd
        if not count:
            self.stdout.write("every entry is charged what its prices come to; nothing to do")
            return
        done = "adjusted" if options["apply"] else "would be adjusted (--apply writes it)"
        self.stdout.write(f"{count} entries {done}, {'+' if total > 0 else ''}{plain_usd(total)} USD in all")
