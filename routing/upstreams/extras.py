"""What of a request costs more than its tokens: which parameters and tools are known not to, and what the others cost.

A list of what is known to cost nothing more, because nobody can list what is paid for: providers add to it every month.
What is on no list, and is sent, is refused by name where a hard budget applies, and passes elsewhere. What has a fee
and a bound is counted: a search in the web.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, NamedTuple

from accounting.record import record
from accounting.usage import Meter, Usage, quantity_name
from routing.upstreams.base import Deployment
from routing.upstreams.formats.parameters import ANTHROPIC_PARAMETERS, GEMINI_PARAMETERS, PARAMETERS
from routing.upstreams.providers import COMMON_PARAMETERS, OPTIONAL_PARAMETERS, PROVIDERS, facts_of


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Known to cost nothing more than the tokens of the prompt and of the answer, which are bounded by their own rules.
FREE: Final = (
    # OpenAI: https://platform.openai.com/docs/api-reference/chat/create
    _set(
        "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages "
        "metadata model n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention "
        "reasoning_effort response_format safety_identifier seed service_tier stop store stream stream_options "
        "temperature tool_choice tools top_logprobs top_p user verbosity"
    )
    # Anthropic, Google: what litellm translates
    | _set("cache_control media_resolution output_config output_format safety_settings system thinking top_k")
    # vLLM, SGLang: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
    | _set(
        "add_generation_prompt add_special_tokens allowed_token_ids bad_words cache_salt chat_template_kwargs "
        "continue_final_message documents early_stopping ebnf echo guided_choice guided_decoding_backend "
        "guided_grammar guided_json guided_regex guided_whitespace_pattern ignore_eos include_stop_str_in_output "
        "length_penalty logits_processors min_p min_tokens no_stop_trim priority prompt_logprobs regex "
        "repetition_penalty request_id return_hidden_states return_token_ids return_tokens_as_token_ids "
        "separate_reasoning skip_special_tokens spaces_between_special_tokens stop_regex stop_token_ids "
        "stream_reasoning structured_outputs truncate_prompt_tokens vllm_xargs"
    )
    # llama.cpp, Ollama, LM Studio: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
    | _set(
        "cache_prompt draft_model dry_allowed_length dry_base dry_multiplier dry_penalty_last_n dry_sequence_breakers "
        "dynatemp_exponent dynatemp_range format grammar id_slot json_schema keep_alive min_keep mirostat mirostat_eta "
        "mirostat_tau n_keep n_probs num_ctx penalize_nl post_sampling_probs reasoning_format repeat_last_n "
        "repeat_penalty return_tokens samplers t_max_predict_ms tfs_z think timings_per_token ttl typical_p "
        "xtc_probability xtc_threshold"
    )
    # Mistral, DeepSeek, Groq, Moonshot, OpenRouter, Qwen, Together: their API references
    | _set(
        "context_length_exceeded_behavior do_sample enable_thinking include_reasoning prompt_mode "
        "prompt_truncate_len random_seed reasoning reasoning_split route safe_prompt thinking_budget top_a transforms "
        "usage"
    )
)
#: The fields of a tool that the client runs itself. Anything else in it may be a tool of the provider's.
_TOOL_FIELDS: Final = _set(
    "cache_control custom defer_loading description eager_input_streaming format function input_schema name parameters "
    "strict type"
)
_FUNCTION_FIELDS: Final = _set("arguments cache_control description input_schema name parameters strict")

#: Searches that litellm lets Anthropic make at most, by the size of their context (ANTHROPIC_WEB_SEARCH_TOOL_MAX_USES).
_ANTHROPIC_SEARCHES: Final = {"low": 1, "medium": 5, "high": 10}
#: What a search's results come to at most. Not documented; it is more than has been seen.
TOKENS_A_SEARCH: Final = 25_000
#: What one deep research of Perplexity's comes to at most. Not documented either. Published usages have up to 54
#: searches, 19,028 tokens of citations and 193,947 of reasoning, which the output cap does not bound.
RESEARCH_SEARCHES: Final = 200
RESEARCH_CITATION_TOKENS: Final = 250_000
RESEARCH_REASONING_TOKENS: Final = 500_000
_SEARCH: Final = quantity_name(Meter.SEARCH)


class Unlimited(NamedTuple):
    """What nobody can bound: its place in the request, and why."""

    param: str
    why: str


@dataclass(frozen=True, slots=True)
class Extras:
    """What a request costs besides the tokens that its text has."""

    units: Mapping[str, Decimal] = field(default_factory=dict)  # by the names of `accounting.usage.quantity_name`
    needs: Mapping[str, Meter] = field(default_factory=dict)  # parameter → what must have a price of its own
    readings: int = 1  # how often the provider reads the input
    further_input_tokens: int = 0  # what it reads besides
    further_output_tokens: int = 0  # what it thinks beside the answer, whatever the output cap
    unbounded: Unlimited | None = None


NOTHING: Final = Extras()


@record(frozen=True, slots=True)
class Suspects:
    """What of a request must be judged for each deployment, found once. Most requests have nothing of the kind."""

    names: tuple[str, ...] = ()
    tool: Unlimited | None = None


def suspects(body: Mapping[str, Any]) -> Suspects:
    names = tuple(sorted(name for name, value in body.items() if name not in FREE and value is not None))
    return Suspects(names, _paid_tool(body) if body.get("tools") or body.get("functions") else None)


def extras(body: Mapping[str, Any], found: Suspects, deployment: Deployment) -> Extras:
    """What the request costs at the deployment besides its tokens."""
    searches_always = _searches_always(deployment)
    if not searches_always and found.tool is None and not found.names:
        return NOTHING
    judged = _Judged()
    if found.tool is not None:
        judged.refuse(*found.tool)
    for name in found.names:
        if _is_sent(name, deployment):
            _judge(name, body[name], deployment, judged)
    if searches_always:
        judged.units[quantity_name(Meter.SEARCH, _size_asked(body))] = Decimal(1)
        judged.needs.setdefault("model", Meter.SEARCH)
        if _bills_what_it_finds(deployment):
            judged.refuse("model", "how much this model reads of what it finds is not bounded")
        if _researches(deployment):
            judged.units = {_SEARCH: Decimal(RESEARCH_SEARCHES)}
            judged.further_input_tokens = RESEARCH_CITATION_TOKENS
            judged.further_output_tokens = RESEARCH_REASONING_TOKENS
    return judged.extras()


def with_fees(usage: Usage, deployment: Deployment, asked: Mapping[str, Decimal]) -> Usage:
    """The usage with the searches that the provider bills for. Some bill one a request, however often they search.
    ``asked``: the units that the request was held for, which say the size that was asked for."""
    if _searches_always(deployment) and not _researches(deployment):
        size = next((name for name in (*usage.quantities, *asked) if name.startswith(f"{_SEARCH}:")), _SEARCH)
        others = {name: amount for name, amount in usage.quantities.items() if name != _SEARCH}
        return replace(usage, quantities={**others, size: Decimal(1)})
    if bills_a_grounded_prompt(deployment) and usage.quantities.get(_SEARCH, 0) > 1:
        return replace(usage, quantities={**usage.quantities, _SEARCH: Decimal(1)})
    return usage


def _size_asked(body: Mapping[str, Any]) -> str:
    """The size of a search's context that the client asks for; empty when it leaves that to the provider."""
    options = body.get("web_search_options")
    size = options.get("search_context_size") if isinstance(options, dict) else None
    return size if isinstance(size, str) and size in _ANTHROPIC_SEARCHES else ""


def asked_search(options: Any, deployment: Deployment) -> Any:
    """The client's `web_search_options` with the cap that the ceiling counts with, where the provider has one."""
    if deployment.litellm_provider != "anthropic" or not isinstance(options, dict):
        return options
    return {**options, "search_context_size": options.get("search_context_size") or "medium"}


@dataclass(slots=True)
class _Judged:
    units: dict[str, Decimal] = field(default_factory=dict)
    needs: dict[str, Meter] = field(default_factory=dict)
    readings: int = 1
    further_input_tokens: int = 0
    further_output_tokens: int = 0
    unbounded: Unlimited | None = None

    def refuse(self, param: str, why: str) -> None:
        self.unbounded = self.unbounded or Unlimited(param, why)

    def extras(self) -> Extras:
        return Extras(
            self.units,
            self.needs,
            self.readings,
            self.further_input_tokens,
            self.further_output_tokens,
            self.unbounded,
        )


def _judge(name: str, value: Any, deployment: Deployment, judged: _Judged) -> None:
    match name:
        case "modalities":
            _judge_modalities(value, judged)
        case "web_search_options":
            _judge_search(value, deployment, judged)
        case "speed" if value == "fast" and deployment.litellm_provider == "anthropic":
            pass  # a tier: a model that has no price in it is not bounded
        case "speed" | "inference_geo":
            if value not in ("standard", "global"):
                judged.refuse(name, "it has a price of its own")
        case "context_management":
            edits = value.get("edits") if isinstance(value, dict) else None
            types = (
                [edit.get("type") for edit in edits if isinstance(edit, dict)] if isinstance(edits, list) else [None]
            )
            if not all(isinstance(kind, str) and kind.startswith("clear_") for kind in types):
                judged.refuse(name, "it may make the model read and write more than once")
        case "options":  # Ollama's
            if not isinstance(value, dict) or value.keys() & {"num_predict"}:
                judged.refuse(name, "it may change the output cap")
        case _:
            judged.refuse(name, "it is not on the list of parameters that cost nothing more")


def _judge_modalities(value: Any, judged: _Judged) -> None:
    meters = {"text": Meter.OUTPUT, "audio": Meter.AUDIO_OUTPUT, "image": Meter.IMAGE_OUTPUT}
    for modality in value if isinstance(value, list) else [value]:
        meter = meters.get(modality.lower()) if isinstance(modality, str) else None
        if meter is None:
            judged.refuse("modalities", "what an answer of this kind costs is not known")
        elif meter is not Meter.OUTPUT:
            judged.needs["modalities"] = meter


def _judge_search(value: Any, deployment: Deployment, judged: _Judged) -> None:
    if _searches_always(deployment):
        return  # it searches by itself, once
    if bills_a_grounded_prompt(deployment):
        searches = 1
    elif deployment.litellm_provider == "anthropic" and isinstance(value, dict):
        size = asked_search(value, deployment)["search_context_size"]
        searches = _ANTHROPIC_SEARCHES.get(size, 0) if isinstance(size, str) else 0
        judged.readings = 1 + searches
        judged.further_input_tokens = TOKENS_A_SEARCH * searches * (searches + 1) // 2
    else:
        searches = 0
    if not searches:
        judged.refuse("web_search_options", "how often this model would search is not bounded")
    judged.units[_SEARCH] = Decimal(searches)
    judged.needs["web_search_options"] = Meter.SEARCH


def _searches_always(deployment: Deployment) -> bool:
    """Models that search the web for every request, for a fee a request.
    https://platform.openai.com/docs/pricing#built-in-tools · https://docs.perplexity.ai/getting-started/pricing"""
    if deployment.litellm_provider == "perplexity":
        return "sonar" in deployment.model
    model = deployment.model
    return deployment.litellm_provider in ("openai", "azure") and ("-search-preview" in model or "-search-api" in model)


def _bills_what_it_finds(deployment: Deployment) -> bool:
    """Of OpenAI's, the older models' fee covers it, and the newer ones read it as input."""
    return deployment.litellm_provider in ("openai", "azure") and "-search-api" in deployment.model


def _researches(deployment: Deployment) -> bool:
    """Models that search, read and think as often as they like, and are billed for each of it."""
    return deployment.litellm_provider == "perplexity" and "deep-research" in deployment.model


def bills_a_grounded_prompt(deployment: Deployment) -> bool:
    """Gemini up to 2.5 bills a prompt that was grounded in a search, and not what was found; Gemini 3, each search.
    https://ai.google.dev/gemini-api/docs/google-search#pricing"""
    return deployment.litellm_provider == "gemini" and deployment.model.startswith(("gemini-1", "gemini-2"))


def _is_sent(name: str, deployment: Deployment) -> bool:
    """Whether the parameter reaches the provider. What is left out costs nothing."""
    row = PROVIDERS[deployment.litellm_provider]
    if row.way != "relay":
        translated: Collection[str] = {"anthropic": ANTHROPIC_PARAMETERS, "gemini": GEMINI_PARAMETERS}.get(
            row.name, PARAMETERS
        )
        return name in translated
    facts = facts_of(row.name, deployment.model, deployment.base_url)
    if name not in OPTIONAL_PARAMETERS:
        return True
    return name not in facts.refuses and (name in COMMON_PARAMETERS or name in facts.takes)


def _paid_tool(body: Mapping[str, Any]) -> Unlimited | None:
    """The first tool that is not plainly one that the client runs."""
    for name, is_own in (("tools", _is_clients_tool), ("functions", _is_function)):
        tools = body.get(name)
        for index, tool in enumerate(tools) if isinstance(tools, list) else ():
            if not is_own(tool):
                return run_by_provider(f"{name}[{index}]", tool)
    return None


def run_by_provider(place: str, tool: Any) -> Unlimited:
    """Coding agents offer such tools unasked. Their user, who never wrote the request, is told which tool it is."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    name = f" ('{kind[:64]}')" if isinstance(kind, str) and kind not in ("", "function") else ""
    return Unlimited(place, f"a tool that the provider runs itself{name} is billed by its use")


def _is_clients_tool(tool: Any) -> bool:
    if not isinstance(tool, dict) or tool.get("type") not in ("function", "custom", None):
        return False
    if not _are_known(tool, _TOOL_FIELDS):
        return False
    if "function" in tool:
        return _is_function(tool["function"])
    custom = tool.get("custom", tool)
    return isinstance(custom, dict) and isinstance(custom.get("name"), str)


def _is_function(function: Any) -> bool:
    return (
        isinstance(function, dict) and isinstance(function.get("name"), str) and _are_known(function, _FUNCTION_FIELDS)
    )


def _are_known(names: Iterable[str], known: frozenset[str]) -> bool:
    return known.issuperset(names)
