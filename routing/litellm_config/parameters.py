"""Which parameters of an entry may be left out, and which are what the entry is.

An entry without its address or its credentials would be another entry, which asks somebody else or at somebody else's
cost. So these are taken over or the entry is not. Everything else is a habit of requests, and is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from routing.litellm_config.key_references import KeyReferences
from routing.litellm_config.values import Found
from routing.upstreams.providers import OPTIONAL_PARAMETERS, PROVIDERS

#: Read by name elsewhere in this package.
READ = frozenset(
    {"model", "custom_llm_provider", "api_key", "api_base", "base_url", "api_version", "timeout", "stream_timeout",
     "max_tokens", "max_completion_tokens", "base_model", "weight", "order", "litellm_credential_name", "max_budget",
     "budget_duration"}
)  # fmt: skip
#: Beginnings and ends of names that say where a model is, or who asks it.
_OF_A_CLOUD = re.compile(r"(aws|vertex|vertex_ai|azure|oci|watsonx|wx|sap|gigachat|databricks|snowflake|predibase)_\w+")
_DECISIVE = re.compile(
    r"(\w+_)?(url|base|endpoint|host|proxy|project|project_id|space_id|location|account|account_id|tenant|tenant_id|"
    r"client_id|client_secret|credential|credentials|token|secret|password|key|key_id|access_key|username|"
    r"organization|deployment_id|headers)"
)
#: They look like the above and are not: LiteLLM's own switches, and parameters of a request.
_HARMLESS = re.compile(r"use_\w+|\w*cost\w*|guardrail\w*|model_info|tags|region_name|\w*cache\w*")
_SECRET = re.compile(r"(\w+_)?(secret|token|password|key|key_id|credentials?|username)")
_SECRET_HEADER = re.compile(
    r"authori[sz]ation|key|token|secret|cookie|host|account|project|organi[sz]ation", re.IGNORECASE
)
#: An entry with these answers without its provider: it is made for tests, and here it would cost money.
_MOCKS = re.compile(r"mock_\w+")


def is_decisive(name: str, provider: str) -> bool:
    if name == "model_id":  # at AWS, the profile or endpoint that is asked and billed in the model's place
        return provider.startswith(("bedrock", "sagemaker"))
    if name in OPTIONAL_PARAMETERS or _HARMLESS.fullmatch(name):
        return False
    return any(pattern.fullmatch(name) for pattern in (_OF_A_CLOUD, _DECISIVE, _MOCKS))


def carried(params: Mapping[str, Found], provider: str, keys: KeyReferences) -> dict[str, Any]:
    """The decisive parameters of an entry, as `Provider.parameters` keeps them. Raises InvalidConfig for those that
    this provider cannot be given."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        if name in READ or value.is_empty or not is_decisive(name, provider):
            continue
        if _MOCKS.fullmatch(name):
            raise value.refused("a made-up answer, which the gateway has not: the provider would be asked and paid")
        if name in ("headers", "extra_headers"):
            if any(_SECRET_HEADER.search(header) for header in value.fields()):
                raise value.refused("headers that say who asks are not sent, and the entry is another without them")
            continue
        if not _takes(provider, name):
            raise value.refused(f"is not taken over for {provider}, and the entry is another without it")
        is_secret = _SECRET.fullmatch(name) and not _is_file(value.raw)
        if value.variable is not None or is_secret:
            found[name] = keys.variable_for(value, name.upper())
        elif isinstance(value.raw, str):
            found[name] = value.text()
        elif isinstance(value.raw, bool | int | float):
            found[name] = value.raw
        else:
            raise value.refused("must be text: what is secret goes into a file or an environment variable")
    return found


def _takes(provider: str, name: str) -> bool:
    """Providers that litellm calls get any parameter that litellm has; OpenAI's own row has one of them."""
    return PROVIDERS[provider].way == "sdk" or (provider == "openai" and name == "organization")


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and value.strip().startswith(("/", "./")) and "\n" not in value.strip()
