"""``make bench``: us, with the ledger on, and our peers, without a database, in one run on one machine.

All have the same static upstream and one worker, in interleaved rounds. The ratios count, not the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import psycopg

from bench import load, peers
from bench.peers import Peer
from gateway_project.embedded_postgres import EmbeddedPostgres

EVENTS = 100  # content events of a stream
INTERVAL_S = 0.02  # between the events of a paced stream
LATE_MS = 100.0  # a worker's limit: the 99th percentile of the events' delay stays below it
LADDER = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # paced streams at a time
DOCUMENT = peers.ROOT / "docs" / "benchmarks.md"


def chat(alias: str, headers: dict[str, str], *, streamed: bool = False, path: str = "/v1") -> bytes:
    body = {"model": alias, "messages": [{"role": "user", "content": "Say hello to the bench"}], "max_tokens": 100}
    authorization = {"Authorization": f"Bearer {peers.MASTER_KEY}"}
    return load.request(f"{path}/chat/completions", {**body, "stream": streamed}, {**authorization, **headers})


@dataclass(frozen=True)
class Row:
    """A measure, and the peers that it is taken of."""

    name: str
    aims: dict[str, str]  # peer → the ratio to it that we aim at
    measure: Callable[[Peer], float]
    among: tuple[str, ...] = ("us", "litellm")


#: Portkey joins for whole answers in OpenAI's format: 1.15.2 fails streams on Node.js 24 (`TypeError: immutable`).
ALL = ("us", "litellm", "portkey")


def throughput(alias: str, seconds: float) -> Callable[[Peer], float]:
    def measure(peer: Peer) -> float:
        seen = load.run(peer.port, chat(alias, peer.headers), clients=64, seconds=seconds)
        if seen.failed:
            raise SystemExit(f"{peer.name}: {seen.failed} of {seen.requests} requests failed")
        return seen.per_second

    return measure


def added_latency(upstream_port: int, seconds: float) -> Callable[[Peer], float]:
    def measure(peer: Peer) -> float:
        bare = load.run(upstream_port, chat("gpt-4o", {}, path="/openai/v1"), clients=1, seconds=seconds / 4)
        return load.run(peer.port, chat("gpt-4o", peer.headers), clients=1, seconds=seconds).p50_ms - bare.p50_ms

    return measure


def request_cpu(seconds: float) -> Callable[[Peer], float]:
    """The worker's CPU alone. Unlike the two measures above, it hardly depends on other work on the machine."""

    def measure(peer: Peer) -> float:
        workers = peer.workers()
        before = peers.cpu_s(workers)
        seen = load.run(peer.port, chat("gpt-4o", peer.headers), clients=64, seconds=seconds)
        return (peers.cpu_s(workers) - before) * 1000 / seen.requests

    return measure


def event_cpu(alias: str, seconds: float) -> Callable[[Peer], float]:
    """CPU an event. The request's own cost is spread over its events, because it is part of a stream's cost."""

    def measure(peer: Peer) -> float:
        workers = peer.workers()
        before = peers.cpu_s(workers)
        seen = load.run(peer.port, chat(alias, peer.headers, streamed=True), clients=8, seconds=seconds)
        if seen.failed:
            raise SystemExit(f"{peer.name}: {seen.failed} of {seen.requests} streams failed")
        return (peers.cpu_s(workers) - before) * 1000 / (seen.requests * EVENTS)

    return measure


def paced_streams(seconds: float, ladder: tuple[int, ...]) -> Callable[[Peer], float]:
    def measure(peer: Peer) -> float:
        carried = 0
        for streams in ladder:
            request = chat(peers.PACED, peer.headers, streamed=True)
            if load.streamed(peer.port, request, streams=streams, seconds=seconds).delay_p99_ms >= LATE_MS:
                break
            carried = streams
        return float(carried)

    return measure


def worst_bodies(headers: dict[str, str]) -> dict[str, bytes]:
    """The largest bodies that the gateway takes, which keep its thread the longest."""
    part = {"type": "text", "text": "x" * 500}
    bodies = {
        "text": [{"role": "user", "content": "A sentence of the bench. " * 780_000}],
        "messages": [{"role": "user", "content": [part]} for _ in range(33_000)],
        "lists": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 49_000}],
    }
    authorization = {"Authorization": f"Bearer {peers.MASTER_KEY}"}
    return {
        name: load.request(
            "/v1/chat/completions", {"model": "gpt-4o", "messages": messages}, {**authorization, **headers}
        )
        for name, messages in bodies.items()
    }


def beside_the_worst(seconds: float) -> Callable[[Peer], float]:
    """How many times as long as idle neighbours wait (p99) beside one client that sends the worst body all the time."""

    def measure(peer: Peer) -> float:
        def neighbours() -> float:
            return load.run(peer.port, chat("gpt-4o", peer.headers), clients=4, seconds=seconds).p99_ms

        slowest = 0.0
        for name, body in worst_bodies(peer.headers).items():
            idle_ms = neighbours()
            attacker = multiprocessing.get_context("spawn").Process(
                target=load.run, args=(peer.port, body), kwargs={"clients": 1, "seconds": seconds + 5}
            )
            attacker.start()
            time.sleep(2)  # until it has begun
            beside_ms = neighbours()
            attacker.join()
            print(f"  beside {name}: p99 {beside_ms:.1f} ms, idle {idle_ms:.1f} ms", flush=True)
            slowest = max(slowest, beside_ms / idle_ms)
        return slowest

    return measure


class Neighbours:
    """The CPU that processes outside this run take meanwhile.

    They slow all peers, and most of all a peer that hands a request from process to process.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._machine_s, self._own_s = self._busy_s()

    @staticmethod
    def _busy_s() -> tuple[float, float]:
        spent = psutil.cpu_times()
        this = psutil.Process()
        own = peers.cpu_s([this, *this.children(recursive=True)])
        return spent.user + spent.nice + spent.system + spent.irq + spent.softirq + spent.steal, own

    def cores(self) -> float:
        machine_s, own_s = self._busy_s()
        return (machine_s - self._machine_s - own_s + self._own_s) / (time.monotonic() - self._began)


def bare_commit_p50_ms(dsn: str, seconds: float) -> float:
    """The time of a durable commit of one row, which this disk costs every gateway."""
    durations = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_commit (at timestamptz)")
        ends_at = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends_at:
            connection.execute("INSERT INTO bench_commit VALUES (clock_timestamp())")
            durations.append(time.perf_counter() - began)
        connection.execute("DROP TABLE bench_commit")
    return statistics.median(durations) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--quick", action="store_true", help="one short round, about two minutes; writes no document")
    options = parser.parse_args()
    rounds, seconds = (1, 2.5) if options.quick else (3, 4.0)
    ladder = LADDER[::2] if options.quick else LADDER
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(peers.upstream(EVENTS))
        paced = stack.enter_context(peers.upstream(EVENTS, INTERVAL_S))
        to_custom_host = {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/openai/v1",
        }
        ready = chat("gpt-4o", {})
        running = [
            stack.enter_context(peers.us(upstream, paced, place, ready)),
            stack.enter_context(peers.litellm(upstream, paced, place, ready)),
            stack.enter_context(peers.portkey(chat("gpt-4o", to_custom_host), to_custom_host)),
        ]
        rows = [
            Row(
                "requests/s, OpenAI format, 64 clients",
                {"litellm": "≥ 15", "portkey": "≥ 0.8"},
                throughput("gpt-4o", seconds),
                ALL,
            ),
            Row("requests/s, Anthropic, 64 clients", {"litellm": "≥ 10"}, throughput("claude-sonnet", seconds)),
            Row("requests/s, Gemini, 64 clients", {"litellm": "≥ 10"}, throughput("gemini-pro", seconds)),
            Row(
                "added latency, 1 client, p50 ms",
                {"litellm": "≤ 0.2", "portkey": "≤ 1.3"},
                added_latency(upstream, seconds),
                ALL,
            ),
            Row("CPU ms a whole request, OpenAI format", {}, request_cpu(seconds), ALL),
            Row("CPU ms a streamed event, OpenAI format", {"litellm": "≤ 0.04"}, event_cpu("gpt-4o", seconds)),
            Row("CPU ms a streamed event, Anthropic", {"litellm": "≤ 0.056"}, event_cpu("claude-sonnet", seconds)),
            Row("CPU ms a streamed event, Gemini", {"litellm": "≤ 0.04"}, event_cpu("gemini-pro", seconds)),
        ]
        for peer in running:  # no peer's figures include its first requests
            for alias in peers.FORMATS if peer.name != "portkey" else ("gpt-4o",):
                for streamed in (False, True) if peer.name != "portkey" else (False,):
                    load.run(peer.port, chat(alias, peer.headers, streamed=streamed), clients=4, seconds=1)
        neighbours = Neighbours()
        table = [_line(row, _rounds(row, running, rounds)) for row in rows]
        streams = Row(
            f"streams at {1 / INTERVAL_S:g} events/s, p99 delay < {LATE_MS:g} ms",
            {"litellm": "≥ 10"},
            paced_streams(seconds / 2, ladder),
        )
        table += _memory(running)
        table.append(_line(streams, _rounds(streams, running, 1)))
        table.append(_own(running, "after these streams"))
        cores = len(os.sched_getaffinity(0))
        busy = f"Other work on the machine took {neighbours.cores():.2g} of its {cores} cores meanwhile."
        table.append(_read_once(START, {peer.name: peer.started_s for peer in running}, litellm="≤ 0.35"))
        beside = Row(
            "p99 of 4 clients beside the worst bodies, to idle (≤ 10)", {}, beside_the_worst(seconds / 2), ("us",)
        )
        # After the memory, of which such bodies and hundreds of streams take more.
        table.append(_line(beside, _rounds(beside, running, 1)))
        limits = [busy, *_limits(running[0], upstream, EmbeddedPostgres(place / "data" / "postgres").dsn(), seconds)]
    text = _document(table, limits, rounds, seconds)
    print("\n" + text)
    if not options.quick:
        # The sections below the table are written by hand.
        _, section, rest = DOCUMENT.read_text(encoding="utf-8").partition("\n## ")
        DOCUMENT.write_text(text + section + rest, encoding="utf-8")
    return 0


def _rounds(row: Row, running: list[Peer], rounds: int) -> dict[str, list[float]]:
    """Measures peer by peer in each round, in rotating order, so that a noisy minute hits all peers."""
    seen: dict[str, list[float]] = {name: [] for name in row.among}
    for number in range(rounds):
        among = [peer for peer in running if peer.name in row.among]
        for peer in among if number % 2 == 0 else reversed(among):
            seen[peer.name].append(row.measure(peer))
            print(f"{row.name:46} round {number + 1}  {peer.name:8} {seen[peer.name][-1]:10.3f}", flush=True)
    return seen


def _line(row: Row, seen: dict[str, list[float]]) -> str:
    """A line of the table: each peer's figures, then our ratio to each peer and the ratio that we aim at."""
    cells = [row.name]
    cells += [_spread(seen[name]) if name in seen else "-" for name in ALL]
    for name in ALL[1:]:
        if name not in seen:
            cells.append("-")
            continue
        theirs = statistics.median(seen[name])
        ratio = f"{statistics.median(seen['us']) / theirs:.3g}" if theirs else "∞"
        cells.append(f"{ratio} ({row.aims[name]})" if name in row.aims else ratio)
    return f"| {' | '.join(cells)} |"


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{min(values):.3g} / **{statistics.median(values):.3g}** / {max(values):.3g}"


OWN = "… its own: what each further worker costs, MB"
START = "start to first chat answer, s"


def _memory(running: list[Peer]) -> list[str]:
    memory = {peer.name: [process.memory_full_info() for process in peer.workers()] for peer in running}
    return [
        _read_once("worker's resident memory, MB", {n: sum(i.rss for i in m) / 2**20 for n, m in memory.items()}),
        _read_once(
            "… its share of what processes share (PSS), MB",
            {n: sum(i.pss for i in m) / 2**20 for n, m in memory.items()},
        ),
        _own(running, "(≤ 60)"),
    ]


def _own(running: list[Peer], when: str) -> str:
    """What a process alone has, and so each further worker takes."""
    own = {p.name: sum(process.memory_full_info().uss for process in p.workers()) / 2**20 for p in running}
    return _read_once(f"{OWN} {when}", own)


def _read_once(name: str, figures: dict[str, float], **aims: str) -> str:
    return _line(Row(name, aims, lambda _: 0.0, ALL), {peer: [figure] for peer, figure in figures.items()})


def _limits(ours: Peer, upstream: int, dsn: str, seconds: float) -> list[str]:
    """The notes below the table: the load client's own limit, this disk, and Postgres's part."""
    bare = load.run(upstream, chat("gpt-4o", {}, path="/openai/v1"), clients=64, seconds=seconds / 2)
    workers, postgres = ours.workers(), ours.postgres()
    before = peers.cpu_s(workers), peers.cpu_s(postgres)
    seen = load.run(ours.port, chat("gpt-4o", {}), clients=64, seconds=seconds)
    worker_ms = (peers.cpu_s(workers) - before[0]) * 1000 / seen.requests
    postgres_ms = (peers.cpu_s(postgres) - before[1]) * 1000 / seen.requests
    memory = sum(process.memory_full_info().pss for process in postgres) / 2**20
    return [
        f"The load client reaches the upstream itself at {bare.per_second:,.0f} requests/s: neither is the limit.",
        f"One durable commit of one row takes {bare_commit_p50_ms(dsn, seconds / 4):.2g} ms (p50) on this disk; the "
        "ledger makes two a request, and they are a part of our added latency. The peers write nothing.",
        f"A whole OpenAI-format request costs our worker {worker_ms:.2g} ms of CPU and Postgres {postgres_ms:.2g} ms. "
        f"Postgres weighs {memory:.0f} MB (PSS) beside the worker.",
    ]


def _document(table: list[str], limits: list[str], rounds: int, seconds: float) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("Django", "gunicorn", "gevent", "litellm", "psycopg"))
    portkey = peers.PORTKEY_PIN.rpartition("@")[2]
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `make bench`: our gateway with its ledger **on** (two durable, group-committed transactions a",
            "request, in its embedded Postgres), LiteLLM's proxy and Portkey's gateway without a database; the same",
            "static upstream, one worker each, interleaved rounds in one run. The ratios are what counts.",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores shared by load "
            f"client, upstream, Postgres and gateway, Python {platform.python_version()}, {packages}; "
            f"{peers.LITELLM_PIN.replace('==', ' ')}; Portkey {portkey}.",
            f"Rounds: {rounds} of {seconds:g} s; min / **median** / max. Streams have {EVENTS} content events.",
            "",
            "| | us | LiteLLM | Portkey | us : LiteLLM (aim) | us : Portkey (aim) |",
            "|---|---:|---:|---:|---:|---:|",
            *table,
            "",
            *(f"- {limit}" for limit in limits),
            "- “Start” is with a database that exists: our first start ever also creates and migrates it.",
            "- Portkey takes part for whole answers in OpenAI's format, and keeps no books. Its streams fail: 1.15.2",
            "  answers them with 500 (`TypeError: immutable`) on the Node.js 24 of our development requirements.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
