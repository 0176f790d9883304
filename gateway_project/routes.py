"""Refuses to serve when a route could spend money without a hold.

Each route either spends through the one skeleton (`routing.endpoints.spending`) or is listed here as free. ``wsgi.py``
checks this before it serves, so every server runs the check. The system check ``gateway.E001`` runs it earlier, where
system checks run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, URLResolver, get_resolver

from routing.endpoints.spending import SpendingView

#: The views that call no provider, or for what costs nothing alone.
FREE_VIEWS: Final = frozenset(
    {
        "routing.endpoints.gemini.counting.GeminiCountView",
        "routing.endpoints.gemini.absent.GeminiAbsentView",
        "routing.endpoints.messages.counting.CountTokensView",
        "routing.endpoints.model_info.ModelInfoView",
        "routing.endpoints.models.ModelsView",
        "routing.endpoints.responses.counting.InputTokensView",
        "routing.endpoints.responses.looking_up.KeptResponseView",
        "routing.endpoints.models.ModelView",
        "routing.endpoints.absent.AbsentView",
        "routing.endpoints.budget.BudgetView",
        "routing.endpoints.dry_run.DryRunView",
        "gateway_project.health.alive",
        "gateway_project.health.health",
        "gateway_project.health.live",
        "gateway_project.health.present",
        "gateway_project.health.readiness",
        "gateway_project.health.ready",
    }
)
#: The paths of the operators' pages. Static files have no route, because whitenoise serves them.
FREE_PATHS: Final = ("admin/",)


def refuse_unknown_routes(patterns: Iterable[URLPattern | URLResolver] | None = None) -> None:
    """Raises ImproperlyConfigured when a route of the URL table neither spends through the skeleton nor is free."""
    for route, view in _routes(get_resolver().url_patterns if patterns is None else patterns):
        name = _name(view)
        if not (spends(view) or name in FREE_VIEWS or route.startswith(FREE_PATHS)):
            raise ImproperlyConfigured(
                f"The route '{route}' ({name}) could spend money that nobody holds: it neither goes through "
                "routing.endpoints.spending nor is named as free in gateway_project.routes. The gateway does not serve."
            )


def _routes(patterns: Iterable[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    for entry in patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _routes(entry.url_patterns, route)
        else:
            yield route, entry.callback


def spends(view: Callable[..., Any]) -> bool:
    """Whether the view goes through the skeleton. A subclass does not count: it could have its own `post`."""
    return getattr(view, "cls", None) is SpendingView


def _name(view: Callable[..., Any]) -> str:
    """The dotted name of a view function, or of the class that a view was made from."""
    named = getattr(view, "view_class", view)
    return f"{named.__module__}.{getattr(named, '__qualname__', type(named).__qualname__)}"
