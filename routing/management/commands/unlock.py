"""``manage.py unlock NAME``: let an operator sign in again after too many tries."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from routing.models import SignInTries
from routing.sign_ins import tries


class Command(BaseCommand):
    help = (
        "Forget the tries to sign in with a user's name. With --address the address counts as one of his from now on, "
        "so that guesses from elsewhere do not keep him out of there."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the user's name")
        parser.add_argument("--address", help="from where he signs in, as the log line has it")

    def handle(self, *args: Any, **options: Any) -> None:
        name, address = options["name"], options["address"]
        if address is not None and tries.counted(address) == "unknown":
            raise CommandError(f"--address {address!r} is not an IP address.")
        if not get_user_model().objects.filter(username=name).exists():
            raise CommandError(f"There is no operator {name!r}.")
        found = SignInTries.objects.filter(user_name=name).update(tries=0)
        if address is not None:
            tries.remember(name, tries.counted(address))
        self.stdout.write(f"'{name}' may try again ({found} counts were set back)")
