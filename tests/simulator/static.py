"""The fastest upstream that plain Python gives: every answer is the same bytes, made beforehand.

For benchmarks, where the upstream must not be what is measured. It parses no more of a request than its
length and whether it asks for a stream, checks no key and keeps no log. One asyncio loop on one core; run
as a process:

    python -m tests.simulator.static --port 4011 --events 50 --interval 0.02

With an interval, each content event carries the time it was sent as its text: seconds of the machine-wide
monotonic clock, in fixed width. A client on the same machine subtracts it from its own to get the event's
delay."""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from typing import TYPE_CHECKING

from tests.simulator import anthropic_format, gemini_format, openai_format
from tests.simulator.behaviour import Usage
from tests.simulator.connection import response_head
from tests.simulator.model import Answer, Choice
from tests.simulator.prompt import Prompt
from tests.simulator.wire_format import WireFormat, compact

if TYPE_CHECKING:
    from collections.abc import Callable

_STAMP = b"@@@@@@@@@@@@@@@@@@"  # where the time goes: 18 characters of "%018.6f"


class Fixture:
    """One format's answers as bytes. `events` is a stream in parts, each written at its own time: the head
    with what comes before the content, each content event, and what comes after."""

    def __init__(self, wire: WireFormat, events: int, stamped: bool) -> None:
        tokens = tuple(_STAMP.decode() if stamped else " token" for _ in range(events))
        usage = Usage(input_tokens=20, output_tokens=events)
        said = Answer((), False, (Choice(tokens, (), "stop"),), usage)
        prompt = Prompt(model="static-model", streamed=True, input_tokens=20)
        body = compact(wire.whole(prompt, said))
        common = {**wire.headers(), "Content-Type": "application/json", "Content-Length": str(len(body))}
        self.whole = response_head(200, common) + body

        head = {**wire.headers(), "Content-Type": wire.STREAM_TYPE, "Transfer-Encoding": "chunked"}
        parts = [response_head(200, head)]
        after = False
        for event in wire.events(prompt, said):
            chunk = b"%x\r\n%b\r\n" % (len(event.data), event.data)
            if event.token or (len(parts) > events and not after):
                parts.append(chunk)
                after = not event.token
            else:
                parts[-1] += chunk
        parts[-1] += b"0\r\n\r\n"
        self.events = parts
        self.stream = b"".join(parts)


class _Client(asyncio.Protocol):
    """One connection: answers each request as soon as its body is complete."""

    def __init__(self, fixtures: dict[bytes, Fixture], interval_s: float) -> None:
        self._fixtures = fixtures
        self._interval_s = interval_s
        self._buffer = b""
        self._write: Callable[[bytes], None]
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._write = transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            lower = head.lower()
            at = lower.find(b"content-length:")
            length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._answer(head[: head.find(b"\r\n")], body)

    def _answer(self, request_line: bytes, body: bytes) -> None:
        if b"/messages" in request_line:
            name = b"anthropic"
        elif b"enerateContent" in request_line:
            name = b"gemini"
        else:
            name = b"openai"
        fixture = self._fixtures[name]
        # The flag may stand anywhere in the body; JSON writers differ only in the space.
        streamed = (
            b":streamGenerateContent" in request_line
            if name == b"gemini"
            else b'"stream":true' in body or b'"stream": true' in body
        )
        if not streamed:
            self._write(fixture.whole)
        elif not self._interval_s:
            self._write(fixture.stream)
        else:
            self._write(fixture.events[0])
            self._tick(fixture.events, 1, asyncio.get_running_loop().time() + self._interval_s)

    def _tick(self, events: list[bytes], index: int, due: float) -> None:
        """Writes the parts that are due; each has its own time from the start, so that lateness does not
        add up."""
        loop = asyncio.get_running_loop()
        while due <= loop.time():
            self._write(events[index].replace(_STAMP, b"%018.6f" % time.monotonic(), 1))
            index += 1
            if index == len(events):
                self._timer = None
                return
            due += self._interval_s
        self._timer = loop.call_at(due, self._tick, events, index, due)


async def serve(host: str, port: int, events: int, interval_s: float) -> None:
    """Serves until SIGINT or SIGTERM."""
    formats = (openai_format, anthropic_format, gemini_format)
    fixtures = {wire.NAME.encode(): Fixture(wire, events, interval_s > 0) for wire in formats}
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: _Client(fixtures, interval_s), host, port, backlog=4096)
    print(f"http://{host}:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201 - a command line prints
    await stopped.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.static", description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4011)
    parser.add_argument("--events", type=int, default=50, help="content events of a stream, tokens of an answer")
    parser.add_argument("--interval", type=float, default=0.0, metavar="S", help="seconds between events")
    options = parser.parse_args()
    asyncio.run(serve(options.host, options.port, options.events, options.interval))


if __name__ == "__main__":
    main()
