"""Finds the upstream of a provider, by litellm's name for the provider. Does not import litellm to do so."""

from __future__ import annotations

from functools import cache

from routing.upstreams.base import Upstream
from routing.upstreams.providers import PROVIDERS


@cache
def upstream_for(litellm_provider: str) -> Upstream:
    """The upstream that the provider's row names, or `sdk` for a provider without a row, which litellm may know.

    It is the same object every time. All upstreams are stateless and thread-safe."""
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
    """Imports litellm, and lets it build what the first requests would wait for. Takes seconds.

    Makes no connection and starts no thread, so the server may call it before it forks. Raises LitellmMisfit when the
    installed litellm does not fit this gateway."""
    from routing.upstreams.warming import warm_translation

    warm_translation()
