"""What must be true before the gateway serves: the database answers, is migrated, and has an admin."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import OperationalError, connection

from accounting import audit
from accounting.postgres import locks, session
from gateway_project.environment import InvalidEnvironment, envstr

WAIT_S = 30


@dataclass(frozen=True)
class Admin:
    """An account that this start created. ``password`` is set when it was generated here; it is shown only once."""

    username: str
    password: str | None


def prepare() -> Admin | None:
    """Waits for the database, migrates it and writes the defaults. Replicas that start at the same time take turns.

    Returns the admin account if this start made one. Raises ``InvalidEnvironment``.
    """
    _wait_for_database()
    if session.is_shared():
        raise InvalidEnvironment(
            "DATABASE_URL",
            "leads to a pooler that gives each transaction another session (PgBouncer, Supavisor, pgcat or another "
            "one in transaction mode), and the ledger needs sessions of its own: name the database itself, or the "
            "pooler's session mode (Supabase: port 5432 in the place of 6543; Neon: the host without -pooler)",
        )
    # The lock has its own connection, because migrations begin and commit their own transactions.
    with session.connect("gateway-start", statement_timeout_s=0) as lock:
        lock.execute("SELECT pg_advisory_xact_lock(%s)", [locks.FIRST_START])
        _make_schema()
        call_command("migrate", interactive=False, verbosity=0)
        call_command("ensure_defaults", verbosity=0)
        with audit.commanding("run"):
            admin = _ensure_admin()
    connection.close()
    return admin


def _make_schema() -> None:
    """The schema that DATABASE_URL names, as the tools make it whose parameter that is."""
    schema = connection.settings_dict.get("SCHEMA")
    if not schema:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema])
        if cursor.fetchone() is None:  # asked first, because IF NOT EXISTS needs the right to make it all the same
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {connection.ops.quote_name(schema)}")


def _wait_for_database() -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            if time.monotonic() > deadline:
                reason = " ".join(str(error).split())  # libpq names the host, user and database here, not the password
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
        return None  # a generated password would end up in a log that others read
    if users.filter(**{users.model.USERNAME_FIELD: username}).exists():
        raise InvalidEnvironment("DJANGO_SUPERUSER_USERNAME", f"{username!r} exists and is not a superuser")
    made_up = None if password else secrets.token_urlsafe(12)
    users.create_superuser(username, envstr("DJANGO_SUPERUSER_EMAIL"), password or made_up)
    return Admin(username, made_up)
