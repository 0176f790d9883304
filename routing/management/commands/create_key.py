"""``manage.py create_key NAME``: a new API key, printed once."""

from __future__ import annotations

from argparse import ArgumentParser
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounting import audit, keys
from accounting.management import instants
from accounting.models import ApiKey, Budget, BudgetMode, BudgetPeriodLength, BudgetScope
from routing.models import ModelAlias

#: The command's name for each column, for error messages.
_OPTIONS = {
    "name": "NAME:",
    "owner": "--owner:",
    "tags": "--tag:",
    "required_tags": "--required-tag:",
    "end_user": "--end-user:",
    "requests_per_minute": "--rpm:",
    "tokens_per_minute": "--tpm:",
    "concurrent_requests": "--concurrent:",
    "limit_usd": "--budget:",
    "time_zone": "--time-zone:",
}


class Command(BaseCommand):
    help = "Create an API key. It is printed once, as the last line; the database keeps only its hash."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="who uses it; the ledger shows this name")
        parser.add_argument(
            "--alias", action="append", default=[], metavar="A", help="the key may use only this alias; repeatable"
        )
        parser.add_argument(
            "--bind-fallbacks", action="store_true", help="its aliases are also the only ones that may be fallbacks"
        )
        parser.add_argument("--owner", default="", help="who answers for its spending: a person or a team")
        parser.add_argument(
            "--tag",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="each request has this tag, whatever its metadata says; repeatable",
        )
        parser.add_argument(
            "--required-tag",
            action="append",
            default=[],
            metavar="NAME",
            help="each request must have this tag in its metadata; repeatable",
        )
        parser.add_argument("--end-user", default="", help="whose a request is when it names no end user")
        parser.add_argument(
            "--ignore-end-users", action="store_true", help="user and safety_identifier of a request do not count"
        )
        parser.add_argument("--budget", metavar="USD", help="a hard budget for the key")
        parser.add_argument("--period", choices=BudgetPeriodLength.values, help="of the budget; default: day")
        parser.add_argument("--time-zone", default="UTC", help="of the budget; default: UTC")
        parser.add_argument("--rpm", type=int, metavar="N", help="requests a minute")
        parser.add_argument("--tpm", type=int, metavar="N", help="tokens a minute")
        parser.add_argument("--concurrent", type=int, metavar="N", help="requests at once")
        parser.add_argument(
            "--expires", metavar="WHEN", help="a day or time (UTC) as 2027-01-31, or from now on as 30d"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with audit.commanding("create_key"), transaction.atomic():
            self._create(options)

    def _create(self, options: dict[str, Any]) -> None:
        known = list(ModelAlias.objects.values_list("name", flat=True))
        for alias in options["alias"]:
            if alias not in known:
                raise CommandError(
                    f"There is no alias '{alias}'. Use one of: {', '.join(known) or 'none is configured'}."
                )
        if options["period"] and options["budget"] is None:
            raise CommandError("--period belongs to --budget; say how many USD.")
        secret = keys.new_secret()
        key = ApiKey(
            name=options["name"],
            allowed_aliases=list(dict.fromkeys(options["alias"])),
            binds_fallbacks=options["bind_fallbacks"],
            owner=options["owner"],
            tags=_tags(options["tag"]),
            required_tags=list(dict.fromkeys(options["required_tag"])),
            end_user=options["end_user"],
            callers_name_end_users=not options["ignore_end_users"],
            requests_per_minute=_positive(options["rpm"], "--rpm"),
            tokens_per_minute=_positive(options["tpm"], "--tpm"),
            concurrent_requests=_positive(options["concurrent"], "--concurrent"),
            expires_at=None if options["expires"] is None else instants.future("--expires", options["expires"]),
            **keys.fields_for(secret),
        )
        _save(key)
        if options["budget"] is not None:
            _save(
                Budget(
                    name=f"key {key.name}"[:100],
                    scope=BudgetScope.KEY,
                    api_key=key,
                    mode=BudgetMode.HARD,
                    limit_usd=_usd(options["budget"]),
                    period=options["period"] or BudgetPeriodLength.DAY,
                    time_zone=options["time_zone"],
                )
            )
        self.stdout.write(f"created the key '{key.name}'; it is shown only now:")
        self.stdout.write(secret)


def _save(row: ApiKey | Budget) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        problems = [
            f"{_OPTIONS.get(column, '')} {' '.join(messages)}".strip()
            for column, messages in error.message_dict.items()
        ]
        raise CommandError(" ".join(problems)) from None
    row.save()


def _tags(said: list[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for tag in said:
        name, is_tag, value = tag.partition("=")
        if not is_tag or name in tags:
            raise CommandError(f"--tag {tag!r} is not a new tag; write NAME=VALUE, each name once.")
        tags[name] = value
    return tags


def _positive(number: int | None, option: str) -> int | None:
    if number is not None and number < 1:
        raise CommandError(f"{option} must be 1 or more.")
    return number


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise CommandError(f"--budget {text!r} is not an amount of USD; write 2 or 0.50.")
    return amount
