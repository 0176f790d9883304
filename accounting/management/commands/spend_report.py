"""``manage.py spend_report``: what was spent, by day, alias, provider, key and more."""

from __future__ import annotations

import csv
import io
import json
import re
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from accounting.management import instants
from accounting.models import validate_time_zone
from accounting.money import plain_usd
from accounting.reports import DIMENSIONS, SpendRow, spend
from accounting.spreadsheets import harmless

COLUMNS = ("requests", "failed", "input_tokens", "output_tokens", "cost_usd", "unpriced")


class Command(BaseCommand):
    help = "Report spend from the ledger. Costs are exact and include adjustments."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--by", default="day", help=f"{', '.join(DIMENSIONS)}, or tag:NAME; default: day")
        parser.add_argument("--since", help="from this day or time on, as 2026-11-01, or the last 7d or 24h")
        parser.add_argument("--until", help="before this day or time")
        parser.add_argument("--time-zone", default="UTC", help="whose days, hours and months; default: UTC")
        parser.add_argument("--format", choices=("table", "csv", "json"), default="table")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            validate_time_zone(options["time_zone"])
        except ValidationError as error:
            raise CommandError(f"--time-zone: {error.messages[0]}") from None
        zone, by = options["time_zone"], options["by"]
        if by not in DIMENSIONS and not re.fullmatch(r"tag:.+", by):
            raise CommandError(f"--by {by!r} is not known; use one of {', '.join(DIMENSIONS)}, or tag:NAME.")
        since, until = (
            None if options[name] is None else instants.past(f"--{name}", options[name], zone)
            for name in ("since", "until")
        )
        if since is not None and until is not None and since >= until:
            raise CommandError(f"--until {options['until']!r} is not after --since {options['since']!r}.")
        rows = spend(by, since, until, zone)
        name = by.partition(":")[2] or by
        if name in COLUMNS:
            name = by  # the tag has the name of one of our columns
        match options["format"]:
            case "json":
                self.stdout.write(json.dumps([_values(name, row) for row in rows], indent=2))
            case "csv":
                text = io.StringIO()
                writer = csv.writer(text, lineterminator="\n")
                writer.writerow([harmless(name), *COLUMNS])
                for row in rows:
                    group, *numbers = _values(name, row).values()
                    writer.writerow([harmless(group or ""), *numbers])
                self.stdout.write(text.getvalue(), ending="")
            case _:
                self.stdout.write(_table(name, rows) if rows else "nothing was spent in this time")


def _values(name: str, row: SpendRow) -> dict[str, Any]:
    """The row with costs as text, because most readers turn a JSON number into a float."""
    return {
        name: row.group,
        "requests": row.requests,
        "failed": row.failed,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": plain_usd(row.cost_usd),
        "unpriced": row.unpriced,
    }


def _printable(group: str | None) -> str:
    """The text with control characters escaped. Clients send users and tags, which must not control a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in group or "-")


def _table(name: str, rows: list[SpendRow]) -> str:
    total = SpendRow(
        "total",
        sum(row.requests for row in rows),
        sum(row.failed for row in rows),
        sum(row.input_tokens for row in rows),
        sum(row.output_tokens for row in rows),
        sum((row.cost_usd for row in rows), start=rows[0].cost_usd * 0),
        sum(row.unpriced for row in rows),
    )
    lines = [[name, *COLUMNS]]
    for row in (*rows, total):
        values = _values(name, row)
        lines.append([_printable(values[name]), *(str(values[column]) for column in COLUMNS)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    rule = "-" * len(text[0])
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])
