"""What a provider's format module offers to the server, and the values that pass between them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.simulator.behaviour import Behaviour, Problem
    from tests.simulator.model import Answer
    from tests.simulator.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Failure:
    """A response that is not an answer. `body` is JSON, or the text of a page."""

    status: int
    body: Mapping[str, Any] | str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer that is no JSON."""

    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """Bytes of a stream. `token` says that they carry a content token; `last` that they are the end
    marker."""

    data: bytes
    token: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as far as a format needs it. `headers` has lower-case names, `query` is decoded."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    query: Mapping[str, str]
    model: str
    streamed: bool
    provider: str = ""  # the name in the path: some are as strict as the real provider of that name


class WireFormat(Protocol):
    """The format modules satisfy this with their functions."""

    @property
    def NAME(self) -> str: ...  # noqa: N802 - a constant in the modules

    @property
    def STREAM_TYPE(self) -> str: ...  # noqa: N802

    def refuse(self, asked: Asked) -> Failure | None:
        """The provider's answer to a request that it would not run: no key, a field missing or wrong."""

    def read(self, asked: Asked) -> Prompt: ...

    def headers(self) -> dict[str, str]:
        """The headers of every answer, with a fresh request id."""

    def whole(self, prompt: Prompt, answer: Answer) -> dict[str, Any] | Raw: ...

    def events(self, prompt: Prompt, answer: Answer) -> Iterator[Event]: ...

    def failure(self, problem: Problem, prompt: Prompt, behaviour: Behaviour) -> Failure: ...

    def not_json(self) -> Failure: ...

    def failure_event(self, failure: Failure) -> bytes:
        """The failure as an event in mid-stream."""


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def html_page(status: int, title: str) -> Failure:
    """What the proxy in front of a provider says when the provider cannot be reached."""
    return Failure(
        status,
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n<center><h1>{status} {title}"
        "</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n",
    )


def retry_after(behaviour: Behaviour) -> dict[str, str]:
    if behaviour.retry_after_s is None:
        return {}
    return {"Retry-After": f"{behaviour.retry_after_s:g}"}
