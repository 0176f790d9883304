"""What a provider could bill at most for the body that it is sent. Small, and apart from the gateway's own counting.

It reads the body as the provider reads it: files by what they are, whatever they are called; the output cap under the
names that this provider reads; tools and parameters that have a price. What it does not know it bills without end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.media import encoded, mp3, pdf, png, wav

ENDLESS = math.inf

#: Files, and the tokens that providers have been seen to bill for them. Sound is billed at a rate of its own.
FLAC = b"fLaC\0\0\0\x22" + b"\0" * 300
FILM = b"\0\0\0\x18ftypmp42" + b"\0" * 300
TEXT = b"a word and another. " * 500
FILES: dict[str, tuple[bytes, int]] = {
    "picture": (png(), 1_600),
    "banner": (png(9_000, 90), 2 * 150 * 258),
    "text": (TEXT, len(TEXT)),
    "wav": (wav(9, rate=1_000, bits=8), 9 * 32),
    "mp3": (mp3(8_340), 32),
    "flac": (FLAC, 9 * 3_600 * 32),
    "film": (FILM, 3_600 * 300),
    "pdf": (pdf(7), 7 * 4_600),
    "packed pdf": (pdf(40, packed=True), 40 * 4_600),
}
_TOKENS = {encoded(data): tokens for data, tokens in FILES.values()}
_GEMINI_PAGES = {encoded(data): 258 for name, (data, _) in FILES.items() if "pdf" in name}

#: Who reads the cap under its older name alone.
_DEAF = {"deepseek", "hosted_vllm", "mistral", "ollama"}
#: What changes the price or the model, or lets the model go on beyond the cap.
_PAID = {
    "models", "plugins", "provider", "search_parameters", "best_of", "n_predict", "cached_content", "cachedContent",
    "mcp_servers", "container", "speed", "chat_template", "web_search_options", "a_parameter_of_tomorrow", "fallbacks",
}  # fmt: skip
_TOKENS_OF_A_SEARCH = 15_000
#: Tools that the client runs and Anthropic describes, and the most that it documents for a description.
_DESCRIBED = ("bash_", "computer_", "memory_", "text_editor_")
_TOKENS_OF_A_DESCRIPTION = 735


@dataclass(frozen=True)
class Rates:
    """USD a million tokens, and a search."""

    input: float = 3
    cache_write: float = 3.75
    audio: float = 3
    output: float = 15
    picture: float = 15  # made
    search: float = 0.01
    priority: float = 2  # times as dear


def most_usd(provider: str, body: Mapping[str, Any], rates: Rates) -> float:
    if provider == "gemini":
        read, said, fees, tier = _gemini(body, rates)
    elif provider == "anthropic":
        read, said, fees, tier = _anthropic(body, rates)
    else:
        read, said, fees, tier = _openai(provider, body, rates)
    factor = 1.0 if tier in (None, "default", "flex", "on_demand", "standard", "scale") else rates.priority
    return (read + said) * factor / 1e6 + fees


def _read_usd(body: Mapping[str, Any], rates: Rates, *, pages: Mapping[str, int] = {}) -> float:
    """Of all that a model may read in it, a token a byte, times a million."""
    total = 0.0
    dear = any(name == "cache_control" for name in _names(body))
    for text in _texts(body):
        found = next((file for file in _TOKENS if text.endswith(file)), None)
        if found is None:
            total += len(text.encode("utf-8", "surrogatepass")) * (rates.cache_write if dear else rates.input)
        else:
            total += pages.get(found, _TOKENS[found]) * max(rates.audio, rates.cache_write)
    return total


def _openai(provider: str, body: Mapping[str, Any], rates: Rates) -> tuple[float, float, float, Any]:
    fees = ENDLESS if body.keys() & _PAID else 0.0
    for tool in body.get("tools") or ():
        fees += (
            0 if isinstance(tool, dict) and tool.get("type") in ("function", None) and "function" in tool else ENDLESS
        )
    fees += sum(0 if "name" in function else ENDLESS for function in body.get("functions") or ())
    names = ("max_tokens",) if provider in _DEAF else ("max_completion_tokens", "max_tokens")
    cap = next((body[name] for name in names if body.get(name) is not None), ENDLESS)
    made = rates.picture if set(body.get("modalities") or ()) - {"text"} else rates.output
    prediction = body.get("prediction")
    beyond = sum(len(text.encode()) for text in _texts(prediction)) if prediction else 0
    seen = {
        name: value for name, value in body.items() if name not in ("metadata", "user", "model", "prediction", "stop")
    }
    said = (cap + beyond) * (body.get("n") or 1) * made
    return (
        _read_usd(seen, rates),
        said,
        fees,
        body.get("service_tier") if provider in ("openai", "groq", "openrouter") else None,
    )


#: What the models of these tests read at the most, as OpenAI documents.
WINDOWS: dict[str, int] = {"gpt-5": 272_000, "gpt-4o": 128_000}
_TOKENS_OF_AN_ORIGINAL = 12_000


def most_usd_of_responses(model: str, body: Mapping[str, Any], rates: Rates) -> float:
    """The same for a body of OpenAI's Responses that goes out as it came."""
    fees = ENDLESS if body.keys() & (_PAID | {"context_management", "moderation", "conversation", "prompt"}) else 0.0
    fees += ENDLESS if (body.get("reasoning") or {}).get("mode") not in (None, "standard") else 0.0
    readings, described = 1, 0
    for tool in body.get("tools") or ():
        kind = str(tool.get("type"))
        if kind in ("function", "custom", "namespace"):
            fees += 0 if "name" in tool and "googleSearch" not in tool else ENDLESS
            continue
        described += _TOKENS_OF_A_DESCRIPTION
        if kind in ("local_shell", "apply_patch", "computer_use_preview"):
            continue
        uses = body.get("max_tool_calls", ENDLESS)
        readings = 1 + uses
        fees += uses * rates.search if kind.startswith("web_search") else 0 if kind == "mcp" else ENDLESS
    read: float = _read_usd({n: v for n, v in body.items() if n not in ("metadata", "model", "user")}, rates)
    read += (described + 500) * rates.input if body.get("tools") else 0
    for part in _dicts(body.get("input")):
        if part.get("type") in ("input_image", "computer_screenshot") and not str(part.get("image_url")).startswith(
            "data:"
        ):
            tokens = _TOKENS_OF_AN_ORIGINAL if part.get("detail") == "original" else 1_600
            read += tokens * rates.input  # behind a URL or an id
        if part.get("type") == "input_file" and (part.get("file_id") or part.get("file_url")):
            fees = ENDLESS
    window = WINDOWS[model] * max(rates.audio, rates.cache_write)
    if body.get("previous_response_id"):
        read = max(read, window)
    if readings > 1:
        found = sum(_TOKENS_OF_A_SEARCH * place for place in range(int(min(readings, 10_000)))) * rates.input
        read = min(read * readings + found, read + (readings - 1) * max(window, read))
    cap: float = body.get("max_output_tokens", ENDLESS)
    factor = 1.0 if body.get("service_tier") in (None, "default", "flex", "scale") else rates.priority
    return (read + cap * rates.output) * factor / 1e6 + fees


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            yield from _dicts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _dicts(inner)


def _anthropic(body: Mapping[str, Any], rates: Rates) -> tuple[float, float, float, Any]:
    fees = ENDLESS if body.keys() & (_PAID - {"a_parameter_of_tomorrow"}) else 0.0
    readings, found, described = 1, 0, 0
    for tool in body.get("tools") or ():
        kind = tool.get("type")
        if isinstance(kind, str) and kind.startswith("web_search_"):
            uses = tool.get("max_uses", ENDLESS)
            fees += uses * rates.search
            readings, found = readings + uses, found + _TOKENS_OF_A_SEARCH * uses * (uses + 1) // 2
        elif isinstance(kind, str) and kind.startswith(_DESCRIBED):
            described += _TOKENS_OF_A_DESCRIPTION
        elif kind not in (None, "custom"):
            fees = ENDLESS
    read = _read_usd({n: v for n, v in body.items() if n not in ("metadata", "model", "stop_sequences")}, rates)
    read += (described + 500) * rates.input if body.get("tools") else 0
    return read * readings + found * rates.input, body["max_tokens"] * rates.output, fees, None


def _gemini(body: Mapping[str, Any], rates: Rates) -> tuple[float, float, float, Any]:
    unbounded = _PAID | {"fieldOfTomorrow", "fileData", "imageConfig", "partOfTomorrow", "settingOfTomorrow"}
    fees = ENDLESS if unbounded.intersection(_names(body)) else 0.0
    for tool in body.get("tools") or ():
        for name in tool:
            if name in ("googleSearch", "google_search"):
                fees += rates.search
            elif name not in ("function_declarations", "functionDeclarations"):
                fees = ENDLESS
    config = body.get("generationConfig") or {}
    cap = config.get("max_output_tokens", config.get("maxOutputTokens", ENDLESS))
    modalities = {str(modality).lower() for modality in config.get("responseModalities") or ()}
    made = rates.picture if modalities - {"text"} else rates.output
    answers = config.get("candidate_count", config.get("candidateCount")) or 1
    seen = {name: value for name, value in body.items() if name not in ("labels", "generationConfig")}
    schema = config.get("response_schema", config.get("responseSchema", config.get("responseJsonSchema")))
    read = _read_usd({**seen, "schema": schema}, rates, pages=_GEMINI_PAGES)
    return read, cap * answers * made, fees, body.get("serviceTier", body.get("service_tier"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)
