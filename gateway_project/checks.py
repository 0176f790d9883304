"""Django system checks: settings that are valid and probably a mistake. docs/system-checks.md lists them.

They are deployment checks: ``manage.py check --deploy`` and each start print them, and no other command does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections

TAG = "gateway"
SECRET_KEY_CHARACTERS = 50
# A worker keeps one connection for the ledger and one for the breakers. The admin and the health check need a third.
CONNECTIONS_A_WORKER = 3


def passed(*databases: str) -> bool:
    """Whether the gateway may start. Prints each message on a line of its own, for the operator.

    ``databases`` names the databases that the checks may query. Without a name they look at the settings alone.
    """
    messages = checks.run_checks(tags=[TAG], include_deployment_checks=True, databases=databases)
    # Django keeps checks in a set, so they come in another order at each start.
    found = sorted((message for message in messages if not message.is_silenced()), key=lambda message: str(message.id))
    for message in found:
        word = "Error" if message.is_serious() else "Warning"
        sys.stderr.write(f"{word} {message.id}: {message.msg} {message.hint or ''}".rstrip() + "\n")
    sys.stderr.flush()
    return not any(message.is_serious() for message in found)


@register(TAG, deploy=True)
def what_spends_holds(**_: Any) -> list[CheckMessage]:
    from gateway_project.routes import refuse_unknown_routes  # the views: nobody else who checks needs them

    try:
        refuse_unknown_routes()
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), id="gateway.E001")]
    return []


@register(TAG, deploy=True)
def keys_are_required(**_: Any) -> list[CheckMessage]:
    if settings.GATEWAY_AUTH != "open" or settings.ON_LOOPBACK:
        return []
    return [
        checks.Warning(
            f"GATEWAY_AUTH=open while serving on {settings.HOST}: everybody who reaches it can spend without a key.",
            hint="Set GATEWAY_AUTH=required and make keys with `manage.py create_key`.",
            id="gateway.W001",
        )
    ]


@register(TAG, deploy=True)
def passwords_are_encrypted(**_: Any) -> list[CheckMessage]:
    if settings.HTTPS or settings.ON_LOOPBACK:
        return []
    return [
        checks.Warning(
            f"GATEWAY_HTTPS=False while serving on {settings.HOST}: operators' passwords and clients' keys cross the "
            "network in plain text.",
            hint="Put a proxy that speaks https in front and leave GATEWAY_HTTPS out.",
            id="gateway.W002",
        )
    ]


@register(TAG, deploy=True)
def host_names_are_known(**_: Any) -> list[CheckMessage]:
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [
        checks.Warning(
            "ALLOWED_HOSTS=* lets any web page reach the gateway through a host name that it owns (DNS rebinding).",
            hint="List the host names by which clients reach the gateway.",
            id="gateway.W003",
        )
    ]


@register(TAG, deploy=True)
def secret_key_is_long(**_: Any) -> list[CheckMessage]:
    if len(settings.SECRET_KEY) >= SECRET_KEY_CHARACTERS and len(set(settings.SECRET_KEY)) >= 5:
        return []
    return [
        checks.Warning(
            "SECRET_KEY is short or has few different characters. Anyone can guess it and forge what the admin signs.",
            hint=f"Set {SECRET_KEY_CHARACTERS} random characters or more.",
            id="gateway.W004",
        )
    ]


@register(TAG, deploy=True)
def web_pages_need_a_key(**_: Any) -> list[CheckMessage]:
    if settings.GATEWAY_AUTH != "open" or not (settings.CORS_ALLOWED_ORIGINS or settings.CORS_ALLOWED_ORIGIN_REGEXES):
        return []
    return [
        checks.Warning(
            "CORS_ALLOWED_ORIGINS together with GATEWAY_AUTH=open: the scripts of those pages spend without a key, in "
            "the browser of every visitor.",
            hint="Set GATEWAY_AUTH=required, or leave CORS_ALLOWED_ORIGINS out.",
            id="gateway.W005",
        )
    ]


@register(TAG, deploy=True)
def secret_key_file_is_private(**_: Any) -> list[CheckMessage]:
    path = settings.DATA_DIR / "secret_key"
    if not path.exists() or path.stat().st_mode & 0o077 == 0:
        return []
    return [
        checks.Warning(
            f"{path} may be read by other users of this machine.",
            hint=f"Take their rights away: chmod 600 {path}",
            id="gateway.W006",
        )
    ]


@register(TAG, deploy=True)
def database_url_is_for_us(**_: Any) -> list[CheckMessage]:
    if not settings.DATABASE_URL_IGNORED:
        return []
    return [
        checks.Warning(
            f"DATABASE_URL has parameters of another client, which the gateway does not need and does not read: "
            f"{', '.join(settings.DATABASE_URL_IGNORED)}.",
            hint="Take them out, or leave them for the other client.",
            id="gateway.W009",
        )
    ]


@register(TAG, Tags.database, deploy=True)
def keys_may_be_read(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Runs only when a database is named, like the next one."""
    from routing.models import Provider, ProviderKey  # the checks are imported before the models are there
    from routing.secrets import references
    from routing.upstreams import deployment_parameters

    messages: list[CheckMessage] = []
    for alias in databases or ():
        try:
            providers = list(Provider.objects.using(alias).values_list("name", "key_reference", "parameters"))
            further = list(ProviderKey.objects.using(alias).values_list("provider__name", "key_reference"))
        except Error:
            continue  # a database that does not answer, or has no tables yet, is reported elsewhere
        found = [
            *((name, references.refused(reference)) for name, reference, _ in providers),
            *((name, references.refused(reference)) for name, reference in further),
            *(
                (name, deployment_parameters.refused(value))
                for name, _, parameters in providers
                for value in parameters.values()
            ),
        ]
        messages.extend(
            checks.Warning(
                f"The provider {name} has a key that will not be read: {problem}.",
                hint="Its requests fail with no_key until then.",
                id="gateway.W008",
            )
            for name, problem in found
            if problem
        )
    return messages


@register(TAG, Tags.database, deploy=True)
def database_has_connections(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Runs only when a database is named: at each start, and with ``check --database default``."""
    needed = settings.WEB_CONCURRENCY * CONNECTIONS_A_WORKER
    messages: list[CheckMessage] = []
    for alias in databases or ():
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute(
                    "SELECT current_setting('max_connections')::int"
                    " - current_setting('superuser_reserved_connections')::int"
                )
                (allowed,) = cursor.fetchone()
        except Error:
            continue  # a database that does not answer is reported elsewhere
        if needed > allowed:
            messages.append(
                checks.Warning(
                    f"WEB_CONCURRENCY={settings.WEB_CONCURRENCY} may need {needed} database connections, and the "
                    f"database allows {allowed}.",
                    hint="Lower WEB_CONCURRENCY, or raise max_connections in Postgres.",
                    id="gateway.W007",
                )
            )
    return messages


@register(TAG, Tags.database, deploy=True)
def somebody_may_sign_in(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Runs only when a database is named, like the one before."""
    messages: list[CheckMessage] = []
    for alias in databases or ():
        try:
            if get_user_model().objects.using(alias).filter(is_superuser=True, is_active=True).exists():
                continue
        except Error:
            continue  # a database that does not answer, or has no tables yet, is reported elsewhere
        messages.append(
            checks.Warning(
                "Nobody may sign in to the admin, as there is no superuser.",
                hint="Set DJANGO_SUPERUSER_PASSWORD and start again, or run manage.py createsuperuser.",
                id="gateway.W010",
            )
        )
    return messages
