"""``manage.py ensure_defaults``: the configuration of a first start, made once."""

from typing import Any

from django.core.management.base import BaseCommand

from accounting import audit
from routing import defaults


class Command(BaseCommand):
    help = "Create the first start's providers, aliases, chains, prices and budget in an untouched database."

    def handle(self, *args: Any, **options: Any) -> None:
        with audit.commanding("ensure_defaults"):
            created = defaults.ensure()
        if options["verbosity"] == 0:
            return
        if created:
            self.stdout.write("created the default providers, aliases, prices and budget")
        else:
            self.stdout.write("configuration is there; nothing changed")
