"""``manage.py load_config FILE``: take over a LiteLLM ``config.yaml``."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from routing.litellm_config import applying, reading
from routing.litellm_config.values import InvalidConfig


class Command(BaseCommand):
    help = (
        "Take over a LiteLLM config.yaml: says what it created, changed and left, and which keys it does not support."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="say it only; change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            text = options["file"].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise CommandError(f"{options['file']} cannot be read: {reason}") from None
        try:
            config = reading.read(text, os.environ)
            report = applying.apply(config, dry_run=options["dry_run"])
        except InvalidConfig as error:
            raise CommandError(f"{options['file']}: {str(error).removesuffix('.')}. Nothing was changed.") from None
        self._group("created", report.created)
        self._group("changed", report.changed)
        self._group("left as they are", report.left)
        self._group("without a price (refused under a hard budget until one is added)", report.unpriced)
        self._group("to know", list(dict.fromkeys((*config.notes, *report.notes))))
        self._group("not supported", list(config.unsupported))
        if not report.created and not report.changed:
            self.stdout.write("nothing changed")
        elif options["dry_run"]:
            self.stdout.write("dry run: nothing was written")

    def _group(self, title: str, lines: list[str]) -> None:
        if lines:
            self.stdout.write(f"{title}:")
            for line in lines:
                self.stdout.write(f"  {line}")
