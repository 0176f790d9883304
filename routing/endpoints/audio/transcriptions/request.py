"""Reads and validates a request for a transcription or a translation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Final, Literal, NoReturn

from accounting.tags import Tags
from accounting.usage import Usage
from routing.api.parts import Form
from routing.catalog import Step
from routing.endpoints.audio.containers import Unreadable, seconds_of
from routing.endpoints.audio.partial import SoundPartial
from routing.endpoints.audio.transcriptions import ceiling
from routing.endpoints.fields import alias_of, end_user_of, tags_of
from routing.exceptions import InvalidRequest, MissingParameter, RequestTooLarge
from routing.serving.call import Call, Partial, Quantities, Received
from routing.upstreams.base import AnswerStream, Content, File, Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.kinds import Kind
from routing.upstreams.sound import WRITTEN_DOWN

Endpoint = Literal["transcriptions", "translations"]

MOST_FILE_BYTES: Final = 25 * 2**20  # OpenAI's limit
FORMATS: Final = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
_METADATA: Final = "metadata["


@dataclass(frozen=True, slots=True)
class TranscriptionCall:
    """A valid request: a `routing.serving.call.StreamedCall`. ``fields`` is the form as it was sent, with the texts of
    each name; ``file`` is its sound."""

    endpoint: Endpoint
    alias: str
    fields: Mapping[str, tuple[str, ...]]
    file: File
    seconds: Fraction | None  # how long the sound can be at the most; None: nobody can say
    why_unread: str
    end_user: str
    tags: Tags
    streamed: bool = False
    deadline: float | None = None  # monotonic: when the client no longer wants an answer
    kind: ClassVar[Kind] = Kind.TRANSCRIPTION
    is_adapted: ClassVar[bool] = False

    @property
    def format(self) -> str:
        return self.fields.get("response_format", ("json",))[-1]

    def left_s(self) -> float:
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def ceiling(self, step: Step) -> Quantities:
        return ceiling.most_of(self.fields, self.seconds, self.why_unread, step.deployment)

    def request_for(self, step: Step, most: Quantities) -> Json:
        seconds = None if self.seconds is None else ceiling.billed(self.seconds, step.deployment)
        return {**self.fields, "file": replace(self.file, seconds=seconds)}

    def ask_otherwise(self, step: Step) -> bool:
        return False

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        return upstream.write_down(request, f"audio/{self.endpoint}")

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        return upstream.write_down_live(request, f"audio/{self.endpoint}")

    def partial(self, *, is_rescuable: bool) -> Partial:
        return SoundPartial(WRITTEN_DOWN)

    def continuation(self, partial: Partial, said_tokens: int) -> Call:
        return _never()

    def estimate(self, received: Received, step: Step) -> Usage:
        seconds = (
            Fraction(len(self.file.content), ceiling.USUAL_BYTES_A_SECOND) if self.seconds is None else self.seconds
        )
        return ceiling.estimated(self.fields, seconds, _text_of(received), step.deployment)


def parse_transcription(
    form: Form, endpoint: Endpoint, alias_in_path: str | None = None, deadline: float | None = None
) -> TranscriptionCall:
    """Validate a form. Raises InvalidRequest, whose ``param`` names the field."""
    fields = dict(form.fields)
    if alias_in_path is not None:
        fields["model"] = (alias_in_path,)
    last: dict[str, Any] = {name: values[-1] for name, values in fields.items()}
    alias = alias_of(last)
    file = _file_of(form)
    if last.get("response_format", "json") not in FORMATS:
        raise InvalidRequest(f"'response_format' must be one of {', '.join(FORMATS)}.", param="response_format")
    streams = last.get("stream", "false").lower()
    if streams not in ("true", "false", "1", "0"):
        raise InvalidRequest("'stream' must be true or false.", param="stream")
    metadata = {n.removeprefix(_METADATA).rstrip("]"): value for n, value in last.items() if n.startswith(_METADATA)}
    seconds, why = None, ""
    try:
        seconds = seconds_of(file.content)
    except Unreadable as error:
        why = str(error)
    return TranscriptionCall(
        endpoint=endpoint,
        alias=alias,
        fields=fields,
        file=file,
        seconds=seconds,
        why_unread=why,
        end_user=end_user_of(last),
        tags=tags_of({"metadata": metadata}),
        streamed=streams in ("true", "1") and endpoint == "transcriptions",
        deadline=deadline,
    )


def _file_of(form: Form) -> File:
    files = form.files.get("file", ())
    if other := next((name for name in form.files if name != "file"), None):
        raise InvalidRequest(
            f"There is a file under '{other[:100]}'; the sound is sent under 'file'.", param=other[:100]
        )
    if not files:
        raise MissingParameter("'file' is required, with a name: flac, m4a, mp3, mp4, ogg, wav or webm.", param="file")
    if len(files) > 1:
        raise InvalidRequest("There may be one 'file'.", param="file")
    if not files[0].content:
        raise InvalidRequest("'file' is empty.", param="file")
    if len(files[0].content) > MOST_FILE_BYTES:
        raise RequestTooLarge(
            f"Maximum content size limit ({MOST_FILE_BYTES}) exceeded ({len(files[0].content)} bytes read)",
            param="file",
        )
    return files[0]


def _text_of(received: Received) -> str:
    if isinstance(received, str):
        return received
    content = received.get("content")
    if isinstance(content, Content):
        return content.data.decode("utf-8", "replace")
    return str(received.get("text") or "")


def _never() -> NoReturn:
    raise AssertionError("nobody goes on with a transcript")
