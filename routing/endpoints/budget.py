"""How much is left in each budget of the caller."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounting.money import plain_usd
from accounting.reports import budgets_of
from routing.api.authentication import KeyAuthentication, caller_now


class BudgetView(APIView):
    """``GET /v1/budget``: every budget that applies to the caller's key."""

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request) -> HttpResponse:
        _, key = caller_now(request)
        return JsonResponse(
            {
                "object": "list",
                "data": [
                    {
                        "budget": status.budget,
                        "scope": status.scope,
                        "mode": status.mode,
                        "period": status.period,
                        "limit_usd": plain_usd(status.limit_usd),
                        "posted_usd": plain_usd(status.posted_usd),
                        "held_usd": plain_usd(status.held_usd),
                        "available_usd": plain_usd(status.available_usd),
                        "resets_at": status.resets_at.isoformat() if status.resets_at else None,
                    }
                    for status in budgets_of(key.id)
                ],
            }
        )
