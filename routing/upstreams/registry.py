"""The upstream of a provider, by litellm's name for the provider. Does not import litellm."""

from __future__ import annotations

from functools import cache

from routing.upstreams.base import Upstream
from routing.upstreams.providers import PROVIDERS


@cache
def upstream_for(litellm_provider: str) -> Upstream:
    """The upstream that the provider's row asks for; `sdk` for a name without a row, which litellm may know.

    Each upstream is one object for all calls. It has no state and is thread-safe.
    """
    row = PROVIDERS.get(litellm_provider)
    match row.way if row else "sdk":
        case "relay":
            from routing.upstreams.relay import Relay

            return Relay()
        case "translate":
            from routing.upstreams.translate import Translate

            return Translate()
        case "sdk":
            from routing.upstreams.sdk import Sdk

            return Sdk()


def warm() -> None:
    """Imports litellm and lets it build what its first requests would wait for. The server calls this in its preload.

    It takes seconds. It uses no network, opens no connection and starts no thread, so it is safe before a fork. Raises
    LitellmMisfit when we cannot call the installed litellm.
    """
    from routing.upstreams.warming import warm_translation

    warm_translation()
