"""What a deployment keeps of its responses, and what it counts without answering. None of it costs anything."""

from __future__ import annotations

from collections.abc import Callable

from routing.catalog import Step
from routing.exceptions import GatewayError, ProviderFailed, ProviderRefused
from routing.secrets import rotation
from routing.secrets.references import UnknownStore
from routing.upstreams.base import Json, UpstreamError, UpstreamRequest
from routing.upstreams.disclosure import NotAllowed
from routing.upstreams.registry import upstream_for


def ask_keeper(
    step: Step, method: str, resource: str, body: Json, prefers_key: Callable[[str], bool] | None = None
) -> Json:
    """Raises a GatewayError in the provider's words. ``resource`` is the path behind the provider's address."""
    try:
        key = rotation.choose(step.provider, prefers=prefers_key)
    except (UnknownStore, NotAllowed):
        key = None
    if key is None:
        raise ProviderFailed("The provider's key is not there.")
    deployment = step.deployment
    request = UpstreamRequest(deployment, key.secret, body, deployment.timeouts)
    try:
        return upstream_for(deployment.litellm_provider).responses_kept(request, method, resource)
    except UpstreamError as error:
        raise _told(error) from error


def _told(error: UpstreamError) -> GatewayError:
    if error.http_status is None or not 400 <= error.http_status < 500 or error.http_status in (401, 402, 403, 429):
        return ProviderFailed(f"The provider did not answer: {error.kind.value}.")
    return ProviderRefused(
        error.message, status=error.http_status, error_type=error.error_type, code=error.code, param=error.param
    )
