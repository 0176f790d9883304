"""What Google's API has, and the gateway has not: a clear answer in its envelope."""

from __future__ import annotations

from typing import Final, NoReturn

from rest_framework.request import Request
from rest_framework.views import APIView

from routing.endpoints.gemini import rendering
from routing.exceptions import NotFound

SERVED: Final = (
    "Of Google's API there are POST /v1beta/models/{alias}: with generateContent, streamGenerateContent, countTokens, "
    "embedContent and batchEmbedContents, and GET /v1beta/models."
)


class GeminiAbsentView(APIView):
    """Needs no key: it says nothing but what the documents say."""

    authentication_classes = ()
    rendering = rendering

    def initial(self, request: Request, *args: str, **path: str) -> NoReturn:
        """Before the method is looked at: there is nothing to be asked in any way."""
        raise NotFound(f"There is nothing at this path. {SERVED}")
