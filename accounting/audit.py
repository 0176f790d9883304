"""Who is at work: the names under which the database records what is changed (``sql/audit.sql``)."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from django.db import Error, connection

from accounting import sql

Road = Literal["admin", "command"]


@contextmanager
def acting(actor: str, road: Road, command: str = "") -> Iterator[None]:
    """What the block changes on Django's connection is on record as this actor's."""
    _name(actor=actor, road=road, command=command)
    try:
        yield
    finally:
        # Whoever has the connection next must not inherit the name. A connection that is broken has no next one.
        if connection.connection is not None and not connection.needs_rollback:
            with suppress(Error):
                _name(actor="", road="", command="")


@contextmanager
def commanding(command: str) -> Iterator[None]:
    """What the block changes is on record as done by a command, under the operating system's user."""
    try:
        actor = getpass.getuser()
    except (KeyError, OSError):  # as in a container, whose user has a number only
        actor = f"uid {os.getuid()}"
    with acting(actor, "command", command):
        yield


def _name(*, actor: str, road: str, command: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.load("act_as"), {"actor": actor[:150], "road": road, "command": command})
