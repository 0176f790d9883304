"""Open mode is for the programs of this machine, which spend without a key.

Loopback alone does not keep others out. A web page in the operator's browser can post from there, without the right to
read the answer, and a proxy in front makes the whole gateway public. Both say who they are in headers that a page
cannot set, and that a proxy sets for everybody.
"""

from __future__ import annotations

import re

from django.conf import settings
from django.http import HttpRequest

from routing.exceptions import OpenModeIsLocal

#: What a proxy sets, and how WSGI names it.
FORWARDING_HEADERS = {
    name: f"HTTP_{name.upper().replace('-', '_')}" for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP")
}


def refusal_of_strangers(request: HttpRequest) -> OpenModeIsLocal | None:
    """How to refuse the request, if it has no key of ours: it comes from a web page or through a proxy.

    None: it comes from here, or keys are required of everybody anyway.
    """
    if settings.GATEWAY_AUTH != "open":
        return None
    forwarded = next((name for name, variable in FORWARDING_HEADERS.items() if variable in request.META), None)
    if forwarded:
        return OpenModeIsLocal(
            f"Something is in front of the gateway (the request has the header {forwarded}), and in open mode whoever "
            "reaches that would spend without a key: set GATEWAY_AUTH=required."
        )
    if _is_of_another_page(request):
        return OpenModeIsLocal(
            "In open mode web pages of other origins may not spend: name the page's origin in CORS_ALLOWED_ORIGINS, or "
            "send an API key of the gateway."
        )
    return None


def _is_of_another_page(request: HttpRequest) -> bool:
    origin = request.META.get("HTTP_ORIGIN")
    if origin is None:
        # Browsers leave Origin out where a page only loads something, and say the rest here; programs send neither.
        # https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
        return request.META.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site")
    own = f"{request.scheme}://{request.get_host()}"
    return not (
        origin in (own, *settings.CORS_ALLOWED_ORIGINS)
        or any(re.match(pattern, origin) for pattern in settings.CORS_ALLOWED_ORIGIN_REGEXES)
    )
