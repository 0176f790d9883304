"""The upper bound of a request's input, before it runs. Pure.

The bound must be true, or a hard budget could be overspent by what was admitted. So the whole body counts, whatever its
fields are called: text as its UTF-8 bytes (a byte-pair token, in every tokenizer that the providers publish, stands for
at least one byte), and what has a documented maximum as that. Pictures, sounds and documents are told by their own
bytes (`routing.upstreams.inline_media`). What nobody can bound is named, and refused where a hard budget applies.

That is three to five times the true input tokens. It matters little: the output cap, at several times the price a
token, is most of a typical hold. ``docs/ceilings.md`` has the measured ratios.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from accounting import json_text
from accounting.record import record
from routing.upstreams import inline_media
from routing.upstreams.extras import Unlimited
from routing.upstreams.inline_media import Kind, Measured, Unmeasurable
from routing.upstreams.providers import PROVIDERS
from routing.upstreams.schema_references import Endless, written_out_bytes

#: Chat templates wrap each message in a few tokens (OpenAI documents 3 to 4), and the request in a few more.
TOKENS_A_MESSAGE: Final = 16
TOKENS_A_REQUEST: Final = 64
#: What stands around a file: the words that say where it begins, what it is and that it ends.
TOKENS_A_FILE: Final = 64
#: litellm tells Anthropic's models in a sentence that a system message stood in the middle of the conversation.
TOKENS_A_NOTE: Final = 128
#: Anthropic adds a system prompt of 290 to 810 tokens to a request with tools (its documentation, "Tool use, pricing").
TOKENS_WITH_TOOLS: Final = 1024
#: xAI puts a prompt of its own before the client's (github.com/xai-org/grok-prompts has the texts), and counts it.
TOKENS_OF_GROK: Final = 1_024
#: Calls of earlier turns are offered as tools again where a provider insists: a name, and a schema without fields.
TOKENS_A_CALL: Final = 128
#: An image at most: OpenAI's tiles (a 768x2048 image of eight, 85 + 8 x 170 = 1,445), its patches (1,536 x 2.46),
#: Anthropic's high-resolution images (4,784), Gemini's tiles of 258 up to an image ten times as long as wide.
TOKENS_AN_IMAGE: Final = 8_192
#: gpt-4o-mini counts an image at 2,833 + 5,667 a tile: eight tiles at most.
TOKENS_AN_IMAGE_MINI: Final = 2_833 + 8 * 5_667
#: Gemini cuts a long image into squares of two thirds of its width: two rows of them, of 258 tokens each.
TOKENS_A_TILE: Final = 258
#: Gemini counts 32 tokens a second of audio, OpenAI 10.
TOKENS_A_SECOND: Final = 32
#: A page's text at most (Anthropic: 1,500 to 3,000 tokens), to which Anthropic and OpenAI add the page as an image.
TOKENS_A_PAGE_OF_TEXT: Final = 3_000
#: Anthropic's page: its text, and an image of its highest resolution (4,784).
TOKENS_A_PAGE_ANTHROPIC: Final = 8_000
#: Gemini's page is an image alone: 258 tokens, up to 1,120 by `media_resolution` in Gemini 3. Its text is not billed.
TOKENS_A_PAGE_GEMINI: Final = 1_200
#: Providers for which litellm writes out the references in schemas.
_WRITE_OUT_REFERENCES: Final = frozenset({"bedrock", "bedrock_converse", "gemini", "vertex_ai", "vertex_ai_beta"})
#: Where Google keeps files that were uploaded before.
_GEMINI_FILES: Final = "https://generativelanguage.googleapis.com/"

_PLAIN: Final = frozenset({"role", "content"})
_COUNTED: Final = (str, list, dict)  # what can be long; a union of them would be made anew for each field
#: Fields that no model reads, or that are counted apart from the rest.
_APART: Final = frozenset(
    {
        "logit_bias", "messages", "metadata", "model", "prediction", "prompt_cache_key", "safety_identifier", "stop",
        "stream_options", "user",
    }
)  # fmt: skip
_SCHEMAS: Final = ("tools", "functions", "response_format")
#: Content parts that are text, or whose text is all that they are.
_TEXT_PARTS: Final = frozenset(
    {"text", "refusal", "thinking", "redacted_thinking", "input_text", "output_text", "tool_use"}
)
#: Where parts have their media. A text part that has one of these as well is not the text that it says it is.
_MEDIA_FIELDS: Final = frozenset(
    {"audio", "document", "file", "image", "image_url", "input_audio", "source", "video", "video_url"}
)


class Link(NamedTuple):
    """A picture that the provider fetches, or that we fetch for it."""

    param: str
    url: str


@record(frozen=True, slots=True)
class InputCeiling:
    """No provider counts more input; how many tokens a picture or a page is depends on the provider and the model."""

    tokens: int  # of all that is neither a picture nor a page
    pictures: int = 0
    pages: int = 0
    predicted_tokens: int = 0  # of the output that the client predicts: what is rejected of it is billed as output
    links: tuple[Link, ...] = ()  # of the pictures
    unbounded: Unlimited | None = None  # the first; all the rest is counted
    reference_tokens: int = 0  # more, where the references in schemas are written out
    endless_references: Unlimited | None = None

    def tokens_for(self, litellm_provider: str, model: str) -> int:
        tokens = self.tokens + (TOKENS_OF_GROK if litellm_provider == "xai" or "grok-" in model else 0)
        if self.reference_tokens and litellm_provider in _WRITE_OUT_REFERENCES:
            tokens += self.reference_tokens
        if self.pictures:
            tokens += self.pictures * image_ceiling(model)
        if self.pages:
            tokens += self.pages * page_ceiling(litellm_provider, model)
        return tokens

    def unbounded_at(self, litellm_provider: str) -> Unlimited | None:
        """What of it nobody can bound at this provider; None: nothing."""
        if self.unbounded is not None:
            return self.unbounded
        if self.endless_references is not None and litellm_provider in _WRITE_OUT_REFERENCES:
            return self.endless_references
        for link in self.links:
            if not is_fetched_as_picture(litellm_provider, link.url):
                return Unlimited(link.param, "this provider may find anything behind its URL")
        return None


def input_ceiling(body: Mapping[str, Any]) -> InputCeiling:
    """The bound of a chat request's input. Linear in its size.

    Takes any JSON: what has not the shape of a chat request counts as the text that it is.
    """
    count = _Count()
    rest = {name: value for name, value in body.items() if name not in _APART and isinstance(value, _COUNTED)}
    if rest:
        text = json_text.dumps(rest)
        count.tokens += len(text)
        if b'"$ref"' in text:
            for name in _SCHEMAS:
                count.add_references(rest.get(name), name)
    if body.get("prediction") is not None:
        count.predicted_tokens = _bytes(body["prediction"])
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        count.add_message(message, f"messages[{index}]")
    if count.calls or any(rest.get(name) for name in _SCHEMAS):
        count.tokens += TOKENS_WITH_TOOLS + count.calls * TOKENS_A_CALL
    return InputCeiling(
        tokens=count.tokens,
        pictures=count.pictures,
        pages=count.pages,
        predicted_tokens=count.predicted_tokens,
        links=tuple(count.links),
        unbounded=count.unbounded,
        reference_tokens=count.reference_tokens,
        endless_references=count.endless_references,
    )


def is_fetched_as_picture(litellm_provider: str, url: str) -> bool:
    """Whether what is behind an `image_url` can only be read as a picture: by providers of OpenAI's format and by
    Anthropic, and where we fetch it ourselves (Gemini). litellm hands others the URL with any media type."""
    if litellm_provider == "gemini":
        return not url.startswith(_GEMINI_FILES)
    row = PROVIDERS.get(litellm_provider)
    return row is not None and (row.way != "sdk" or litellm_provider == "azure")


def image_ceiling(model: str) -> int:
    """The most tokens that an image may be to this model."""
    return TOKENS_AN_IMAGE_MINI if "gpt-4o-mini" in model else TOKENS_AN_IMAGE


def page_ceiling(litellm_provider: str, model: str) -> int:
    """The most tokens that a page of a document may be to this model."""
    if litellm_provider == "anthropic":
        return TOKENS_A_PAGE_ANTHROPIC
    if litellm_provider == "gemini":
        return TOKENS_A_PAGE_GEMINI
    return TOKENS_A_PAGE_OF_TEXT + image_ceiling(model)


@dataclass
class _Count:
    tokens: int = TOKENS_A_REQUEST
    pictures: int = 0
    pages: int = 0
    predicted_tokens: int = 0
    calls: int = 0
    links: list[Link] = field(default_factory=list)
    unbounded: Unlimited | None = None
    reference_tokens: int = 0
    endless_references: Unlimited | None = None

    def refuse(self, param: str, why: str) -> None:
        self.unbounded = self.unbounded or Unlimited(param, why)

    def add_message(self, message: Any, where: str) -> None:
        self.tokens += TOKENS_A_MESSAGE
        if not isinstance(message, dict):
            self.tokens += _bytes(message)
            return
        if message.keys() == _PLAIN and message["role"] == "user" and type(message["content"]) is str:
            self.tokens += _bytes(message)  # most messages are so
            return
        if message.get("role") in ("system", "developer"):
            self.tokens += TOKENS_A_NOTE
        content, images = message.get("content"), message.get("images")
        calls = message.get("tool_calls")
        self.calls += len(calls) if isinstance(calls, list) else 0
        self.calls += message.get("role") in ("tool", "function") or message.get("function_call") is not None
        if not isinstance(content, list) and not images and not message.get("audio"):
            self.tokens += _bytes(message)  # nearly every message is so
            return
        self.tokens += _bytes({n: v for n, v in message.items() if n not in ("content", "images")})
        if message.get("audio"):
            self.refuse(f"{where}.audio", "how long an earlier answer's sound was is not in the request")
        for name, parts in (("content", content), ("images", images)):
            for index, part in enumerate(parts) if isinstance(parts, list) else ():
                self.add_part(part, f"{where}.{name}[{index}]")
            if not isinstance(parts, list) and parts is not None:
                self.tokens += _bytes(parts)

    def add_part(self, part: Any, where: str) -> None:
        kind = str(part.get("type")) if isinstance(part, dict) else ""
        if not isinstance(part, dict) or (kind in _TEXT_PARTS and not part.keys() & _MEDIA_FIELDS):
            self.tokens += _bytes(part)
            return
        try:
            match kind:
                case "image_url" | "input_image":
                    self._add_picture(part.get("image_url"), where)
                case "input_audio":
                    self._add_sound(part.get("input_audio"))
                case "file":
                    self._add_file(part.get("file"))
                case "tool_result":
                    self._add_result(part, where)
                case "image" | "document":
                    self._add_source(part.get("source"), where, is_picture=kind == "image")
                case _:
                    self.refuse(where, f"no provider documents how many tokens a part of the type '{kind[:40]}' is")
        except Unmeasurable as why:
            self.refuse(where, str(why))
        others = part.keys() - {"type"} - _MEDIA_FIELDS
        if others:  # a file's title, a mark for the cache
            self.tokens += _bytes({name: part[name] for name in others})

    def _add_picture(self, image: Any, where: str) -> None:
        """OpenAI's form: the URL, or an object with it. A type that stands beside it goes before its own."""
        image = {"url": image} if isinstance(image, str) else image
        url = image.get("url") if isinstance(image, dict) else None
        if not isinstance(url, str):
            raise Unmeasurable("it has no URL")
        declared = next((image[name] for name in ("format", "mime_type", "content_type") if image.get(name)), None)
        if url[:5].lower() == "data:":
            self._add(inline_media.measured_url(url, _media_type(declared, "image")))
        else:
            self._add_link(url, declared, where)

    def _add_link(self, url: str, declared: Any, where: str) -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise Unmeasurable("what its URL leads to is not known")
        if declared is not None and not str(_media_type(declared, "image")).startswith("image/"):
            raise Unmeasurable("how much is behind its URL is not known")
        self.pictures += 1
        self.tokens += _bytes(url)
        self.links.append(Link(where, url))

    def _add_sound(self, sound: Any) -> None:
        data = sound.get("data") if isinstance(sound, dict) else None
        if not isinstance(data, str):
            raise Unmeasurable("it has no data")
        declared = _media_type(sound.get("format"), "audio") or ""
        if data[:5].lower() == "data:":
            self._add(inline_media.measured_url(data, declared or None))
        else:
            self._add(inline_media.measured(declared, data))

    def _add_file(self, file: Any) -> None:
        data = file.get("file_data") if isinstance(file, dict) else None
        if not isinstance(data, str) or file.get("file_id"):
            raise Unmeasurable("how much is in a file that the provider keeps is not in the request")
        self._add(inline_media.measured_url(data, _media_type(file.get("format"), "application")))
        self.tokens += _bytes(str(file.get("filename") or ""))

    def _add_source(self, source: Any, where: str, *, is_picture: bool) -> None:
        """Anthropic's form."""
        kind = source.get("type") if isinstance(source, dict) else None
        data = source.get("data") if isinstance(source, dict) else None
        if kind == "base64" and isinstance(data, str):
            self._add(inline_media.measured(str(source.get("media_type")), data))
        elif kind == "text" and isinstance(data, str):
            self.tokens += _bytes(data)
        elif kind == "url" and is_picture and isinstance(source.get("url"), str):
            self._add_link(source["url"], None, where)
        else:
            raise Unmeasurable("how much is behind its source is not in the request")

    def _add_result(self, part: Mapping[str, Any], where: str) -> None:
        """Anthropic's form of what a tool gave: text, or parts of its own."""
        content = part.get("content")
        self.tokens += _bytes({name: value for name, value in part.items() if name != "content"})
        for index, inner in enumerate(content) if isinstance(content, list) else ():
            self.add_part(inner, f"{where}.content[{index}]")
        if not isinstance(content, list) and content is not None:
            self.tokens += _bytes(content)

    def _add(self, found: Measured) -> None:
        self.tokens += TOKENS_A_FILE
        match found.kind:
            case Kind.PICTURE:
                self.pictures += 1
                of_tiles = TOKENS_A_TILE * 2 * math.ceil(found.amount * 1.5)
                self.tokens += max(0, of_tiles - TOKENS_AN_IMAGE)
            case Kind.TEXT:
                self.tokens += found.amount
            case Kind.SOUND:
                self.tokens += found.amount * TOKENS_A_SECOND
            case Kind.DOCUMENT:
                self.pages += found.amount

    def add_references(self, schemas: Any, name: str) -> None:
        """What schemas become when their references are written out."""
        for index, schema in enumerate(schemas if isinstance(schemas, list) else [schemas]):
            try:
                self.reference_tokens += written_out_bytes(schema)
            except Endless as why:
                where = f"{name}[{index}]" if isinstance(schemas, list) else name
                self.endless_references = self.endless_references or Unlimited(where, str(why))


def _media_type(declared: Any, kind: str) -> str | None:
    """A media type as clients write it: whole, or the last part alone (`wav`)."""
    if not isinstance(declared, str) or not declared:
        return None
    word = declared.lower().strip()
    word = {"mp3": "mpeg", "jpg": "jpeg", "image/jpg": "image/jpeg"}.get(word, word)
    return word if "/" in word else f"{kind}/{word}"


def _bytes(value: Any) -> int:
    """The UTF-8 length of a JSON value as text. Its punctuation is counted too, which covers what templates add."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    return len(json_text.dumps(value))
