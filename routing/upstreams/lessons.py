"""What a server of OpenAI's format says that it does not take, and what the next request to it does instead.

A server that refuses a request has done nothing yet and billed nothing. Where the request can do without what is
refused, or can say it otherwise, it is asked once more (`relay`), and the client is told (`dialects`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from accounting import facts
from accounting.record import record
from routing.upstreams.base import Deployment, Json
from routing.upstreams.errors import said
from routing.upstreams.mends.parameters import EFFORTS, nearest_effort
from routing.upstreams.provider_json import loads
from routing.upstreams.providers import CAPS, MESSAGE_FIELDS, OPTIONAL_PARAMETERS
from routing.upstreams.turns import Manner

#: Parameters that the gateway adds by itself, for its books and its hold.
_OURS: Final = CAPS | {"stream_options"}
#: How much of a refusal is read.
_READ_BYTES: Final = 16_384
#: A shorter answer than this is not worth having: the prompt is too long for the model.
_LEAST_ROOM: Final = 1024

_UNKNOWN_NAME: Final = re.compile(
    r"(?:unknown|unsupported|unexpected|unrecogni[sz]ed|extra|additional)[_ ](?:request )?"
    r"(?:parameter|argument|field|key|input|propert|forbidden)",
    re.IGNORECASE,
)
#: Words that say that this model does not take a parameter, or not with this value.
_UNFIT: Final = re.compile(
    r"unsupported|not (?:be )?(?:supported?|permitted|allowed|enabled)|does ?n[o']t support|only \S+ is allowed|"
    r"only allowed (?:when|if|with)|must be (?:one of|unset|less|between)|input should be|unknown variant|"
    r"too long|cannot specify both|invalid (?:value|temperature)",
    re.IGNORECASE,
)
#: In front of the values that a server takes instead: OpenAI's and xAI's words, Groq's, pydantic's, serde's.
_VALUES: Final = re.compile(
    r"(?:supported values are|must be one of|input should be|expected one of|expected)\b([^.;\n]{0,160})", re.IGNORECASE
)
#: How a refusal begins that is about the cap: with a server's own words, and not with an echo of a client's, because
#: all clients are asked for less from then on.
_OF_THE_CAP: Final = re.compile(
    r"(?:<\d{3}> )?(?:Error from provider \([\w ]+\): )?(?:[\w.]+: )?(?:Invalid |The parameter |Range of )?[`'\"]?"
    r"max_(?:completion_|new_)?tokens\b",
    re.IGNORECASE,
)
_OWN_CHARACTERS: Final = 300
#: The most that a model writes, as servers name it when they are asked for more.
_MOST_OUTPUT: Final = (
    # https://github.com/opencode-ai/opencode/issues/140
    re.compile(r"too large.{0,120}supports at most (\d+) (?:completion|output)", re.IGNORECASE | re.DOTALL),
    # https://github.com/Gitlawb/openclaude/issues/35 (DeepSeek), https://help.aliyun.com/en/model-studio/error-code
    re.compile(
        r"max_(?:completion_|new_)?tokens.{0,60}(?:range|between).{0,40}\[?\d+(?:, ?| and )(\d+)", re.IGNORECASE
    ),
    re.compile(r"range of max_(?:completion_)?tokens should be \[\d+, ?(\d+)", re.IGNORECASE),
    # https://console.groq.com/docs/errors, https://github.com/Gitlawb/openclaude/issues/331 (Volcengine)
    re.compile(
        r"max_(?:completion_|new_)?tokens\S?.{0,80}(?:less than or equal to|expected a value <=|at most|<=) [`']?(\d+)",
        re.IGNORECASE | re.DOTALL,
    ),
)
#: How much room a server says that it has for prompt and answer, and how long the prompt is.
_ROOM: Final = (
    # https://github.com/claude-code-best/claude-code/issues/272 (vLLM)
    re.compile(r"too large.{0,60}context length is (\d+) tokens and your request has (\d+) input", re.DOTALL),
    re.compile(r"context length is (\d+) tokens.{0,80}requested \d+ tokens \((\d+) in the messages", re.DOTALL),
    re.compile(r"context length is (\d+) tokens.{0,200}prompt contains (?:at least )?(\d+) input tokens", re.DOTALL),
)
#: What servers say of the order in which they are told a conversation, and the manner to tell it.
_MANNERS: Final[tuple[tuple[Manner, re.Pattern[str]], ...]] = (
    # https://github.com/vllm-project/vllm/issues/41114
    ("system_first", re.compile(r"system (?:message|prompt|role)\S* (?:must|should|can only) (?:be|come|appear)")),
    # https://github.com/perplexityai/api-discussion/issues/265, https://github.com/vllm-project/vllm/issues/6862
    (
        "alternate",
        re.compile(r"roles? (?:must|should) (?:be )?alternat|should (?:be )?alternat|2 or more assistant messages"),
    ),
    # https://github.com/BerriAI/litellm/issues/6642
    (
        "texts",
        re.compile(
            r"invalid type: sequence, expected a string|content\S* must be a string"
            r"|content\W+input should be a valid string"
        ),
    ),
    # https://github.com/OpenHands/OpenHands/issues/7700
    ("pictures_by_user", re.compile(r"image urls? (?:is|are) only allowed for messages with role 'user'")),
    # https://github.com/livekit/agents/pull/3134
    ("loose", re.compile(r"mixed values for 'strict'|strict=true are not supported|'strict' is not supported")),
    # https://github.com/BerriAI/litellm/issues/17761
    ("bridge", re.compile(r"unexpected role '(?:user|system)' after role 'tool'")),
    # https://github.com/earendil-works/pi/issues/3636, https://github.com/continuedev/continue/issues/11600
    ("thought", re.compile(r"reasoning_content\b.{0,60}(?:passed back|is missing)", re.DOTALL)),
    # https://github.com/deepseek-ai/DeepSeek-V3/issues/1376, https://github.com/cloudwego/eino/issues/994
    ("free_choice", re.compile(r"thinking.{0,60}tool_choice|tool_choice.{0,80}thinking", re.DOTALL)),
    # https://github.com/QuantumNous/new-api/pull/1109
    ("no_thinking", re.compile(r"enable[_ ]thinking .{0,60}(?:non-streaming|stream=false)", re.DOTALL)),
    # https://platform.openai.com/docs/guides/structured-outputs#json-mode
    ("say_json", re.compile(r"must contain the word .{0,3}json", re.DOTALL)),
    # https://platform.openai.com/docs/guides/function-calling
    (
        "answer_calls",
        re.compile(
            r"must be followed by tool messages|must be a response to a prec\w+ message|"
            r"not the same number of function calls and responses|unexpected role 'tool' after",
            re.DOTALL,
        ),
    ),
)


@record(frozen=True, slots=True)
class Lesson:
    """What a request does otherwise than the client wrote it."""

    without: frozenset[str] = frozenset()  # parameters and fields of messages
    most_output: int | None = None  # tokens that the model writes at most
    room: int | None = None  # tokens that are left beside this prompt
    effort: str | None = None  # in the place of the reasoning effort, or of none
    manners: frozenset[Manner] = frozenset()  # of telling the conversation

    def also(self, other: Lesson) -> Lesson:
        """Both. The newer lesson is the other one."""
        return Lesson(
            self.without | other.without,
            self.most_output if other.most_output is None else other.most_output,
            self.room if other.room is None else other.room,
            other.effort or self.effort,
            self.manners | other.manners,
        )


NOTHING: Final = Lesson()

#: By address and model: what a deployment has taught this process.
_learnt: dict[tuple[str, str], Lesson] = {}
_MAX_LEARNT: Final = 10_000
#: Manners that belong to the model, and not to one client's request.
_LASTING: Final[frozenset[Manner]] = frozenset(
    {"system_first", "alternate", "bridge", "thought", "texts", "pictures_by_user"}
)


def known(deployment: Deployment, lesson: Lesson) -> Lesson:
    """The lesson with what the deployment has taught before."""
    before = _learnt.get(_key(deployment))
    return lesson if before is None else before.also(lesson)


def learn(deployment: Deployment, lesson: Lesson) -> None:
    """Remember that the deployment answered when it was asked so.

    What the gateway adds by itself is remembered, and what is a fact of the model: how much it writes, in which manner
    it is told a conversation. What clients send is not: one's value must not cost others their parameter."""
    lasting = Lesson(
        without=lesson.without if lesson.without <= _OURS else frozenset(),
        most_output=lesson.most_output,
        manners=lesson.manners & _LASTING,
    )
    if lasting == NOTHING:
        return
    if len(_learnt) >= _MAX_LEARNT:
        _learnt.clear()
    _learnt[_key(deployment)] = known(deployment, lasting)
    words = [*lasting.without, *lasting.manners]
    if lasting.most_output is not None:
        words.append(f"more than {lasting.most_output} tokens")
    facts.refusal_learnt(facts.RefusalLearnt(deployment.provider, deployment.model, sorted(words)))


def _key(deployment: Deployment) -> tuple[str, str]:
    return deployment.base_url or deployment.litellm_provider, deployment.model


def lesson_of(status: int, answer: bytes, body: Mapping[str, Any]) -> Lesson:
    """What the refusal teaches; `NOTHING` where the request cannot do without what is refused."""
    if status not in (400, 422):
        return NOTHING
    text = answer[:_READ_BYTES].decode("utf-8", "replace")
    if (less := _output(text, body)) is not None:
        return less
    if manners := _manners(text.lower(), body):
        return Lesson(manners=manners)
    if effort := _nearest_effort(text, body):
        return Lesson(effort=effort)
    return Lesson(without=_refused_words(text, answer, body))


# --- the output ---------------------------------------------------------------------------------------------------


def _output(text: str, body: Mapping[str, Any]) -> Lesson | None:
    """Fewer tokens to ask for. None when the server says no such thing, or there is no room for an answer."""
    cap = next((body[name] for name in CAPS if isinstance(body.get(name), int)), 0)
    for pattern in _ROOM:
        if found := pattern.search(text):
            room = int(found[1]) - int(found[2])
            return Lesson(room=room) if _LEAST_ROOM <= room < cap else None
    sentence = said(text)[:_OWN_CHARACTERS]
    for pattern in _MOST_OUTPUT if _OF_THE_CAP.match(sentence) else ():
        if (found := pattern.search(sentence)) and 0 < int(found[1]) < cap:
            return Lesson(most_output=int(found[1]))
    return None


# --- the conversation ---------------------------------------------------------------------------------------------


def _manners(text: str, body: Mapping[str, Any]) -> frozenset[Manner]:
    return frozenset(
        manner for manner, pattern in _MANNERS if pattern.search(text) and (manner != "say_json" or _wants_json(body))
    )


def _wants_json(body: Mapping[str, Any]) -> bool:
    wanted = body.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") == "json_object"


# --- values and names ---------------------------------------------------------------------------------------------


def _nearest_effort(text: str, body: Mapping[str, Any]) -> str | None:
    """The effort to ask for instead: the nearest of those that the server names. None when it names none of ours.

    OpenAI's gpt-5.6 thinks of functions at `none` alone, even when no effort is asked for.
    https://github.com/BerriAI/litellm/pull/34569"""
    if "reasoning_effort" not in text:
        return None
    asked = body.get("reasoning_effort")
    if body.get("tools") and asked != "none" and "set reasoning_effort to 'none'" in text:
        return "none"
    if not isinstance(asked, str) or asked not in EFFORTS:
        return None
    offered = [word for found in _VALUES.finditer(text) for word in re.findall(r"\w+", found[1]) if word in EFFORTS]
    return nearest_effort(asked, [word for word in offered if word != asked])


def _refused_words(text: str, answer: bytes, body: Mapping[str, Any]) -> frozenset[str]:
    """The optional parameters and fields of the request that the server says it does not take. The output cap is among
    them only when the server refuses its *name*: its value is the client's."""
    if _UNKNOWN_NAME.search(text):
        mendable = OPTIONAL_PARAMETERS | _OURS
    elif _UNFIT.search(text):
        mendable = OPTIONAL_PARAMETERS | {"stream_options"}
    else:
        return frozenset()
    param = None
    with suppress(ValueError, LookupError, TypeError):
        param = loads(answer)["error"]["param"]
    sent = (mendable & body.keys()) | _fields_in(body)
    if isinstance(param, str) and (exact := sent & {param.rpartition(".")[2].partition("[")[0]}):
        return frozenset(exact)
    return frozenset(name for name in sent if _is_named(name, text))


def _is_named(name: str, text: str) -> bool:
    """Whether the text names the parameter. A name without an underscore may be an everyday word, so it must stand in
    quotes or in a path. xAI writes `presencePenalty` (https://github.com/miaoxworld/NativeTavern/issues/83)."""
    before = r"(?<![\w-])" if "_" in name else r"(?:['\"`.]|-> )"
    first, *rest = name.split("_")
    camel = first + "".join(map(str.capitalize, rest))
    return re.search(rf"{before}(?:{name}|{camel})(?![\w-])", text) is not None


def _fields_in(body: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for message in _dicts(body.get("messages")):
        found |= message.keys() & MESSAGE_FIELDS
        found |= {"cache_control" for part in _dicts(message.get("content")) if "cache_control" in part}
    return found | {"cache_control" for tool in _dicts(body.get("tools")) if "cache_control" in tool}


def _dicts(values: Any) -> list[Json]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
