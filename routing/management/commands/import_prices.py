"""``manage.py import_prices``: compare prices with litellm's price map, and take over what differs."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounting import audit, price_import
from routing.price_offers import configured, offer
from routing.upstreams.price_map import SOURCE


class Command(BaseCommand):
    help = "Show where prices differ from litellm's price map; --apply takes those over, effective from now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", action="append", metavar="M", help="only this upstream model; repeatable")
        parser.add_argument("--apply", action="store_true", help="write the differences, effective from now")

    def handle(self, *args: Any, **options: Any) -> None:
        models = configured()
        for wanted in options["model"] or ():
            if all(model != wanted for _, _, model in models):
                known = ", ".join(sorted({model for _, _, model in models}))
                raise CommandError(f"No alias uses the model '{wanted}'. Use one of: {known}.")
        models = [found for found in models if not options["model"] or found[2] in options["model"]]
        offered = offer(models)
        for provider, model in offered.unknown:
            self.stdout.write(f"{provider} {model}: no price in litellm's price map; left as it is")
        found = offered.changes
        for change in found:
            self.stdout.write(f"{change.provider} {change.model}: {'new' if change.before is None else 'changed'}")
            for line in price_import.differences(change):
                self.stdout.write(f"  {line}")
        if not found:
            self.stdout.write("every price is litellm's; nothing to do")
        elif options["apply"]:
            with audit.commanding("import_prices"):
                price_import.apply(found, SOURCE)
            self.stdout.write(f"{len(found)} prices written, effective from now")
        else:
            self.stdout.write(f"{len(found)} prices differ; --apply writes them, effective from now")
