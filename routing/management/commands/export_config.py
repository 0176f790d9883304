"""``manage.py export_config``: the configuration as a LiteLLM ``config.yaml``, on standard output."""

from typing import Any

from django.core.management.base import BaseCommand

from routing.litellm_config import writing


class Command(BaseCommand):
    help = "Print the configuration in LiteLLM's config.yaml schema. Secrets stay references."

    def handle(self, *args: Any, **options: Any) -> None:
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        self.stdout.write(writing.write(in_unicode=encoding.lower().startswith("utf")), ending="")
