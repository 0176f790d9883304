"""Which kind of upstream a provider needs, by litellm's name for it. No litellm is imported to answer."""

from __future__ import annotations

from functools import cache
from typing import Final

from routing.upstreams.base import Upstream
from routing.upstreams.relay import BASE_URLS, Relay

#: litellm's names of the providers with a chat API that are reached through `sdk`.
_SDK: Final = frozenset(
    [
        "ai21_chat",
        "aiml",
        "amazon_nova",
        "azure",
        "azure_ai",
        "baseten",
        "bedrock",
        "bedrock_mantle",
        "bytez",
        "chutes",
        "clarifai",
        "cloudflare",
        "codestral",
        "cohere",
        "cohere_chat",
        "cometapi",
        "compactifai",
        "dashscope",
        "databricks",
        "datarobot",
        "docker_model_runner",
        "empower",
        "friendliai",
        "galadriel",
        "gigachat",
        "github",
        "github_copilot",
        "gradient_ai",
        "helicone",
        "heroku",
        "huggingface",
        "inception",
        "langgraph",
        "lemonade",
        "maritalk",
        "minimax",
        "modelscope",
        "morph",
        "nano-gpt",
        "nlp_cloud",
        "nscale",
        "oci",
        "oobabooga",
        "ovhcloud",
        "petals",
        "poe",
        "predibase",
        "publicai",
        "replicate",
        "sagemaker",
        "sagemaker_chat",
        "sap",
        "scaleway",
        "snowflake",
        "synthetic",
        "triton",
        "v0",
        "vercel_ai_gateway",
        "vertex_ai",
        "vertex_ai_beta",
        "volcengine",
        "wandb",
        "watsonx",
        "xinference",
        "zai",
    ]
)
_TRANSLATED: Final = frozenset({"anthropic", "gemini"})

#: Every name that `Provider.litellm_provider` may have, sorted.
KNOWN_PROVIDERS: Final = tuple(sorted(_SDK | _TRANSLATED | set(BASE_URLS)))


def is_known_provider(name: str) -> bool:
    return name in _TRANSLATED or name in BASE_URLS or name in _SDK


def needs_base_url(name: str) -> bool:
    """Whether a provider of this name has no address of its own, so that its row must give one."""
    return name in BASE_URLS and BASE_URLS[name] is None


@cache
def upstream_for(litellm_provider: str) -> Upstream:
    """The upstream of a provider: `relay` where it speaks OpenAI's format, `translate` for Anthropic and Gemini,
    else `sdk`. The same object every time; all of them are stateless and thread-safe."""
    if litellm_provider in BASE_URLS:
        return Relay()
    if litellm_provider in _TRANSLATED:
        from routing.upstreams.translate import Translate

        return Translate()
    from routing.upstreams.sdk import Sdk

    return Sdk()


def warm() -> None:
    """Imports litellm and lets it build what its first requests would wait for. For the server's preload: seconds,
    and no network; makes no connection and starts no thread, so it is safe before a fork. Raises LitellmMisfit when
    the installed litellm is not one that we can call."""
    from routing.upstreams.warming import warm_translation

    warm_translation()
