"""How cost grows with what is asked: ``python -m bench.shapes``.

Bodies, budgets, workers and open streams, one after the other, of our gateway alone with its ledger on. The first line
of each table is what the others are compared with, in interleaved rounds.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench import load, peers
from bench.__main__ import chat
from bench.peers import GATEWAY, MASTER_KEY, Peer

ROUNDS, SECONDS = 3, 3.0
STREAMS = (1, 64, 512, 2000)
STREAM_EVENTS, STREAM_INTERVAL_S = 20, 1.0
BEGIN_WITHIN_S, COUNTED_S = 7.0, 10.0  # while the first streams last
WORKERS = (1, 2, 4)
BUDGETS = (1, 3, 6)


def said(*texts: str) -> bytes:
    """A request with so many messages."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    body = {"model": "gpt-4o", "messages": messages, "max_tokens": 100}
    return load.request("/v1/chat/completions", body, {"Authorization": f"Bearer {MASTER_KEY}"})


BODIES: Mapping[str, bytes] = {
    "a short message": said("Say hello to the bench"),
    "200 messages of 300 B": said(*("A sentence of the bench. " * 12 for _ in range(199))),
    "1 MB in one message, ASCII": said("A sentence of the bench. " * 40_000),
    "1 MB in one message, UTF-8": said("Ein Satz für die Bank. " * 42_000),
}


@dataclass(frozen=True)
class Seen:
    per_second: float
    p50_ms: float
    cpu_ms: float  # of all workers, a request


def asked(peer: Peer, request: bytes, clients: int) -> Seen:
    before = peers.cpu_s(peer.workers())
    seen = load.run(peer.port, request, clients=clients, seconds=SECONDS)
    if seen.failed:
        raise SystemExit(f"{seen.failed} of {seen.requests} requests failed")
    return Seen(seen.per_second, seen.p50_ms, (peers.cpu_s(peer.workers()) - before) * 1000 / seen.requests)


def table(title: str, rows: Mapping[str, list[Seen]]) -> None:
    print(f"\n| {title} | requests/s | p50 ms | CPU ms a request | to the first |\n|---|---:|---:|---:|---:|")
    first = statistics.median(seen.cpu_ms for seen in next(iter(rows.values())))
    for name, seen in rows.items():
        per_second, p50_ms, cpu_ms = (
            statistics.median(values)
            for values in zip(*((s.per_second, s.p50_ms, s.cpu_ms) for s in seen), strict=True)
        )
        print(f"| {name} | {per_second:.0f} | {p50_ms:.1f} | {cpu_ms:.2f} | {cpu_ms / first:.2f} |", flush=True)


def bodies(peer: Peer) -> None:
    seen: dict[str, list[Seen]] = {}
    for _ in range(ROUNDS):
        for name, request in BODIES.items():
            seen.setdefault(name, []).append(asked(peer, request, clients=8))
    table("body, 8 clients", seen)


def budgets(peer: Peer, environment: Mapping[str, str]) -> None:
    """Hard budgets that all apply to the request: for everything, its alias and its provider, of a day and a month."""
    seen: dict[str, list[Seen]] = {}
    for _ in range(ROUNDS):
        for count in BUDGETS:
            program = f"""
from accounting.models import Budget
kinds = [(scope, value, period) for period in ("day", "month")
         for scope, value in (("global", ""), ("alias", "gpt-4o"), ("provider", "openai"))][:{count}]
Budget.objects.update(enabled=False)
for scope, value, period in kinds:
    Budget.objects.update_or_create(name=f"{{scope}} a {{period}}", defaults=dict(
        scope=scope, scope_value=value, period=period, limit_usd=1_000_000, enabled=True))
"""
            shell(program, environment)
            load.run(peer.port, BODIES["a short message"], clients=64, seconds=1)
            seen.setdefault(f"{count}", []).append(asked(peer, BODIES["a short message"], clients=64))
    table("budgets of a request, 64 clients", seen)


def streams(peer: Peer) -> None:
    """Slow streams, an event a second. CPU and memory are taken while all of them are open."""
    print("\n| open streams | CPU ms a second | CPU ms an event | own MB | p99 delay of an event, ms |")
    print("|---:|---:|---:|---:|---:|")
    request = chat(peers.PACED, peer.headers, streamed=True)
    for count in STREAMS:
        with ThreadPoolExecutor(1) as thread:
            load_of = thread.submit(
                load.streamed, peer.port, request, streams=count, seconds=0, begin_within_s=BEGIN_WITHIN_S
            )
            time.sleep(BEGIN_WITHIN_S + 1)
            before = peers.cpu_s(peer.workers())
            time.sleep(COUNTED_S)
            cpu_ms = (peers.cpu_s(peer.workers()) - before) * 1000
            own_mb = sum(process.memory_full_info().uss for process in peer.workers()) / 2**20
            seen = load_of.result()
        if seen.events != count * STREAM_EVENTS:
            raise SystemExit(f"{seen.events} of {count * STREAM_EVENTS} events arrived")
        an_event = cpu_ms / COUNTED_S / count * STREAM_INTERVAL_S
        print(
            f"| {count:,} | {cpu_ms / COUNTED_S:.1f} | {an_event:.3f} | {own_mb:.0f} | {seen.delay_p99_ms:.1f} |",
            flush=True,
        )


def workers(environment: Mapping[str, str], port: int) -> None:
    seen: dict[str, list[Seen]] = {}
    for count in WORKERS:
        with started({**environment, "WEB_CONCURRENCY": str(count)}, port) as peer:
            seen[f"{count}"] = [asked(peer, BODIES["a short message"], clients=64) for _ in range(ROUNDS)]
    table("workers, 64 clients", seen)


def shell(program: str, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", program]
    subprocess.run(command, cwd=peers.ROOT, env={**os.environ, **environment}, check=True)


@contextlib.contextmanager
def started(environment: Mapping[str, str], port: int) -> Iterator[Peer]:
    """Our gateway, after its first requests."""
    ready = BODIES["a short message"]
    with peers.running("us", port, GATEWAY, dict(environment), ready) as peer:
        load.run(peer.port, ready, clients=64, seconds=2)
        yield peer


def main() -> None:
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(peers.upstream(events=100))
        slow = stack.enter_context(peers.upstream(STREAM_EVENTS, STREAM_INTERVAL_S))
        port, environment = peers.prepared(upstream, slow, place)
        workers(environment, port)
        # Its only client may have all of the worker's places.
        with started({**environment, "GATEWAY_KEY_CONCURRENCY": f"{STREAMS[-1]}"}, port) as peer:
            bodies(peer)
            streams(peer)
            budgets(peer, environment)


if __name__ == "__main__":
    main()
