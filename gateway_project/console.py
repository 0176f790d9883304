"""The admin's look and its sidebar, as django-unfold takes them."""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy


def _page(title: str, icon: str, app: str, model: str) -> dict[str, Any]:
    """A link of the sidebar. Only operators who may see the page see the link."""
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{model}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{model}"),
    }


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Gateway",
    "SITE_HEADER": "Gateway",
    "SITE_SYMBOL": "alt_route",
    "SITE_URL": None,  # an API has no site to view
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "routing.admin.dashboard.context",
    "STYLES": [lambda request: static("routing/admin.css")],
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {"items": [{"title": "Overview", "icon": "dashboard", "link": reverse_lazy("admin:index")}]},
            {
                "title": "Routing",
                "separator": True,
                "items": [
                    _page("Providers", "cloud", "routing", "provider"),
                    _page("Breakers", "power_off", "routing", "breaker"),
                    _page("Aliases", "alt_route", "routing", "modelalias"),
                ],
            },
            {
                "title": "Accounting",
                "separator": True,
                "items": [
                    _page("Budgets", "savings", "accounting", "budget"),
                    _page("API keys", "key", "accounting", "apikey"),
                    _page("Prices", "sell", "accounting", "price"),
                    _page("Ledger", "receipt_long", "accounting", "ledgerentry"),
                    _page("Refusals", "block", "accounting", "refusedrequest"),
                    _page("Attempts", "call_split", "accounting", "attempt"),
                    _page("Adjustments", "edit_note", "accounting", "adjustment"),
                    _page("Reconciliations", "balance", "accounting", "reconciliation"),
                ],
            },
            {
                "title": "Operators",
                "separator": True,
                "items": [
                    _page("Audit", "history", "accounting", "change"),
                    _page("Users", "person", "auth", "user"),
                    _page("Groups", "group", "auth", "group"),
                ],
            },
        ],
    },
}
