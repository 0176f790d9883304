"""What must be true before the gateway serves: a database that answers, migrated, with an admin."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

import psycopg
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import OperationalError, connection

from accounting.postgres import locks
from gateway_project.environment import InvalidEnvironment, envstr

WAIT_S = 30


@dataclass(frozen=True)
class Admin:
    """An account made by this start. ``password`` is set when it was made up: shown once, never again."""

    username: str
    password: str | None


def prepare() -> Admin | None:
    """Waits for the database, then migrates and fills it; replicas that start at once take turns.

    Returns the admin account if this start made one. Raises ``InvalidEnvironment``.
    """
    _wait_for_database()
    # A transaction's lock, not a session's: that one also works through a pooler. It has a connection of its
    # own, as migrations have transactions of their own.
    with psycopg.connect(**connection.get_connection_params()) as lock:
        lock.execute("SELECT pg_advisory_xact_lock(%s)", [locks.FIRST_START])
        call_command("migrate", interactive=False, verbosity=0)
        call_command("ensure_defaults", verbosity=0)
        admin = _ensure_admin()
    connection.close()
    return admin


def _wait_for_database() -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            if time.monotonic() > deadline:
                reason = " ".join(str(error).split())  # libpq names host, user and database here, no password
                raise InvalidEnvironment("DATABASE_URL", f"no connection in {WAIT_S} s: {reason}") from None
            time.sleep(0.5)
        else:
            return


def _ensure_admin() -> Admin | None:
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return None
    username = envstr("DJANGO_SUPERUSER_USERNAME", "admin")
    password = envstr("DJANGO_SUPERUSER_PASSWORD")
    if not password and not settings.ON_LOOPBACK:
        return None  # a password made up here would end in a log that others read
    if users.filter(**{users.model.USERNAME_FIELD: username}).exists():
        raise InvalidEnvironment("DJANGO_SUPERUSER_USERNAME", f"{username!r} exists and is not a superuser")
    made_up = None if password else secrets.token_urlsafe(12)
    users.create_superuser(username, envstr("DJANGO_SUPERUSER_EMAIL"), password or made_up)
    return Admin(username, made_up)
