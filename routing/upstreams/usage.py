"""Reads the usage that an answer reports: → :class:`accounting.usage.Usage`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from accounting import facts
from accounting.usage import Meter, Usage, quantity_name
from routing.upstreams.fees import search_of

#: A larger number is a mistake of the provider: no model reads or writes a hundredth of it in one request.
MAX_TOKENS: Final = 10**8

_WRITTEN_TYPES: Final = frozenset({str, float})  # how some providers write a number
_TOTALS: Final = ("prompt_tokens", "completion_tokens")
#: What OpenAI itself reports. Whoever says more says it in words of other providers.
_OPENAIS: Final = frozenset({*_TOTALS, "total_tokens", "prompt_tokens_details", "completion_tokens_details"})
_DETAILS: Final = ("prompt_tokens_details", "completion_tokens_details")
#: What only Anthropic's way of counting has.
_WORDS_OF_MESSAGES: Final = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens"})


def usage_of(reported: object) -> Usage | None:
    """A `usage` object in OpenAI's format → Usage; None when nothing was reported, or when its totals are absurd.

    Reads OpenAI's own fields, the two that litellm adds when it converts Anthropic's usage
    (`cache_creation_input_tokens` and `prompt_tokens_details.cache_creation_token_details`), and what other providers
    call the same:

    - cached input: `prompt_cache_hit_tokens` (DeepSeek), `cached_tokens` beside the totals (Moonshot, Together),
      `num_cached_tokens` (Mistral);
    - reasoning: `reasoning_tokens` beside the totals (Perplexity);
    - `citation_tokens` (Perplexity), which it bills like input.

    Anthropic reports the uncached input alone. litellm has already added the cache reads and writes to `prompt_tokens`,
    as OpenAI counts. Some providers (xAI, Perplexity) count reasoning *beside* `completion_tokens`. Their total shows
    that, or a part that is larger than its whole, or a count of citations, which deep research alone has. Such tokens
    are added, because they are billed.
    """
    if not isinstance(reported, Mapping):
        return None
    reported = _in_chats_words(reported)
    totals = _totals_of(reported)
    if totals is None:
        return None
    input_tokens, output_tokens = totals
    prompt = _part(reported, "prompt_tokens_details", "prompt_token_details")
    completion = _part(reported, "completion_tokens_details")
    beside_tokens = _count(reported, "total_tokens") - input_tokens - output_tokens
    cached_tokens, reasoning_tokens = _count(prompt, "cached_tokens"), _count(completion, "reasoning_tokens")
    written_tokens = citation_tokens = 0
    searches: dict[str, Decimal] = {}
    if not reported.keys() <= _OPENAIS or "web_search_requests" in prompt:
        cached_tokens = (
            cached_tokens
            or _count(reported, "prompt_cache_hit_tokens")
            or _count(reported, "cached_tokens")
            or _count(reported, "num_cached_tokens")
        )
        reasoning_tokens = reasoning_tokens or _count(reported, "reasoning_tokens")
        written_tokens = _count(reported, "cache_creation_input_tokens")
        citation_tokens = _count(reported, "citation_tokens")
        searches = _searches(reported, prompt)
    is_beside = beside_tokens == reasoning_tokens or reasoning_tokens > output_tokens or "citation_tokens" in reported
    written_tokens = written_tokens or _count(prompt, "cache_creation_tokens") or _count(prompt, "cache_write_tokens")
    if reasoning_tokens and is_beside:
        output_tokens += reasoning_tokens
    if cached_tokens > input_tokens:
        input_tokens += cached_tokens
    elif beside_tokens > 0 and not reasoning_tokens and not searches and "citation_tokens" not in reported:
        # The total says that the parts are not all. What the cache had to do with may stand beside the input; else it
        # is what the model thought: Google's models at addresses of OpenAI's format, and gateways before them.
        if not input_tokens or beside_tokens == cached_tokens + written_tokens:
            input_tokens += beside_tokens
        elif not cached_tokens and not written_tokens:
            output_tokens += beside_tokens
            reasoning_tokens = beside_tokens
    audio_tokens = _count(prompt, "audio_tokens")
    cached_audio = 0
    if audio_tokens:
        told = _count(_part(prompt, "cached_tokens_details"), "audio_tokens")
        cached_audio = _in_both(told, audio_tokens, cached_tokens, input_tokens)
    return Usage(
        input_tokens=input_tokens + citation_tokens,
        cached_input_tokens=cached_tokens,
        cache_write_tokens=written_tokens,
        cache_write_1h_tokens=_living_an_hour(written_tokens, _lifetimes(prompt)) if written_tokens else 0,
        audio_input_tokens=audio_tokens - cached_audio,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning_tokens,
        audio_output_tokens=_count(completion, "audio_tokens"),
        quantities=searches | _images(completion, output_tokens) | _cached_sound(cached_audio),
    )


def _in_chats_words(reported: Mapping[str, Any]) -> Mapping[str, Any]:
    """The report in the words of chat. Some servers count a chat in the words of Responses or of Messages."""
    if any(reported.get(name) is not None for name in _TOTALS) or (
        reported.get("input_tokens") is None and reported.get("output_tokens") is None
    ):
        return reported
    told = {
        "prompt_tokens": reported.get("input_tokens"),
        "completion_tokens": reported.get("output_tokens"),
        "prompt_tokens_details": reported.get("input_tokens_details"),
        "completion_tokens_details": reported.get("output_tokens_details"),
    }
    if not _WORDS_OF_MESSAGES.isdisjoint(reported) and (counted := usage_of_messages(reported)) is not None:
        told["prompt_tokens"] = counted.input_tokens  # what was read from the cache and written to it stands beside
        told["prompt_tokens_details"] = {
            "cached_tokens": counted.cached_input_tokens,
            "cache_creation_tokens": counted.cache_write_tokens,
            "cache_creation_token_details": {"ephemeral_1h_input_tokens": counted.cache_write_1h_tokens},
        }
    return {**reported, **{name: value for name, value in told.items() if value is not None}}


def _totals_of(reported: Mapping[str, Any]) -> tuple[int, int] | None:
    """What went in and what came out; None when neither was reported, or when one is absurd.

    What of the two is missing is what the total has beside the other."""
    given = reported.get("prompt_tokens"), reported.get("completion_tokens")
    if given == (None, None):
        return None
    input_tokens, output_tokens = _number(given[0]), _number(given[1])
    if input_tokens is None or output_tokens is None:
        _refuse(reported, _TOTALS)
        return None
    if None in given:
        beside = max(0, _count(reported, "total_tokens") - input_tokens - output_tokens)
        return (beside, output_tokens) if given[0] is None else (input_tokens, beside)
    return input_tokens, output_tokens


def usage_of_input(reported: object) -> Usage | None:
    """A `usage` object of embeddings or moderations, which have no output: all of the total is input, and some servers
    count the total alone. None when nothing was reported, or when it is absurd."""
    if isinstance(reported, Mapping):
        tokens = max(_count(reported, "prompt_tokens"), _count(reported, "total_tokens"))
        reported = {**reported, "prompt_tokens": tokens, "total_tokens": tokens} if tokens else reported
    return usage_of(reported)


def usage_of_messages(reported: object) -> Usage | None:
    """A `usage` object of Anthropic's → Usage; None when nothing was reported, or when it is absurd.

    Anthropic reports what was read from its cache and what was written into it beside `input_tokens`. What it read and
    wrote to summarise a long conversation is in `iterations` alone, which have all that is billed.
    https://docs.anthropic.com/en/api/messages#response-usage ·
    https://platform.claude.com/docs/en/build-with-claude/compaction#understanding-usage"""
    if not isinstance(reported, Mapping) or (
        reported.get("input_tokens") is None and reported.get("output_tokens") is None
    ):
        return None
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    counts = [_number(reported.get(name)) for name in names]
    if None in counts:
        _refuse(reported, names)
        return None
    each = reported.get("iterations")
    rounds = [one for one in each if isinstance(one, Mapping)] if isinstance(each, list) else []
    plain, cached, written, output = (
        max(count or 0, sum(_count(one, name) for one in rounds)) for count, name in zip(counts, names, strict=True)
    )
    lifetimes = [_part(one, "cache_creation") for one in (reported, *rounds)]
    return Usage(
        input_tokens=plain + cached + written,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=_living_an_hour(written, *lifetimes),
        output_tokens=output,
        quantities=_searches(reported, {}),
    )


def _lifetimes(prompt: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the cache writes of a prompt, in Anthropic's words. OpenAI's are half an hour and twelve hours."""
    openais = _part(prompt, "cache_write_tokens_details")
    if not openais:
        return _part(prompt, "cache_creation_token_details")
    names = {"ephemeral_5m_input_tokens": "ttl_30m_tokens", "ephemeral_1h_input_tokens": "ttl_12h_tokens"}
    return {ours: openais.get(theirs) for ours, theirs in names.items()}


def _living_an_hour(written: int, lifetimes: Mapping[str, Any], *of_rounds: Mapping[str, Any]) -> int:
    """Of what was written into the cache, what lives an hour or longer: as the whole says, or its rounds.

    A stream says the lifetimes at its beginning, and at its end how much was written in all. What the rounds of a
    server's tool have written in between is in neither lifetime: it is billed as the dearer of those that were used."""
    if not written:
        return 0
    short, hour = (
        max(_count(lifetimes, name), sum(_count(one, name) for one in of_rounds))
        for name in ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    )
    if hour and "ephemeral_5m_input_tokens" in lifetimes:
        hour = max(hour, written - short)
    return min(hour, written)


def _in_both(told: int, audio: int, cached: int, whole: int) -> int:
    """The sound that was read from the cache. What two parts have beyond their whole is in both, told or not."""
    return min(max(told, audio + cached - whole), audio, cached)


def usage_of_response(response: object, asked: Mapping[str, Any]) -> Usage | None:
    """The count of a response of OpenAI's, with the uses of the provider's own tools; None when nothing was reported,
    or when it is absurd. ``asked``: the request, which says the size of a search's context.

    https://platform.openai.com/docs/api-reference/responses/object#responses-object-usage ·
    https://platform.openai.com/docs/pricing#built-in-tools"""
    reported = response.get("usage") if isinstance(response, Mapping) else None
    if not isinstance(response, Mapping) or not isinstance(reported, Mapping):
        return None
    counted = usage_of(
        {
            "prompt_tokens": reported.get("input_tokens"),
            "completion_tokens": reported.get("output_tokens"),
            "total_tokens": reported.get("total_tokens"),
            "prompt_tokens_details": reported.get("input_tokens_details"),
            "completion_tokens_details": reported.get("output_tokens_details"),
        }
    )
    if counted is None:
        return None
    items = response.get("output")
    return replace(counted, quantities={**counted.quantities, **_tools_of(items, asked)})


def _tools_of(items: Any, asked: Mapping[str, Any]) -> dict[str, Decimal]:
    """What the provider's own tools did that has a fee. Of the actions of a search, only a search has one; of the
    interpreter, each container."""
    searches = files = pictures = 0
    containers = set()
    for item in items if isinstance(items, list) else ():
        match item.get("type") if isinstance(item, Mapping) else None:
            case "web_search_call":
                action = item.get("action")
                searches += not isinstance(action, Mapping) or action.get("type") in (None, "search")
            case "file_search_call":
                files += 1
            case "image_generation_call":
                pictures += 1
            case "code_interpreter_call" | "shell_call":
                containers.add(str(item.get("container_id") or _part(item, "environment").get("container_id")))
    kinds = (search_of(tool) for tool in asked.get("tools") or ())
    found = {
        quantity_name(Meter.SEARCH, next(filter(None, kinds), "")): searches,
        quantity_name(Meter.TOOL_CALL, "file_search"): files,
        quantity_name(Meter.TOOL_CALL, "image_generation"): pictures,
        quantity_name(Meter.TOOL_CALL, "code_interpreter"): len(containers - {"None"}),
    }
    return {name: Decimal(count) for name, count in found.items() if count}


def usage_of_contents(answer: Mapping[str, Any]) -> Usage | None:
    """An answer of Gemini's, of which the count and what was searched for are read → Usage; None when nothing was
    reported, or when it is absurd.

    Thoughts are counted beside the answer, unless the total says otherwise. What a search of Google's found is not
    billed, and what other tools of Google's read is.
    https://ai.google.dev/api/generate-content#UsageMetadata"""
    reported = answer.get("usageMetadata")
    if not isinstance(reported, Mapping) or not reported:
        return None
    names = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
    counts = [_number(reported.get(name)) for name in names]
    if None in counts:
        _refuse(reported, names)
        return None
    asked, said, thought, read = (count or 0 for count in counts)
    if counts[1] == 0 and reported.get("candidatesTokenCount") is None:  # a total of the rest says what it was
        said = max(0, _count(reported, "totalTokenCount") - asked - read - thought)
    output_tokens = said if asked + said + read == _count(reported, "totalTokenCount") else said + thought
    searched = _queries(answer)
    input_tokens = asked if searched else asked + read
    images = min(_of_modality(reported.get("candidatesTokensDetails"), "IMAGE"), output_tokens)
    cached = min(_count(reported, "cachedContentTokenCount"), input_tokens)
    audio = min(_of_modality(reported.get("promptTokensDetails"), "AUDIO"), input_tokens)
    cached_audio = _in_both(_of_modality(reported.get("cacheTokensDetails"), "AUDIO"), audio, cached, input_tokens)
    return Usage(
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        audio_input_tokens=audio - cached_audio,
        output_tokens=output_tokens,
        reasoning_tokens=min(thought, output_tokens),
        audio_output_tokens=min(_of_modality(reported.get("candidatesTokensDetails"), "AUDIO"), output_tokens),
        quantities=({quantity_name(Meter.SEARCH): Decimal(len(searched))} if searched else {})
        | ({quantity_name(Meter.IMAGE_OUTPUT): Decimal(images)} if images else {})
        | _cached_sound(cached_audio),
    )


def _of_modality(details: object, modality: str) -> int:
    """The tokens of one modality in a list of such counts."""
    parts = [part for part in details if isinstance(part, Mapping)] if isinstance(details, list) else []
    return sum(_count(part, "tokenCount") for part in parts if part.get("modality") == modality)


def _queries(answer: Mapping[str, Any]) -> set[str]:
    """What Google was asked to search for, each query once."""
    candidates = answer.get("candidates")
    found: set[str] = set()
    for candidate in candidates if isinstance(candidates, list) else ():
        queries = (
            _part(candidate, "groundingMetadata").get("webSearchQueries") if isinstance(candidate, Mapping) else None
        )
        found |= (
            {query for query in queries if isinstance(query, str) and query} if isinstance(queries, list) else set()
        )
    return found


def usage_of_pictures(reported: object) -> Usage | None:
    """A `usage` object of OpenAI's pictures → Usage; None when no tokens were reported, or when they are absurd.

    Without details all output is pictures. Gemini's thoughts are in the total alone.
    https://platform.openai.com/docs/api-reference/images/object"""
    if not isinstance(reported, Mapping):
        return None
    names = ("input_tokens", "output_tokens", "total_tokens")
    counts = [_number(reported.get(name)) for name in names]
    if None in counts:
        _refuse(reported, names)
        return None
    input_tokens, output_tokens, total = (count or 0 for count in counts)
    output_tokens = max(output_tokens, total - input_tokens)
    if not input_tokens and not output_tokens:
        return None
    given, made = _part(reported, "input_tokens_details"), _part(reported, "output_tokens_details")
    looked_at = min(_count(given, "image_tokens"), input_tokens)
    pictures = min(_count(made, "image_tokens") if made else _count(reported, "output_tokens"), output_tokens)
    counted = {Meter.IMAGE_INPUT: looked_at, Meter.IMAGE_OUTPUT: pictures}
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=min(_count(given, "cached_tokens"), input_tokens),
        quantities={quantity_name(meter): Decimal(count) for meter, count in counted.items() if count},
    )


def _images(completion: Mapping[str, Any], output_tokens: int) -> dict[str, Decimal]:
    """The tokens of the pictures that a model has made, which may have a price of their own."""
    count = min(_count(completion, "image_tokens"), output_tokens)
    return {quantity_name(Meter.IMAGE_OUTPUT): Decimal(count)} if count else {}


def _cached_sound(tokens: int) -> dict[str, Decimal]:
    """The tokens of sound that were read from the cache: a part of what was, with a price of its own."""
    return {quantity_name(Meter.CACHED_AUDIO_INPUT): Decimal(tokens)} if tokens else {}


def _searches(reported: Mapping[str, Any], prompt: Mapping[str, Any]) -> dict[str, Decimal]:
    """The searches in the web that the provider has counted: Anthropic's `server_tool_use`, what litellm counts for
    Gemini, Perplexity's `num_search_queries`. Perplexity says the size of its search as well, or alone."""
    count = (
        _count(_part(reported, "server_tool_use"), "web_search_requests")
        or _count(prompt, "web_search_requests")
        or _count(reported, "num_search_queries")
    )
    size = reported.get("search_context_size")
    if size in ("low", "medium", "high"):
        return {quantity_name(Meter.SEARCH, size): Decimal(count or 1)}
    return {quantity_name(Meter.SEARCH): Decimal(count)} if count else {}


def reported_in(body: Mapping[str, Any]) -> object:
    """The usage of an answer or a chunk, wherever the provider puts it.

    Groq's streams have it in `x_groq`, Moonshot's in the last choice."""
    usage = body.get("usage")
    if usage is not None:
        return usage
    groq = body.get("x_groq")
    if isinstance(groq, Mapping) and groq.get("usage") is not None:
        return groq["usage"]
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, Mapping) and choice.get("usage") is not None:
            return choice["usage"]
    return None


def together(former: object, reported: object) -> object:
    """Two reports of one stream as one. The later report counts.

    Where the later report has a zero and the earlier report has a count, the count stays: providers write a zero for
    what they have not counted."""
    if not isinstance(former, Mapping) or not isinstance(reported, Mapping):
        return reported if isinstance(reported, Mapping) else former
    merged = dict(reported)
    for name, value in former.items():
        if name in _DETAILS:
            merged[name] = together(value, reported.get(name))
        elif _number(value) and not _number(reported.get(name)):
            merged[name] = value
    return merged


def conforming_usage(reported: object) -> dict[str, Any] | None:
    """The report with whole numbers as totals, as OpenAI's schema requires; None when the totals cannot be read."""
    if not isinstance(reported, dict):
        return None
    reported = _in_chats_words(reported)
    read = _totals_of(reported)
    if read is None:
        return None
    prompt_tokens, completion_tokens = read
    total_tokens = _number(reported.get("total_tokens")) or prompt_tokens + completion_tokens
    totals: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": total_tokens,
    }
    for name in _DETAILS:
        details = reported.get(name)
        if isinstance(details, Mapping) and not _WRITTEN_TYPES.isdisjoint(map(type, details.values())):
            totals[name] = {n: _number(v) if type(v) in _WRITTEN_TYPES else v for n, v in details.items()}
    return {**reported, **totals}


def _refuse(reported: Mapping[str, Any], names: Iterable[str]) -> None:
    facts.usage_refused({name: _shown(reported.get(name)) for name in names})


def _part(of: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        value = of.get(name)
        if type(value) is dict or isinstance(value, Mapping):  # the latter alone takes ten times as long
            return value
    return {}


def _count(of: Mapping[str, Any], name: str) -> int:
    """The count of a part. A value that cannot be read counts as 0."""
    value = of.get(name)
    if value is None:
        return 0
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else _number(value) or 0


def _shown(value: object) -> str:
    """What the log may have of a count. A text may be anything, our key too."""
    return repr(value)[:40] if value is None or isinstance(value, int | float) else f"a {type(value).__name__}"


def counted_tokens(value: object) -> int:
    """A count that stands alone; 0 when it cannot be read."""
    return _number(value) or 0


def _number(value: object) -> int | None:
    """A number of tokens, also from text or from a whole float. A missing value is 0, an absurd value is None."""
    if value is None:
        return 0
    if type(value) is int:
        return value if 0 <= value <= MAX_TOKENS else None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float) and isfinite(value) and value.is_integer() and 0 <= value <= MAX_TOKENS:
        return int(value)
    return None
