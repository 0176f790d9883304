"""The model that the simulator pretends to run: the same prompt always gets the same answer.

Without a script it echoes the user's last message, calls the tools that the user names after the word
"call" (`call get_weather with {"city": "Paris"}`), reports what a tool answered, fills a JSON schema,
thinks when asked to, continues a prefilled answer, and obeys stop sequences and the token limit."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
from dataclasses import dataclass

from tests.simulator.behaviour import Behaviour, Finish, ToolCall, Usage
from tests.simulator.prompt import CacheMark, Prompt, count, pieces
from tests.simulator.schema import instance_of

_FILLER = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and"]
_ids = itertools.count(1)


def fresh_id(prefix: str, length: int = 24) -> str:
    """An id like the providers', unique in this process."""
    return f"{prefix}{next(_ids):0{length}d}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the `n` answers. `tokens` are the text's pieces, one stream event each."""

    tokens: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...]
    finish: Finish
    stop_sequence: str | None = None
    end: str | None = None  # the provider's own word, instead of its word for `finish`

    @property
    def text(self) -> str:
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class Answer:
    """`reasoning` is the text of the thoughts, `reasoning_scripted` says that a behaviour asked for it;
    `usage` is None when the provider does not report it."""

    reasoning: tuple[str, ...]
    reasoning_scripted: bool
    choices: tuple[Choice, ...]
    usage: Usage | None
    service_tier: str | None = None


class PromptCache:
    """Of one deployment and one key. Prefixes that clients marked for caching: written the first time, read afterwards;
    and those that a provider keeps unasked, whose writing it does not bill."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def use(self, marks: tuple[CacheMark, ...]) -> Usage:
        """The cached and written tokens for marks in the order of the prompt, each a longer prefix."""
        with self._lock:
            read = max((mark.tokens for mark in marks if mark.fingerprint in self._seen), default=0)
            written = {"5m": 0, "1h": 0}
            until = read
            for mark in marks:
                if mark.tokens > until and mark.ttl:
                    written[mark.ttl] += mark.tokens - until
                    until = mark.tokens
                self._seen.add(mark.fingerprint)
        return Usage(cached_tokens=read, cache_write_5m_tokens=written["5m"], cache_write_1h_tokens=written["1h"])


def answer(prompt: Prompt, behaviour: Behaviour, cache: PromptCache) -> Answer:
    """What the model says to the prompt, under the behaviour's script."""
    room = prompt.max_tokens
    reasoning = _reasoning(prompt, behaviour)
    if room is not None:
        reasoning = reasoning[:room]
        room -= len(reasoning)
    choices = tuple(_choice(prompt, behaviour, index, room) for index in range(prompt.answers))
    usage = None
    if behaviour.report_usage:
        usage = behaviour.usage or _counted(prompt, reasoning, choices, cache)
    return Answer(reasoning, behaviour.reasoning is not None, choices, usage, behaviour.service_tier)


def _reasoning(prompt: Prompt, behaviour: Behaviour) -> tuple[str, ...]:
    if behaviour.reasoning is not None:
        return pieces(behaviour.reasoning)
    if prompt.reasons:
        return pieces(f"The user wrote {len(prompt.user_text)} characters. I will answer plainly.")
    return ()


def _choice(prompt: Prompt, behaviour: Behaviour, index: int, room: int | None) -> Choice:
    calls = _tool_calls(prompt, behaviour)
    tokens = _tokens(prompt, behaviour, index, calls)
    finish: Finish = "tool_calls" if calls else "stop"

    stop_sequence = None
    text = "".join(tokens)
    hits = [(text.find(stop), stop) for stop in prompt.stop if stop and stop in text]
    if hits:
        at, stop_sequence = min(hits)
        tokens, calls, finish = pieces(text[:at]), (), "stop"

    if room is not None and room < len(tokens):
        tokens, calls, finish, stop_sequence = tokens[:room], (), "length", None
    elif room is not None:
        room -= len(tokens)
        kept: list[ToolCall] = []
        for call in calls:
            parts = pieces(call.arguments)
            if len(parts) > room:
                kept.append(ToolCall(call.name, "".join(parts[:room]), call.id))
                finish = "length"
                break
            room -= len(parts)
            kept.append(call)
        calls = tuple(kept)
    return Choice(tokens, calls, behaviour.finish or finish, stop_sequence, behaviour.end)


def _tokens(prompt: Prompt, behaviour: Behaviour, index: int, calls: tuple[ToolCall, ...]) -> tuple[str, ...]:
    if behaviour.tokens is not None:
        return behaviour.tokens
    if isinstance(behaviour.length, int):
        words = itertools.islice(itertools.cycle(_FILLER), behaviour.length)
        return tuple(word if i == 0 else f" {word}" for i, word in enumerate(words))
    if behaviour.text is not None:
        text = behaviour.text
    elif calls:
        return ()
    elif prompt.json_schema is not None:
        text = json.dumps(instance_of(prompt.json_schema), ensure_ascii=False)
    elif prompt.tool_result is not None:
        text = f"The tool answered: {prompt.tool_result}"
    else:
        pictures = f" (with {prompt.images} image{'s' * (prompt.images > 1)})" if prompt.images else ""
        text = f"You said: {prompt.user_text}{pictures}"
    if index:
        text = f"{text} [{index + 1}]"
    # A model that is given the beginning of its answer goes on from there.
    if prompt.prefill and text.startswith(prompt.prefill):
        text = text[len(prompt.prefill) :]
    return pieces(text)


def _tool_calls(prompt: Prompt, behaviour: Behaviour) -> tuple[ToolCall, ...]:
    if behaviour.tool_calls:
        return tuple(ToolCall(call.name, call.arguments, call.id or fresh_id("")) for call in behaviour.tool_calls)
    scripted = behaviour.text is not None or behaviour.tokens is not None or behaviour.length is not None
    if scripted or not prompt.tools or not prompt.tools_allowed:
        return ()
    if prompt.forced_tool is not None:
        wanted = [tool for tool in prompt.tools if tool.name == prompt.forced_tool] or [prompt.tools[0]]
    elif prompt.tool_result is None and (asked := re.search(r"\bcall\b(.*)", prompt.user_text, re.DOTALL)):
        named = {
            tool.name: match.start()
            for tool in prompt.tools
            if (match := re.search(rf"\b{re.escape(tool.name)}\b", asked[1]))
        }
        wanted = sorted((t for t in prompt.tools if t.name in named), key=lambda tool: named[tool.name])
    else:
        return ()
    if not prompt.parallel_tools:
        wanted = wanted[:1]
    given = re.search(r"\{.*\}", prompt.user_text, re.DOTALL)
    calls = []
    for tool in wanted:
        arguments = json.dumps(instance_of(tool.parameters), ensure_ascii=False)
        if given and len(wanted) == 1:
            with contextlib.suppress(ValueError):  # the braces in the message may not be arguments
                arguments = json.dumps(json.loads(given[0]), ensure_ascii=False)
        calls.append(ToolCall(tool.name, arguments, fresh_id("")))
    return tuple(calls)


def _counted(prompt: Prompt, reasoning: tuple[str, ...], choices: tuple[Choice, ...], cache: PromptCache) -> Usage:
    cached = cache.use(prompt.cache_marks)
    output = len(reasoning) + sum(
        len(choice.tokens) + sum(count(call.arguments) for call in choice.tool_calls) for choice in choices
    )
    return Usage(
        input_tokens=prompt.input_tokens,
        output_tokens=output,
        cached_tokens=cached.cached_tokens,
        cache_write_5m_tokens=cached.cache_write_5m_tokens,
        cache_write_1h_tokens=cached.cache_write_1h_tokens,
        image_input_tokens=prompt.image_tokens,
        reasoning_tokens=len(reasoning),
    )
