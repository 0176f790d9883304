"""Whether the gateway can work. These checks call no provider and need no key."""

from __future__ import annotations

from django.db import Error, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from routing import catalog


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """The platform's health check. Healthy means that the ledger can be written, so requests can be admitted."""
    try:
        snapshot = catalog.fresh()
        _write_and_roll_back()
    except Error as error:
        return JsonResponse(
            {
                "status": "unhealthy",
                "reason": f"the ledger cannot be written ({type(error).__name__})",
                "models": [],
            },
            status=503,
        )
    return JsonResponse({"status": "healthy", "models": list(snapshot.enabled_aliases)})


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "alive"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """The database answers and has every migration."""
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as error:
        return JsonResponse({"status": "not ready", "reason": f"no database ({type(error).__name__})"}, status=503)
    if missing:
        names = [f"{migration.app_label}.{migration.name}" for migration, _ in missing]
        return JsonResponse({"status": "not ready", "reason": "migrations are missing", "missing": names}, status=503)
    return JsonResponse({"status": "ready"})


def _write_and_roll_back() -> None:
    """Prove that the ledger's table takes writes (a read-only standby or a full disk would not), leaving nothing."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE accounting_ledgerentry IN ROW EXCLUSIVE MODE")
            cursor.execute("CREATE TEMPORARY TABLE gateway_health (one int) ON COMMIT DROP")
        transaction.set_rollback(True)
