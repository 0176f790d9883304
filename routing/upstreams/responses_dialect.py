"""Which deployments speak OpenAI's Responses themselves, and what of it only some of them take.

Calls nobody. https://platform.openai.com/docs/api-reference/responses · https://docs.x.ai/docs/api-reference ·
https://openrouter.ai/docs/api/reference/responses/overview ·
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/responses
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from django.utils.crypto import salted_hmac

from routing.upstreams.base import Deployment, Json, UpstreamError, UpstreamRequest
from routing.upstreams.price_map import costs_of
from routing.upstreams.providers import PROVIDERS, facts_of

#: Between a namespace and its function, in the name that a chat model is told.
SEAM: Final = "__"
#: With what the gateway's own ids begin, behind their prefix. The providers' ids are hexadecimal.
_MARK: Final = "gw"
#: Parameters that a provider is known to refuse, though an answer without them is an answer to what was asked.
REFUSES: Final[Mapping[str, frozenset[str]]] = {
    "xai": frozenset({"metadata", "prompt_cache_retention", "service_tier"})
}
#: What is not sent to models that do not reason. OpenAI refuses it.
_THOUGHTS: Final = "reasoning.encrypted_content"
#: Parts of the names of models that only chat completions serve.
#: https://platform.openai.com/docs/models
_CHAT_ALONE: Final = ("-search-preview", "-search-api", "-audio", "gpt-audio")
_PATH: Final = "/v1/responses"
#: What says that Azure is asked with a token of its own directory, which only its SDK fetches.
_DIRECTORY: Final = frozenset({"azure_ad_token", "client_id", "client_secret", "tenant_id"})

_SALT: Final = "routing.upstreams.responses_dialect"

#: By provider and address: servers that have answered that there is no such path.
_silent: set[tuple[str, str | None]] = set()


@dataclass(frozen=True, slots=True)
class Keeper:
    """The deployment that has given a response and may keep it."""

    provider: str
    model: str
    key: str  # tells apart the keys of a provider, whose accounts keep responses of their own

    @classmethod
    def of(cls, request: UpstreamRequest) -> Keeper:
        return cls(request.deployment.provider, request.deployment.model, mark_of(request.api_key))


def mark_of(api_key: str) -> str:
    """By which a provider's key is told from its others, and from which nobody can learn it."""
    return salted_hmac(_SALT, api_key, algorithm="sha256").hexdigest()[:8]


def speaks(deployment: Deployment) -> bool:
    """Whether the deployment is asked in this dialect."""
    return (deployment.provider, deployment.base_url) not in _silent and _may_speak(
        deployment.litellm_provider,
        deployment.model,
        deployment.base_url,
        any(name in _DIRECTORY for name, _ in deployment.parameters),
    )


@lru_cache(maxsize=4096)
def _may_speak(litellm_provider: str, model: str, base_url: str | None, by_directory: bool) -> bool:
    row = PROVIDERS.get(litellm_provider)
    if row is None or by_directory:
        return False
    if row.way == "relay":
        row = facts_of(litellm_provider, model, base_url)
    if "responses" not in row.dialects or any(part in model for part in _CHAT_ALONE):
        return False
    served = costs_of(litellm_provider, model).get("supported_endpoints")
    return not isinstance(served, list) or not served or _PATH in served


def is_certain(deployment: Deployment) -> bool:
    """Whether the address is one of those that document the dialect. Any other server may not have the path."""
    address = deployment.base_url or PROVIDERS[deployment.litellm_provider].base_url
    host = urlsplit(address or "").hostname or ""
    return any(host == known or host.endswith(f".{known}") for known in ("openai.com", "x.ai", "openrouter.ai"))


def learn_silence(deployment: Deployment) -> None:
    """The server has no such path. From now on this process asks it by chat."""
    _silent.add((deployment.provider, deployment.base_url))


class NoSuchPath(UpstreamError):
    """The server does not speak this dialect after all. It may be asked by chat."""

    def __init__(self, said: UpstreamError) -> None:
        super().__init__(said.kind, said.message, http_status=said.http_status)


def fresh_id(prefix: str) -> str:
    """An id of ours, for what a provider without this dialect has said."""
    return f"{prefix}_{_MARK}{uuid.uuid4().hex}"


def is_ours(item_id: object) -> bool:
    return isinstance(item_id, str) and item_id.partition("_")[2].startswith(_MARK)


def native(body: Mapping[str, Any], deployment: Deployment) -> Json:
    """The body for this deployment: as the client sent it, but for the model, what the provider is known to refuse,
    and what another provider has said in ids and thoughts of ours. Changes only a copy."""
    refused = _refused(body, deployment)
    asked: Json = {name: value for name, value in body.items() if name not in refused} | {"model": deployment.model}
    if _THOUGHTS in refused and isinstance(body.get("include"), list):
        asked["include"] = [part for part in body["include"] if part != _THOUGHTS]
    given = body.get("input")
    if isinstance(given, list) and any(_is_foreign(item) or is_ours(item.get("id")) for item in given):
        asked["input"] = [
            {name: value for name, value in item.items() if name != "id"} if is_ours(item.get("id")) else item
            for item in given
            if not _is_foreign(item)
        ]
    return asked


def _refused(body: Mapping[str, Any], deployment: Deployment) -> frozenset[str]:
    """The parameters that the provider or this model of its refuses. Agents ask every model for its thoughts."""
    refused = REFUSES.get(deployment.litellm_provider, frozenset())
    if "reasoning" not in body and _THOUGHTS not in (body.get("include") or ()):
        return refused
    return refused if _may_reason(deployment.litellm_provider, deployment.model) else refused | {"reasoning", _THOUGHTS}


@lru_cache(maxsize=4096)
def _may_reason(litellm_provider: str, model: str) -> bool:
    known = costs_of(litellm_provider, model)
    return not known or bool(known.get("supports_reasoning"))


def _is_foreign(item: Mapping[str, Any]) -> bool:
    """A thought that the gateway has written down for another provider: nobody could read it back."""
    if item.get("type") != "reasoning" or item.get("encrypted_content"):
        return False
    return item.get("id") is None or is_ours(item["id"])


def left_out(body: Mapping[str, Any], deployment: Deployment) -> tuple[str, ...]:
    """What of the body :func:`native` does not send."""
    refused = _refused(body, deployment)
    names = sorted(name for name in refused if body.get(name) is not None)
    if _THOUGHTS in refused and _THOUGHTS in (body.get("include") or ()):
        names.append("include")
    given = body.get("input")
    items = given if isinstance(given, list) else []
    return (*names, *(f"input[{place}]" for place, item in enumerate(items) if _is_foreign(item)))
