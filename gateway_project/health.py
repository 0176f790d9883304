"""Whether the gateway can work. These checks call no provider and need no key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from accounting import ledger
from accounting.ledger.writable import prove_writable
from routing import catalog

BUSY_S = 3.0  # a writer that is longer at one transaction is stuck: nobody is admitted meanwhile
MIGRATIONS_S = 5.0  # between two looks at the migrations, which read files and take a while


class BeforeTheHostCheck:
    """Middleware that answers the health paths itself, before Django compares the Host header with ALLOWED_HOSTS.

    Platforms and load balancers ask by address, by ``localhost`` or by a host name of their own, and nobody can list
    those. The answers hold nothing that depends on the host.
    """

    def __init__(self, handle: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.handle = handle

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith("/health"):
            with suppress(Resolver404):
                match = resolve(request.path_info)
                answer: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
                return answer
        return self.handle(request)


@csrf_exempt  # else a PUT would hear about forms, not about methods
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """The platform's health check. Healthy means that the ledger can be written, so requests can be admitted."""
    try:
        snapshot = catalog.fresh()
        prove_writable()
    except Error as error:
        return _unhealthy(f"the ledger cannot be written ({type(error).__name__})")
    busy_s = ledger.busy_s()
    if busy_s > BUSY_S:
        return _unhealthy(f"the ledger's writer has been waiting for Postgres for {busy_s:.0f} s")
    return JsonResponse({"status": "healthy", "models": list(snapshot.enabled_aliases)})


def _unhealthy(reason: str) -> JsonResponse:
    return JsonResponse({"status": "unhealthy", "reason": reason, "models": []}, status=503)


@csrf_exempt
def present(request: HttpRequest) -> HttpResponse:
    """``HEAD /``: Claude Code looks so whether somebody is there. There is no page to get."""
    if request.method != "HEAD":
        raise Http404
    return HttpResponse()


@csrf_exempt  # else a PUT would hear about forms, not about methods
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "alive"})


@csrf_exempt  # else a PUT would hear about forms, not about methods
@require_safe
def alive(request: HttpRequest) -> JsonResponse:
    """The process answers, in the words of LiteLLM's proxy, which its users' probes may look for."""
    return JsonResponse("I'm alive!", safe=False)


@csrf_exempt  # else a PUT would hear about forms, not about methods
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """The database answers and has every migration."""
    try:
        names = _missing_migrations()
    except Error as error:
        return JsonResponse({"status": "not ready", "reason": f"no database ({type(error).__name__})"}, status=503)
    if names:
        return JsonResponse({"status": "not ready", "reason": "migrations are missing", "missing": names}, status=503)
    return JsonResponse({"status": "ready"})


@csrf_exempt  # else a PUT would hear about forms, not about methods
@require_safe
def readiness(request: HttpRequest) -> JsonResponse:
    """The same in the shape of LiteLLM's proxy."""
    try:
        names = _missing_migrations()
    except Error:
        return JsonResponse({"status": "unhealthy", "db": "disconnected"}, status=503)
    if names:
        return JsonResponse({"status": "unhealthy", "db": "connected"}, status=503)
    return JsonResponse({"status": "healthy", "db": "connected"})


def _missing_migrations() -> list[str]:
    """Raises django.db.Error."""
    connection.ensure_connection()
    return _migrations.missing()


class _Migrations:
    """Those that the database lacks, looked at by one request at a time, and not for each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._missing: list[str] = []
        self._look_at = 0.0  # monotonic

    def missing(self) -> list[str]:
        """Raises django.db.Error, and then the next request looks again."""
        with self._lock:
            if time.monotonic() >= self._look_at:
                executor = MigrationExecutor(connection)
                plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
                self._missing = [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
                self._look_at = time.monotonic() + MIGRATIONS_S
            return self._missing


_migrations = _Migrations()
