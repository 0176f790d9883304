"""``manage.py load_config FILE``: take over a LiteLLM ``config.yaml``."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounting import audit
from routing.litellm_config import applying, reading
from routing.litellm_config.remarks import said_once
from routing.litellm_config.values import InvalidConfig


class Command(BaseCommand):
    help = (
        "Take over a LiteLLM config.yaml: says what it created, changed and left, what it left out and why, and which "
        "keys it does not support. The status is 1 when nothing could be taken over."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="say it only; change nothing")
        parser.add_argument(
            "--strict", action="store_true", help="change nothing unless everything that is wrong is put right"
        )
        parser.add_argument(
            "--accept-prices", action="store_true", help="take prices that look like a price a million, too"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise CommandError(f"{path} cannot be read: {reason}") from None
        try:
            config = reading.read(text, os.environ, path)
            with audit.commanding("load_config"):
                report = applying.apply(
                    config,
                    dry_run=options["dry_run"],
                    strict=options["strict"],
                    accept_prices=options["accept_prices"],
                )
        except InvalidConfig as error:
            raise CommandError(f"{path}: {str(error).removesuffix('.')}. Nothing was changed.") from None
        except applying.Refused as refused:
            wrong = "\n  ".join(said_once(refused.left_out))
            raise CommandError(f"{path}:\n  {wrong}\nNothing was changed.") from None
        left_out = (*config.left_out, *report.left_out)
        self._group("created", report.created)
        self._group("changed", report.changed)
        self._group("left as they are", report.left)
        self._group("without a price (refused under a hard budget until one is added)", report.unpriced)
        self._group("to know", said_once((*config.notes, *report.notes)))
        self._group("left out", said_once(left_out))
        self._group("not supported", said_once(config.unsupported))
        if left_out and not report.taken:
            raise CommandError(f"{path}: nothing could be taken over. Nothing was changed.")
        if not report.created and not report.changed:
            self.stdout.write("nothing changed")
        elif options["dry_run"]:
            self.stdout.write("dry run: nothing was written")

    def _group(self, title: str, lines: Iterable[str]) -> None:
        for number, line in enumerate(lines):
            if not number:
                self.stdout.write(f"{title}:")
            self.stdout.write(f"  {line}")
