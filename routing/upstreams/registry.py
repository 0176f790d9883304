"""Which kind of upstream speaks a provider's wire format."""

from __future__ import annotations

from routing.upstreams.base import Upstream


def upstream_for(litellm_provider: str) -> Upstream:
    from routing.upstreams.relay import Relay

    return Relay()
