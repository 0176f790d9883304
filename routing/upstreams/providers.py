"""What each provider understands: one row a provider, by litellm's name for it. Does not import litellm.

A new provider that speaks OpenAI's format is one row here. The defaults of :class:`ProviderFacts` are the part of
OpenAI's format that every such server reads. ``source`` is the page that a row's facts are from; litellm's class for
the provider was read as well. ``tests/unit/test_provider_facts.py`` walks all rows, and ``docs/translation.md`` shows
what each row means for a request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import urlsplit

from routing.upstreams.turns import Manner

#: `relay`: speaks OpenAI's format. `translate`: by litellm's provider classes. `sdk`: by `litellm.completion()`.
Way = Literal["relay", "translate", "sdk"]
Dialect = Literal["openai", "anthropic", "gemini", "responses"]

#: Parameters of OpenAI's own platform. Other servers do not have them, and strict servers refuse their names.
PLATFORM_PARAMETERS: Final = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "verbosity",
        "web_search_options",
    }
)
#: Parameters that other providers have added to OpenAI's format.
ADDED_PARAMETERS: Final = frozenset(
    {
        "cached_content",
        "chat_template_kwargs",
        "container",
        "context_management",
        "include_reasoning",
        "mcp_servers",
        "media_resolution",
        "min_p",
        "models",
        "plugins",
        "prompt_mode",
        "provider",
        "reasoning",
        "reasoning_format",
        "repetition_penalty",
        "route",
        "safe_prompt",
        "safety_settings",
        "search_parameters",
        "speed",
        "thinking",
        "top_a",
        "top_k",
        "transforms",
    }
)
#: Parameters of OpenAI's format that a row may list as refused. An answer without them is still an answer to what was
#: asked. Tools, the shape of the answer and its modalities are not among them: without those it would be another
#: request. They are always sent, and a provider that cannot do them says so itself.
COMMON_PARAMETERS: Final = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "seed",
        "stop",
        "temperature",
        "top_logprobs",
        "top_p",
        "user",
    }
)
#: All parameters that may be left out of a request.
OPTIONAL_PARAMETERS: Final = PLATFORM_PARAMETERS | ADDED_PARAMETERS | COMMON_PARAMETERS

#: Fields that may be left out of a message. Most of them come from an answer that the client hands back. `thoughts` are
#: the parts of a content in which a model thinks.
MESSAGE_FIELDS: Final = frozenset(
    {
        "annotations",
        "audio",
        "cache_control",
        "images",
        "name",
        "partial",
        "prefix",
        "provider_specific_fields",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "refusal",
        "thinking_blocks",
        "thoughts",
    }
)

OLD_CAP: Final = "max_tokens"
NEW_CAP: Final = "max_completion_tokens"
CAPS: Final = frozenset({OLD_CAP, NEW_CAP})


@dataclass(frozen=True, slots=True)
class CallIds:
    """The ids of tool calls that a provider takes. Any other id is replaced, in the same way throughout a request."""

    longest: int = 64
    shortest: int = 1
    alphanumeric: bool = False  # only letters and digits
    signed: bool = False  # the provider reads what litellm appends to the ids of Gemini's calls (`__thought__…`)


@dataclass(frozen=True, slots=True)
class Embeds:
    """How a provider reads a request for embeddings."""

    most_inputs: int = 2048  # at once; OpenAI's limit
    reads_tokens: bool = False  # the inputs may be lists of OpenAI's tokens; elsewhere they are written out as text
    takes: frozenset[str] = frozenset()  # `encoding_format`, `user`
    renames: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """A row of the table. The fields below ``dialects`` concern OpenAI's format, and are read for `relay` alone."""

    name: str
    way: Way = "relay"
    base_url: str | None = None  # None for a relay: the operator must give the address
    key_variable: str = ""  # where litellm's users keep the key
    keyless: bool = False  # it needs no key, or litellm takes its cloud's credentials from the environment
    dialects: tuple[Dialect, ...] = ("openai",)

    caps: tuple[str, ...] = (OLD_CAP,)  # the names of the output cap that it obeys; other names become the first
    functions: bool = False  # it knows OpenAI's old `functions`; elsewhere they become tools, which mean the same
    developer: bool = False  # it knows the role `developer`; elsewhere that becomes `system`, which means the same
    stream_options: bool = True
    empty_turns: bool = True  # it takes an assistant's message with nothing in it, as agents hand back
    call_ids: CallIds = CallIds()
    #: Those of MESSAGE_FIELDS that it takes. `tool.name` means `name` in the role `tool` alone.
    message_fields: frozenset[str] = frozenset({"name"})
    takes: frozenset[str] = frozenset()  # those of the platform's and the added parameters that it takes
    refuses: frozenset[str] = frozenset()  # those of the common parameters that it refuses
    renames: Mapping[str, str] = field(default_factory=dict)
    #: A parameter that is named here is sent with these values alone.
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    any_metadata: bool = False  # its `metadata` may have more than texts
    hottest: float = 2.0  # the highest temperature
    most_stops: int | None = None  # how many stop sequences it takes, where it documents a limit
    by_model: bool = False  # litellm knows which parameters each model refuses
    #: Those of the common parameters that its reasoning models refuse. The price map says which models reason.
    thinkers_refuse: frozenset[str] = frozenset()
    manners: frozenset[Manner] = frozenset()  # of telling a conversation (`turns`)
    thinks_freely: bool = False  # its reasoning models think unasked, and take no forced tool beside it
    strict_schemas: bool = False  # it reads the schemas of functions, and refuses some
    longest_identifier: int | None = None  # of an end user or of a cache, in characters
    #: What only its reasoning models take. Of a model that the price map does not know nothing is left out.
    thinkers_take: frozenset[str] = frozenset()
    #: How it is made to go on from a last assistant message: `message` alone, or the field that asks for it.
    prefill: str = ""
    embeds: Embeds = Embeds()
    #: Whether it has `/completions` for all its models: one text in a call, or also several and tokens.
    completes: Literal["", "text", "lists"] = ""
    life_signs: str = ""  # what it sends before the first token, while it thinks: `pings`, `comments` or nothing
    source: str = ""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_") + "_API_KEY"


_BOTH: Final = (OLD_CAP, NEW_CAP)
#: https://platform.openai.com/docs/api-reference/embeddings/create
_EMBEDS_LIKE_OPENAI: Final = Embeds(reads_tokens=True, takes=_set("encoding_format user"))
#: OpenAI's chat format, and its Responses beside it.
_WITH_RESPONSES: Final[tuple[Dialect, ...]] = ("openai", "responses")
_OPENAI: Final = ProviderFacts(
    "openai",
    base_url="https://api.openai.com/v1",
    dialects=_WITH_RESPONSES,
    caps=(NEW_CAP, OLD_CAP),
    functions=True,
    developer=True,
    call_ids=CallIds(longest=40),
    message_fields=_set("name refusal audio annotations"),
    takes=PLATFORM_PARAMETERS,
    most_stops=4,
    by_model=True,
    strict_schemas=True,
    longest_identifier=64,
    embeds=_EMBEDS_LIKE_OPENAI,
    source="https://platform.openai.com/docs/api-reference/chat/create",
)
#: A server of which only one thing is known: it speaks OpenAI's format. What only Google and Anthropic read, and what
#: only litellm writes, is left out. All else is sent, because the client may know the server.
_ANY_SERVER: Final = ProviderFacts(
    "custom_openai",
    key_variable="OPENAI_API_KEY",
    functions=True,
    message_fields=MESSAGE_FIELDS - {"thinking_blocks", "provider_specific_fields"},
    takes=PLATFORM_PARAMETERS
    | ADDED_PARAMETERS
    - _set("cached_content container context_management mcp_servers media_resolution safety_settings speed"),
    embeds=_EMBEDS_LIKE_OPENAI,
    source="https://github.com/BerriAI/litellm/blob/main/litellm/llms/openai/chat/gpt_transformation.py",
)
#: vLLM, and the clouds that serve with it: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
_VLLM_TAKES: Final = _set("chat_template_kwargs include_reasoning min_p repetition_penalty thinking top_k")
_VLLM: Final = ProviderFacts(
    "hosted_vllm",
    keyless=True,
    message_fields=_set("name reasoning reasoning_content"),
    takes=_VLLM_TAKES,
    embeds=Embeds(reads_tokens=True, takes=_set("encoding_format")),
    completes="lists",
    source="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
)
_OLLAMA: Final = ProviderFacts(
    "ollama",
    base_url="http://localhost:11434/v1",
    keyless=True,
    message_fields=_set("name reasoning"),
    takes=_set("reasoning"),
    refuses=_set("logit_bias n parallel_tool_calls user"),
    completes="text",
    source="https://docs.ollama.com/api/openai-compatibility",
)

_RELAYED: Final = (
    _OPENAI,
    _ANY_SERVER,
    replace(_ANY_SERVER, name="openai_like", key_variable=""),
    ProviderFacts(
        "litellm_proxy",
        dialects=_WITH_RESPONSES,
        caps=_BOTH,
        functions=True,
        developer=True,
        call_ids=CallIds(longest=100_000, signed=True),
        message_fields=MESSAGE_FIELDS,
        takes=PLATFORM_PARAMETERS | ADDED_PARAMETERS,
        embeds=_EMBEDS_LIKE_OPENAI,
        any_metadata=True,
        completes="lists",
        source="https://docs.litellm.ai/docs/completion/input",
    ),
    ProviderFacts(
        "anyscale",
        base_url="https://api.endpoints.anyscale.com/v1",
        source="https://docs.anyscale.com/llms/serving/openai-api",
    ),
    ProviderFacts(
        "cerebras",
        base_url="https://api.cerebras.ai/v1",
        caps=(NEW_CAP, OLD_CAP),
        message_fields=_set("name reasoning"),
        takes=_set("reasoning_format"),
        refuses=_set("frequency_penalty logit_bias n parallel_tool_calls presence_penalty"),
        source="https://inference-docs.cerebras.ai/resources/openai",
    ),
    ProviderFacts(
        "deepinfra",
        base_url="https://api.deepinfra.com/v1/openai",
        message_fields=_set("name reasoning_content"),
        takes=_set("chat_template_kwargs min_p prompt_cache_key repetition_penalty top_k"),
        completes="text",
        source="https://deepinfra.com/docs/openai_api",
    ),
    ProviderFacts(
        "deepseek",
        base_url="https://api.deepseek.com/v1",
        message_fields=_set("name prefix reasoning_content"),
        takes=_set("thinking"),
        refuses=_set("n"),
        manners=frozenset({"texts"}),
        thinks_freely=True,
        prefill="prefix",
        life_signs="comments",
        source="https://api-docs.deepseek.com/api/create-chat-completion",
    ),
    ProviderFacts(
        "featherless_ai",
        base_url="https://api.featherless.ai/v1",
        takes=_set("min_p repetition_penalty top_k"),
        completes="text",
        source="https://featherless.ai/docs/completions",
    ),
    ProviderFacts(
        "fireworks_ai",
        base_url="https://api.fireworks.ai/inference/v1",
        caps=_BOTH,
        message_fields=_set("name reasoning_content"),
        takes=_set("metadata min_p prediction prompt_cache_key repetition_penalty service_tier thinking top_k"),
        completes="lists",
        source="https://docs.fireworks.ai/api-reference/post-chatcompletions",
    ),
    ProviderFacts(
        "groq",
        base_url="https://api.groq.com/openai/v1",
        caps=(NEW_CAP, OLD_CAP),
        message_fields=_set("reasoning"),
        takes=_set("include_reasoning reasoning_format service_tier"),
        refuses=_set("logit_bias logprobs n top_logprobs"),
        values={"service_tier": _set("auto on_demand flex performance")},
        thinkers_take=_set("include_reasoning reasoning_effort reasoning_format"),
        source="https://console.groq.com/docs/openai",
    ),
    _VLLM,
    ProviderFacts(
        "hyperbolic",
        base_url="https://api.hyperbolic.xyz/v1",
        takes=_set("min_p repetition_penalty top_k"),
        source="https://docs.hyperbolic.xyz/docs/rest-api",
    ),
    ProviderFacts(
        "lambda_ai",
        base_url="https://api.lambda.ai/v1",
        key_variable="LAMBDA_API_KEY",
        source="https://docs.lambda.ai/public-cloud/lambda-inference-api",
    ),
    ProviderFacts(
        "llamafile",
        base_url="http://127.0.0.1:8080/v1",
        keyless=True,
        message_fields=_set("name reasoning_content"),
        takes=_set("chat_template_kwargs min_p reasoning_format top_k"),
        refuses=_set("n"),
        completes="text",
        source="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
    ),
    ProviderFacts(
        "lm_studio",
        base_url="http://localhost:1234/v1",
        keyless=True,
        message_fields=_set("name reasoning_content"),
        takes=_set("min_p top_k"),
        refuses=_set("n"),
        completes="text",
        source="https://lmstudio.ai/docs/developer/openai-compat/chat-completions",
    ),
    ProviderFacts(
        "meta_llama",
        base_url="https://api.llama.com/compat/v1",
        key_variable="LLAMA_API_KEY",
        caps=(NEW_CAP,),
        takes=_set("repetition_penalty top_k"),
        source="https://llama.developer.meta.com/docs/api/chat",
    ),
    ProviderFacts(
        "mistral",
        base_url="https://api.mistral.ai/v1",
        stream_options=False,
        empty_turns=False,
        call_ids=CallIds(longest=9, shortest=9, alphanumeric=True),
        message_fields=_set("tool.name prefix thoughts"),
        takes=_set("prompt_mode safe_prompt"),
        refuses=_set("logit_bias logprobs top_logprobs user"),
        renames={"seed": "random_seed"},
        hottest=1.5,
        manners=frozenset({"bridge", "go_on"}),
        thinkers_take=_set("prompt_mode reasoning_effort"),
        prefill="prefix",
        embeds=Embeds(renames={"dimensions": "output_dimension"}),
        source="https://docs.mistral.ai/api/endpoint/chat",
    ),
    ProviderFacts(
        "moonshot",
        base_url="https://api.moonshot.ai/v1",
        caps=(NEW_CAP, OLD_CAP),
        message_fields=_set("name partial reasoning_content"),
        takes=_set("prompt_cache_key safety_identifier thinking"),
        refuses=_set("logit_bias user"),
        hottest=1.0,
        thinkers_refuse=_set("frequency_penalty n presence_penalty temperature top_p"),
        thinks_freely=True,
        prefill="partial",
        source="https://platform.moonshot.ai/docs/api/chat",
    ),
    ProviderFacts(
        "nebius",
        base_url="https://api.studio.nebius.ai/v1",
        takes=_VLLM_TAKES,
        completes="lists",
        source="https://docs.studio.nebius.com/api-reference/inference/create-chat-completion",
    ),
    ProviderFacts(
        "novita",
        base_url="https://api.novita.ai/v3/openai",
        takes=_set("min_p repetition_penalty top_k"),
        source="https://novita.ai/docs/api-reference/model-apis-llm-create-chat-completion",
    ),
    ProviderFacts(
        "nvidia_nim",
        base_url="https://integrate.api.nvidia.com/v1",
        message_fields=frozenset(),
        takes=_set("chat_template_kwargs"),
        refuses=_set("logit_bias n user"),
        source="https://docs.api.nvidia.com/nim/reference/llm-apis",
    ),
    _OLLAMA,
    replace(_OLLAMA, name="ollama_chat"),
    ProviderFacts(
        "openrouter",
        base_url="https://openrouter.ai/api/v1",
        dialects=_WITH_RESPONSES,
        caps=_BOTH,
        message_fields=_set(
            "annotations cache_control images name reasoning reasoning_content reasoning_details refusal"
        ),
        takes=PLATFORM_PARAMETERS
        | _set(
            "include_reasoning min_p models plugins provider reasoning repetition_penalty route top_a top_k transforms"
        ),
        longest_identifier=128,
        life_signs="comments",
        source="https://openrouter.ai/docs/api-reference/parameters",
    ),
    ProviderFacts(
        "perplexity",
        base_url="https://api.perplexity.ai",
        key_variable="PERPLEXITYAI_API_KEY",
        stream_options=False,
        message_fields=frozenset(),
        takes=_set("top_k web_search_options"),
        refuses=_set("logit_bias logprobs n parallel_tool_calls seed stop top_logprobs user"),
        manners=frozenset({"alternate"}),
        source="https://docs.perplexity.ai/api-reference/sonar-post",
    ),
    ProviderFacts(
        "sambanova",
        base_url="https://api.sambanova.ai/v1",
        caps=_BOTH,
        takes=_set("chat_template_kwargs top_k"),
        refuses=_set("frequency_penalty logit_bias logprobs n presence_penalty seed top_logprobs"),
        source="https://docs.sambanova.ai/docs/en/features/openai-compatibility",
    ),
    ProviderFacts(
        "together_ai",
        base_url="https://api.together.ai/v1",
        key_variable="TOGETHERAI_API_KEY",
        message_fields=_set("name reasoning reasoning_content"),
        takes=_set("chat_template_kwargs min_p reasoning repetition_penalty top_k"),
        completes="text",
        source="https://docs.together.ai/reference/chat-completions-1",
    ),
    replace(_VLLM, name="vllm"),
    ProviderFacts(
        "xai",
        base_url="https://api.x.ai/v1",
        dialects=_WITH_RESPONSES,
        caps=(NEW_CAP, OLD_CAP),
        message_fields=_set("user.name reasoning_content refusal"),
        takes=_set("search_parameters"),
        by_model=True,
        thinkers_refuse=_set("frequency_penalty presence_penalty stop"),
        source="https://docs.x.ai/docs/api-reference",
    ),
)

_TRANSLATED: Final = (
    ProviderFacts(
        "anthropic",
        way="translate",
        base_url="https://api.anthropic.com",
        dialects=("anthropic",),
        prefill="message",
        life_signs="pings",
        source="https://docs.anthropic.com/en/api/messages",
    ),
    ProviderFacts(
        "gemini",
        way="translate",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        dialects=("gemini",),
        embeds=Embeds(most_inputs=100),
        source="https://ai.google.dev/api/generate-content",
    ),
)

_KEY_VARIABLES: Final = {
    "ai21_chat": "AI21_API_KEY",
    "cohere_chat": "COHERE_API_KEY",
    "nano-gpt": "NANOGPT_API_KEY",
}
_CLOUDS: Final = _set("bedrock bedrock_mantle oci sagemaker sagemaker_chat vertex_ai vertex_ai_beta")
#: Of a provider without a line, all inputs go to litellm at once.
_EMBEDS_BY_SDK: Final = {
    "azure": Embeds(reads_tokens=True, takes=_set("user")),
    "cohere": Embeds(most_inputs=96),  # https://docs.cohere.com/reference/embed
    "jina_ai": Embeds(most_inputs=512),
    "voyage": Embeds(most_inputs=1000),  # https://docs.voyageai.com/reference/embeddings-api
}
#: litellm's names for the other providers with a chat API or embeddings.
_BY_SDK: Final = tuple(
    ProviderFacts(
        name,
        way="sdk",
        key_variable=_KEY_VARIABLES.get(name, ""),
        keyless=name in _CLOUDS,
        dialects=("responses",) if name == "azure" else (),
        embeds=_EMBEDS_BY_SDK.get(name, Embeds()),
    )
    for name in _set(
        "ai21_chat aiml amazon_nova azure azure_ai baseten bedrock bedrock_mantle bytez chutes clarifai cloudflare "
        "codestral cohere cohere_chat cometapi compactifai dashscope databricks datarobot docker_model_runner empower "
        "friendliai galadriel gigachat github github_copilot gradient_ai helicone heroku huggingface inception "
        "infinity jina_ai "
        "langgraph lemonade maritalk minimax modelscope morph nano-gpt nlp_cloud nscale oci oobabooga ovhcloud petals "
        "poe predibase publicai replicate sagemaker sagemaker_chat sap scaleway snowflake synthetic triton v0 "
        "vercel_ai_gateway vertex_ai vertex_ai_beta volcengine voyage wandb watsonx xinference zai"
    )
)

#: The table, by litellm's name, in alphabetical order.
PROVIDERS: Final[Mapping[str, ProviderFacts]] = MappingProxyType(
    {
        row.name: row if row.key_variable else replace(row, key_variable=_variable(row.name))
        for row in sorted((*_RELAYED, *_TRANSLATED, *_BY_SDK), key=lambda row: row.name)
    }
)


def is_known_provider(name: str) -> bool:
    """Whether `Provider.litellm_provider` may have this value."""
    return name in PROVIDERS


def needs_base_url(name: str) -> bool:
    """Whether a provider of this name has no default address, so that its row in the database must give the address."""
    row = PROVIDERS.get(name)
    return row is not None and row.way == "relay" and row.base_url is None


#: How OpenAI names its own models. It does not serve its open models (`gpt-oss-…`): others do.
_OPENAI_MODEL: Final = re.compile(r"^(?:ft:)?(?:gpt-(?!oss)|chatgpt-|o\d)")
_OPENAI_THINKER: Final = re.compile(r"^(?:ft:)?(?:o\d|gpt-(?:[5-9]|\d\d))")
_OPENAI_FORMAT: Final = frozenset({"openai", "custom_openai", "openai_like"})


@lru_cache(maxsize=4096)
def facts_of(litellm_provider: str, model: str, base_url: str | None) -> ProviderFacts:
    """What a deployment understands: its provider's row, narrowed by its model and its address.

    People write `openai` with another address for any server that speaks OpenAI's format. A server that serves OpenAI's
    own models passes requests on to OpenAI. Of any other server nothing is known.
    """
    row = PROVIDERS[litellm_provider]
    if litellm_provider not in _OPENAI_FORMAT:
        return row
    host = urlsplit(base_url or row.base_url or "").hostname or ""
    at_openai = litellm_provider == "openai" and (host == "openai.com" or host.endswith(".openai.com"))
    if at_openai or _OPENAI_MODEL.match(model):
        # A server that passes requests on to OpenAI may not know OpenAI's newest names. Both know the old names.
        row = _OPENAI if at_openai else replace(_OPENAI, caps=(OLD_CAP,), developer=False)
        return replace(row, caps=(NEW_CAP,)) if _OPENAI_THINKER.match(model) else row
    return _ANY_SERVER
