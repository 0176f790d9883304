"""A streamed answer of the endpoints of sound, of which nothing is held back and with which nobody else goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from routing.upstreams.base import Json


@dataclass(slots=True)
class SoundPartial:
    """A `routing.serving.call.Partial`. ``done`` is the type of the last event, of an answer that has events."""

    done: str
    is_finished: bool = False
    can_be_continued: bool = False
    _texts: list[str] = field(default_factory=list)

    @property
    def received(self) -> str:
        return "".join(self._texts)

    def receive(self, event: Json) -> Iterable[Json]:
        native = event.get("native")
        if isinstance(native, dict):
            self.is_finished = self.is_finished or native.get("type") == self.done
            if isinstance(native.get("delta"), str):
                self._texts.append(native["delta"])
        return (event,)

    def begin_anew(self) -> None:
        raise AssertionError("nobody goes on with sound")
