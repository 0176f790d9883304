"""Where Azure's deployments are, for what is relayed to them: https://learn.microsoft.com/azure/ai-foundry/openai/reference"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlencode

from routing.upstreams import errors
from routing.upstreams.base import FailureKind, UpstreamError, UpstreamRequest
from routing.upstreams.http.transport import USER_AGENT
from routing.upstreams.mends.capability import cannot

_API_VERSION: Final = "2025-04-01-preview"  # the first whose transcriptions and speech know the models of 2025
_NEW_API: Final = re.compile(r"/openai/v1/?$")


def address(request: UpstreamRequest, resource: str) -> tuple[str, dict[str, str]]:
    """The URL and the headers. Raises UpstreamError, also when the deployment is at another provider: none of those
    has this endpoint in OpenAI's format."""
    deployment = request.deployment
    if deployment.litellm_provider != "azure":
        raise cannot("The provider's deployment has no such endpoint", "model")
    if not deployment.base_url:
        raise UpstreamError(FailureKind.NOT_FOUND, "The provider has no base URL")
    if not request.api_key:
        raise UpstreamError(FailureKind.NO_KEY, "The provider has no key")
    base = deployment.base_url.partition("?")[0].rstrip("/")
    headers = {"Accept-Encoding": "identity", "Content-Type": "application/json", "User-Agent": USER_AGENT,
               "api-key": errors.authorization(request.api_key)}  # fmt: skip
    if _NEW_API.search(base):
        return f"{base}/{resource}", headers
    version = urlencode({"api-version": deployment.api_version or _API_VERSION})
    root = base.removesuffix("/openai")
    return f"{root}/openai/deployments/{quote(deployment.model, safe='')}/{resource}?{version}", headers
