"""What was said in a conversation, so that a provider can be told it without a word changed.

litellm puts words of its own where a provider takes no empty ones, drops parts that it has no word for, and merges
calls that look alike. Here the conversation is brought into a form in which litellm finds nothing to change.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from routing.upstreams.base import Json
from routing.upstreams.mends.capability import cannot


@dataclass(frozen=True, slots=True)
class Heard:
    """What a provider can be told. Other kinds of content are refused: an answer to half a question misleads."""

    name: str
    parts: Collection[str]  # of a user's message
    result_parts: Collection[str]  # of a tool's result
    pictures: Collection[str]
    files: Collection[str] | None  # None: the provider itself says which
    file_ids: re.Pattern[str]  # what an id of a file looks like that the provider may have
    blanks: bool  # whether text may be white space alone
    answers_first: bool  # whether the first turn may be the assistant's


#: https://platform.claude.com/docs/en/api/messages (content blocks), …/build-with-claude/vision (pictures),
#: …/build-with-claude/pdf-support (documents).
ANTHROPIC: Final = Heard(
    name="Anthropic",
    parts=frozenset({"text", "image_url", "file", "document"}),
    result_parts=frozenset({"text", "image_url", "file", "tool_reference"}),
    pictures=frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"}),
    files=frozenset({"application/pdf", "text/plain"}),
    file_ids=re.compile(""),
    blanks=False,
    answers_first=False,
)
#: https://ai.google.dev/gemini-api/docs/image-understanding, …/audio, …/document-processing.
GEMINI: Final = Heard(
    name="Gemini",
    parts=frozenset({"text", "image_url", "input_audio", "file"}),
    result_parts=frozenset({"text", "image", "image_url", "input_image", "file", "input_file"}),
    pictures=frozenset({"image/jpeg", "image/png", "image/webp", "image/heic", "image/heif"}),
    files=None,
    file_ids=re.compile(r"https?://|gs://|data:|files/", re.IGNORECASE),
    blanks=True,
    answers_first=True,
)
_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
#: What an assistant's turn may have instead of words.
_BESIDE_WORDS: Final = ("tool_calls", "thinking_blocks", "images")
#: litellm keeps Gemini's signature of a call in the call's id, behind this.
_SIGNATURE_MARK: Final = "__thought__"
#: Anthropic's own tools bring their results with the call.
_SERVER_CALL: Final = "srvtoolu_"


def mended(messages: list[Any], heard: Heard) -> list[Any]:
    """The conversation as the provider can be told it. The messages are changed in place.

    Raises UpstreamError CAPABILITY for what the provider cannot be told.
    """
    if not all(isinstance(message, dict) for message in messages):
        return messages  # litellm says what is wrong with it
    _refuse_what_is_not_heard(messages, heard)
    call_functions_as_tools(messages)
    _tell_calls_apart(messages)
    messages = with_a_result_for_every_call(messages)
    for message in messages:
        _say_refusal(message)
        _give_result_content(message)
    spoken = [message for message in messages if _has_words(message, heard)]
    return _with_somebody_who_speaks(spoken, heard)


def tools_of_the_past(messages: list[Any]) -> list[Json]:
    """Definitions for the tools that were called, for a request that offers none any more. Anthropic wants them
    defined; litellm invents a tool "dummy_tool", which the model may then call."""
    calls = (
        call
        for message in messages
        if isinstance(message, dict) and message.get("role") == "assistant"
        for call in message.get("tool_calls") or ()
    )
    names = dict.fromkeys(str(call["function"]["name"]) for call in calls)
    schema: Json = {"type": "object", "properties": {}}
    return [{"type": "function", "function": {"name": name, "parameters": dict(schema)}} for name in names]


# --- what a provider does not hear -------------------------------------------------------------------------------


def _refuse_what_is_not_heard(messages: list[Json], heard: Heard) -> None:
    for at, message in enumerate(messages):
        param = f"messages[{at}]"
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            raise cannot(f"There is no role {json.dumps(role)[:40]}", f"{param}.role")
        if role == "user" and not isinstance(content, str | list):
            raise cannot("A message of the user needs content", f"{param}.content")
        if role == "assistant" and not content and isinstance(message.get("audio"), dict):
            raise cannot(f"{heard.name} cannot be told of an earlier answer in sound", f"{param}.audio")
        _refuse_misshapen_calls(message, param, heard)
        for place, part in enumerate(content if isinstance(content, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and not _is_heard(role, kind, heard):
                raise cannot(
                    f"{heard.name} takes no content of type '{kind}' in a message of role '{role}'",
                    f"{param}.content[{place}]",
                )
            if kind == "file":
                _refuse_unread_file(part, f"{param}.content[{place}]", heard)


def _refuse_misshapen_calls(message: Json, param: str, heard: Heard) -> None:
    calls = message.get("tool_calls")
    if not isinstance(calls, list | None):
        raise cannot("The calls are a list", f"{param}.tool_calls")
    if not isinstance(message.get("tool_call_id"), str | None):
        raise cannot("The id of a call is a text", f"{param}.tool_call_id")
    for place, call in enumerate(calls or ()):
        where = f"{param}.tool_calls[{place}]"
        if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
            raise cannot(f"{heard.name} can be told of calls of functions only", where)
        if not isinstance(call.get("id"), str | None) or not isinstance(call["function"].get("name"), str):
            raise cannot("A call needs a text as its id and as its function's name", where)
        _refuse_half_arguments(call["function"].get("arguments"), f"{where}.function")
    if isinstance(call := message.get("function_call"), dict):
        _refuse_half_arguments(call.get("arguments"), f"{param}.function_call")


def _refuse_half_arguments(arguments: object, param: str) -> None:
    if not isinstance(arguments, str) or not arguments.strip():
        return
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        raise cannot("A call's arguments are not JSON", f"{param}.arguments") from None
    if value is not None and not isinstance(value, dict):
        raise cannot("A call's arguments are no JSON object", f"{param}.arguments")


def _is_heard(role: object, kind: str, heard: Heard) -> bool:
    if role == "user":
        return kind in heard.parts
    if role in ("tool", "function"):
        return kind in heard.result_parts
    if role == "assistant":
        return kind in ("text", "refusal", "server_tool_use") or kind in _THOUGHTS or kind.endswith("_tool_result")
    return kind == "text" or role not in ("system", "developer")


def _refuse_unread_file(part: Json, param: str, heard: Heard) -> None:
    file = part.get("file")
    file_id = file.get("file_id") if isinstance(file, dict) else None
    if isinstance(file_id, str) and not heard.file_ids.match(file_id):
        raise cannot(f"{heard.name} has no file of this id", f"{param}.file.file_id")
    data = file.get("file_data") if isinstance(file, dict) else None
    if heard.files is None or not isinstance(data, str) or not data.startswith("data:"):
        return
    media_type = data[5:].partition(",")[0].partition(";")[0].strip().lower()
    if media_type not in heard.files and media_type not in heard.pictures:
        raise cannot(f"{heard.name} takes no file of type '{media_type}'", param)


# --- calls and their results -----------------------------------------------------------------------------------


def call_functions_as_tools(messages: list[Json]) -> None:
    """OpenAI's old `function_call` and role `function` as tool calls, with ids that match; litellm's do not. The
    messages are changed in place."""
    waiting: deque[tuple[object, str]] = deque()
    for at, message in enumerate(messages):
        call = message.get("function_call")
        called = isinstance(call, dict) and isinstance(call.get("name"), str) and not message.get("tool_calls")
        if message.get("role") == "assistant" and isinstance(call, dict) and called:
            del message["function_call"]
            call_id = f"call_function_{at}"
            message["tool_calls"] = [{"id": call_id, "type": "function", "function": call}]
            waiting.append((call.get("name"), call_id))
        elif message.get("role") == "function" and waiting and not message.get("tool_call_id"):
            answered = next((entry for entry in waiting if entry[0] == message.get("name")), waiting[0])
            waiting.remove(answered)
            message["role"], message["tool_call_id"] = "tool", answered[1]


def _tell_calls_apart(messages: list[Json]) -> None:
    """Every call with an id of its own, and its result with the same. Of two calls with one id litellm drops the
    second for Anthropic, which refuses such ids; the results come in the order of the calls."""
    known: set[str] = set()
    waiting: dict[object, deque[str]] = {}
    for message in messages:
        if message.get("role") == "tool":
            ids = waiting.get(message.get("tool_call_id"))
            if ids:
                message["tool_call_id"] = ids.popleft() if len(ids) > 1 else ids[0]
        elif message.get("role") == "assistant":
            if not message.get("tool_calls"):
                message.pop("tool_calls", None)  # an empty list makes litellm define a tool
                continue
            turn: dict[object, deque[str]] = {}
            for call in message["tool_calls"]:
                said = call.get("id")
                call["id"] = _free_id(said, known)
                known.add(call["id"])
                turn.setdefault(said, deque()).append(call["id"])
                call["function"]["arguments"] = _arguments(call["function"].get("arguments"))
            waiting.update(turn)


def with_a_result_for_every_call(messages: list[Json]) -> list[Json]:
    """Each call's result right behind the turn that called, and no other results: both providers refuse anything else
    (https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls,
    https://ai.google.dev/gemini-api/docs/function-calling). A call that was interrupted has an empty result; litellm
    says something in the tool's name. OpenAI refuses such histories too, but agents send them."""
    told: list[Json] = []
    at = 0
    while at < len(messages):
        turn_ends = _next(messages, at, assistant=False)
        answers_end = _next(messages, turn_ends, assistant=True)
        turn, following = messages[at:turn_ends], messages[turn_ends:answers_end]
        results = {message.get("tool_call_id"): message for message in following if message.get("role") == "tool"}
        for message in turn:
            told += [message, *_results_of(message, results)]
        told += [message for message in following if message.get("role") != "tool"]
        at = answers_end
    return told


def _results_of(message: Json, results: Mapping[object, Json]) -> Iterator[Json]:
    for call in message.get("tool_calls") or ():
        if call["id"] in results:
            yield results[call["id"]]
        elif not call["id"].startswith(_SERVER_CALL):
            yield {"role": "tool", "tool_call_id": call["id"], "content": ""}


def _next(messages: list[Json], at: int, *, assistant: bool) -> int:
    """Where the next message is that is the assistant's, or that is not."""
    while at < len(messages) and (messages[at].get("role") == "assistant") is not assistant:
        at += 1
    return at


def _free_id(said: object, known: Collection[str]) -> str:
    if isinstance(said, str) and said and said not in known:
        return said
    name, mark, signature = (said if isinstance(said, str) and said else "call").partition(_SIGNATURE_MARK)
    number = 2
    while f"{name}_{number}{mark}{signature}" in known:
        number += 1
    return f"{name}_{number}{mark}{signature}"


def _arguments(arguments: object) -> object:
    """No arguments are an empty object. litellm makes `{"type": "object"}` of them for Gemini."""
    if arguments is None or (isinstance(arguments, str) and arguments.strip() in ("", "null")):
        return "{}"
    return json.dumps(arguments) if isinstance(arguments, dict) else arguments


def _give_result_content(message: Json) -> None:
    """A tool that answered nothing: litellm needs the field."""
    if message.get("role") in ("tool", "function") and message.get("content") in (None, []):
        message["content"] = ""


# --- words -------------------------------------------------------------------------------------------------------


def _say_refusal(message: Json) -> None:
    """A model's refusal is what it said. litellm has no word for it and leaves it out."""
    if message.get("role") != "assistant":
        return
    content, refusal = message.get("content"), message.get("refusal")
    if not content and isinstance(refusal, str) and refusal:
        message["content"] = refusal
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") == "refusal":
            part["type"], part["text"] = "text", part.pop("refusal", "")


def _has_words(message: Json, heard: Heard) -> bool:
    """Whether the message says anything, once its empty text is left out. Anthropic refuses empty text blocks
    (https://platform.claude.com/docs/en/api/errors), Gemini empty parts; litellm puts words of its own into Claude's
    mouth instead."""
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant", "system", "tool"):
        return True
    if isinstance(content, list):
        content[:] = [part for part in content if not _is_empty_text(part, heard)]
    empty = _is_empty(content, heard) if isinstance(content, str) else not content
    if not empty:
        return True
    if role == "tool":
        message["content"] = content if isinstance(content, str) else ""
        return True
    if role == "assistant" and any(message.get(name) for name in _BESIDE_WORDS):
        message["content"] = None
        return True
    return content is None and role != "assistant"  # not even empty words: litellm says what is wrong


def _is_empty_text(part: object, heard: Heard) -> bool:
    if not isinstance(part, dict) or part.get("type") != "text":
        return False
    text = part.get("text")
    return isinstance(text, str) and _is_empty(text, heard)


def _is_empty(text: str, heard: Heard) -> bool:
    return not text if heard.blanks else not text.strip()


def _with_somebody_who_speaks(messages: list[Json], heard: Heard) -> list[Json]:
    """When nobody but the system speaks, its last words are the user's: both providers want a message, and litellm
    would make one up. Anthropic wants the user to begin (https://platform.claude.com/docs/en/api/messages)."""
    if not messages:
        raise cannot(f"{heard.name} takes no conversation in which nothing is said", "messages")
    first = next((message for message in messages if message.get("role") not in ("system", "developer")), None)
    if first is not None:
        if first.get("role") == "assistant" and not heard.answers_first:
            raise cannot(f"{heard.name} takes no conversation that the assistant begins", "messages")
        return messages
    return [*messages[:-1], {**messages[-1], "role": "user"}]


# --- pictures ----------------------------------------------------------------------------------------------------

_DATA_URL: Final = re.compile(r"data:(image/[\w.+-]+)((?:;[^,;]*)*),", re.IGNORECASE)
_MAGIC: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
_ALIASES: Final = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}


def label_pictures(messages: list[Any], heard: Heard) -> None:
    """Names each picture what its first bytes say it is: OpenAI looks at the picture, Anthropic at the name too.
    https://platform.claude.com/docs/en/build-with-claude/vision,
    https://ai.google.dev/gemini-api/docs/image-understanding

    Raises UpstreamError CAPABILITY for a kind of picture that the provider does not take.
    """
    for param, part in _pictures(messages):
        inner = part["image_url"]
        holder, name = (inner, "url") if isinstance(inner, dict) else (part, "image_url")
        url = holder.get(name)
        if not isinstance(url, str) or (match := _DATA_URL.match(url)) is None:
            continue
        media_type = _seen_type(url[match.end() :]) or _ALIASES.get(match[1].lower(), match[1].lower())
        if media_type not in heard.pictures:
            raise cannot(f"{heard.name} takes no picture of type '{media_type}'", param)
        if media_type != match[1]:
            holder[name] = f"data:{media_type}{match[2]},{url[match.end() :]}"
        for label in ("format", "mime_type", "content_type"):
            if holder is not part and label in holder:
                holder[label] = media_type


def _pictures(messages: list[Any]) -> Iterator[tuple[str, Json]]:
    for at, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        for place, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and part.get("type") == "image_url" and part.get("image_url"):
                yield f"messages[{at}].content[{place}]", part


def _seen_type(data: str) -> str | None:
    """What the picture's first bytes say; None when they say nothing that we know."""
    try:
        head = base64.b64decode(data[:32], validate=False)
    except (binascii.Error, ValueError):
        return None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "image/heif" if head[8:12] in (b"mif1", b"msf1") else "image/heic"
    return next((media_type for magic, media_type in _MAGIC if head.startswith(magic)), None)
