"""The upstream of a provider, by litellm's name for it. No litellm is imported to answer."""

from __future__ import annotations

from functools import cache

from routing.upstreams.base import Upstream
from routing.upstreams.providers import PROVIDERS


@cache
def upstream_for(litellm_provider: str) -> Upstream:
    """The upstream that the provider's row asks for; `sdk` for a name without a row, which litellm may know. The same
    object every time; all of them are stateless and thread-safe."""
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
    """Imports litellm and lets it build what its first requests would wait for. For the server's preload: seconds,
    and no network; makes no connection and starts no thread, so it is safe before a fork. Raises LitellmMisfit when
    the installed litellm is not one that we can call."""
    from routing.upstreams.warming import warm_translation

    warm_translation()
