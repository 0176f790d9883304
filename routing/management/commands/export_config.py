"""``manage.py export_config``: the configuration as a LiteLLM ``config.yaml``, on standard output."""

from typing import Any

from django.core.management.base import BaseCommand

from routing.litellm_config import writing


class Command(BaseCommand):
    help = "Print the configuration in LiteLLM's config.yaml schema. Secrets stay references."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(writing.write(), ending="")
