"""Answers that are bytes and no events, such as sound: they are handed on as they come."""

from __future__ import annotations

from collections.abc import Iterable

from routing.exceptions import GatewayError
from routing.serving.call import Consumed
from routing.upstreams.base import Content, Json, UpstreamError


class BareFrames:
    """:class:`~routing.serving.relaying.Frames` without a frame. Such an answer begins with its first bytes, so what
    fails before is an error like any other."""

    def content_type(self, head: Iterable[Json]) -> str:
        """Of an answer that begins so, as its provider says."""
        said = (event["content"] for event in head if isinstance(event.get("content"), Content))
        return next((content.content_type for content in said), "application/octet-stream")

    def event(self, event: Json) -> bytes | None:
        content = event.get("content")
        return content.data if isinstance(content, Content) else None

    def end(self, consumed: Consumed) -> bytes:
        return b""

    def comment(self) -> bytes:
        return b""

    def failed(self, error: GatewayError) -> bytes:
        raise error

    def interrupted(self, error: UpstreamError) -> None:
        return None
