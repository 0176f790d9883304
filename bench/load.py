"""A load client that takes little CPU itself: raw asyncio connections, kept alive, with one request at a time."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """The results of a round of load. Times are in milliseconds."""

    requests: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


_SENT_AT = re.compile(rb'"content": ?"(\d{11}\.\d{6})"')  # the static upstream's clock, as an event's text


def request(path: str, body: dict[str, object], headers: dict[str, str]) -> bytes:
    data = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def run(port: int, data: bytes, *, clients: int, seconds: float) -> Load:
    """Send the request again and again on as many connections as there are clients, for so many seconds."""
    return asyncio.run(_run(port, data, clients, seconds))


async def _run(port: int, data: bytes, clients: int, seconds: float) -> Load:
    durations: list[float] = []
    failed = 0
    ends_at = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < ends_at:
            writer.write(data)
            status, stays = await _answer(reader)
            durations.append(time.perf_counter() - began)
            failed += status != 200
            if not stays:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    took_s, durations_ms = time.perf_counter() - began, sorted(duration * 1000 for duration in durations)
    return Load(
        len(durations), failed, took_s, statistics.median(durations_ms), durations_ms[int(len(durations) * 0.99)]
    )


def times(port: int, data: bytes, *, clients: int, requests: int) -> None:
    """Send the request so many times, on as many connections as there are clients. Raises OSError when one fails."""
    asyncio.run(_times(port, data, clients, requests))


async def _times(port: int, data: bytes, clients: int, requests: int) -> None:
    left = iter(range(requests))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            writer.write(data)
            status, stays = await _answer(reader)
            if status != 200 or not stays:
                raise ConnectionError(f"status {status}")
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))


@dataclass(frozen=True, slots=True)
class Streamed:
    """The events of paced streams: how many arrived, and how long they took from the paced upstream to here."""

    events: int
    delay_p99_ms: float


def streamed(port: int, data: bytes, *, streams: int, seconds: float, begin_within_s: float = 1.0) -> Streamed:
    """So many streams at a time, again and again for so many seconds; at least one each."""
    return asyncio.run(_streamed(port, data, streams, seconds, begin_within_s))


async def _streamed(port: int, data: bytes, streams: int, seconds: float, begin_within_s: float) -> Streamed:
    delays: list[float] = []
    ends_at = time.monotonic() + seconds

    async def client(number: int) -> None:
        await asyncio.sleep(begin_within_s * number / streams)  # so that not all events come at the same moment
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            rest = b""
            while b"[DONE]" not in rest and (received := await reader.read(65536)):
                now = time.monotonic()
                rest += received
                end = 0
                for match in _SENT_AT.finditer(rest):
                    delays.append((now - float(match[1])) * 1000)
                    end = match.end()
                rest = rest[end:]
            writer.close()
            if time.monotonic() >= ends_at:
                return

    await asyncio.gather(*(client(number) for number in range(streams)))
    return Streamed(len(delays), sorted(delays)[int(len(delays) * 0.99)] if delays else float("inf"))


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    else:
        at = head.index(b"content-length:") + 15
        await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
    return status, b"connection: close" not in head
