"""``make bench``: us, with the ledger on, and LiteLLM's proxy, without a database, in one run on one machine.

Same static upstream, one worker each, interleaved rounds. What counts is the ratio; the figures are this machine's.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import load, peers

EVENTS = 100  # content events of a stream
DOCUMENT = peers.ROOT / "docs" / "benchmarks.md"


def chat(alias: str, *, streamed: bool = False) -> bytes:
    body = {"model": alias, "messages": [{"role": "user", "content": "Say hello to the bench"}], "max_tokens": 100}
    return load.request(
        "/v1/chat/completions", {**body, "stream": streamed}, {"Authorization": f"Bearer {peers.MASTER_KEY}"}
    )


def direct() -> bytes:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello to the bench"}], "max_tokens": 100}
    return load.request("/openai/v1/chat/completions", body, {"Authorization": f"Bearer {peers.MASTER_KEY}"})


Measure = Callable[[peers.Peer], float]


def throughput(alias: str, seconds: float) -> Measure:
    def measure(peer: peers.Peer) -> float:
        seen = load.run(peer.port, chat(alias), clients=64, seconds=seconds)
        if seen.failed:
            raise SystemExit(f"{peer.name}: {seen.failed} of {seen.requests} requests failed")
        return seen.per_second

    return measure


def latency(upstream_port: int, seconds: float) -> Measure:
    def measure(peer: peers.Peer) -> float:
        bare = load.run(upstream_port, direct(), clients=1, seconds=seconds / 2)
        return load.run(peer.port, chat("gpt-4o"), clients=1, seconds=seconds).p50_ms - bare.p50_ms

    return measure


def event_cpu(alias: str, seconds: float) -> Measure:
    def measure(peer: peers.Peer) -> float:
        before = peer.cpu_s()
        seen = load.run(peer.port, chat(alias, streamed=True), clients=8, seconds=seconds)
        return (peer.cpu_s() - before) * 1000 / (seen.requests * EVENTS)

    return measure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--quick", action="store_true", help="one round of short measurements, about two minutes")
    options = parser.parse_args()
    rounds, seconds = (1, 4.0) if options.quick else (3, 8.0)
    with tempfile.TemporaryDirectory() as directory, peers.upstream(EVENTS) as upstream:
        place = Path(directory)
        with peers.us(upstream, place / "data") as ours, peers.litellm(upstream, place) as theirs:
            measures: dict[str, tuple[str, Measure, bool]] = {
                "requests/s, OpenAI format, 64 clients": ("≥ 10 x", throughput("gpt-4o", seconds), True),
                "requests/s, Anthropic, 64 clients": ("≥ 5 x", throughput("claude-sonnet", seconds), True),
                "requests/s, Gemini, 64 clients": ("≥ 5 x", throughput("gemini-pro", seconds), True),
                "added latency, 1 client, p50 ms": ("≤ 0.4 x", latency(upstream, seconds), False),
                "CPU ms a streamed event, OpenAI format": ("≤ 0.083 x", event_cpu("gpt-4o", seconds), False),
                "CPU ms a streamed event, Anthropic": ("≤ 0.25 x", event_cpu("claude-sonnet", seconds), False),
                "CPU ms a streamed event, Gemini": ("≤ 0.25 x", event_cpu("gemini-pro", seconds), False),
            }
            for peer in (ours, theirs):  # neither pays for first times
                for alias in peers.FORMATS:
                    for streamed in (False, True):
                        load.run(peer.port, chat(alias, streamed=streamed), clients=4, seconds=1)
            seen: dict[str, dict[str, list[float]]] = {name: {"us": [], "litellm": []} for name in measures}
            for number in range(rounds):
                for name, (_, measure, _) in measures.items():
                    for peer in (ours, theirs) if number % 2 == 0 else (theirs, ours):
                        seen[name][peer.name].append(measure(peer))
                        print(
                            f"round {number + 1}  {name:42} {peer.name:8} {seen[name][peer.name][-1]:10.3f}", flush=True
                        )
            rows = [
                (name, target, _spread(seen[name]["us"]), _spread(seen[name]["litellm"]), _ratio(seen[name]))
                for name, (target, _, _) in measures.items()
            ]
            memory = {p.name: (p.rss_mb(), p.private_mb()) for p in (ours, theirs)}
            rows.append(_row("worker's resident memory, MB", "-", *(memory[n][0] for n in ("us", "litellm"))))
            rows.append(
                _row("… of it private to the worker, MB", "≤ 0.5 x", *(memory[n][1] for n in ("us", "litellm")))
            )
            rows.append(_row("start to first answer, s", "≤ 0.5 x", ours.started_s, theirs.started_s))
    text = _document(rows, rounds, seconds)
    DOCUMENT.write_text(text, encoding="utf-8")
    print("\n" + text)
    return 0


def _spread(values: list[float]) -> str:
    ordered = sorted(values)
    if len(ordered) == 1:
        return f"{ordered[0]:.3g}"
    return f"{ordered[0]:.3g} / {statistics.median(ordered):.3g} / {ordered[-1]:.3g}"


def _ratio(values: dict[str, list[float]]) -> str:
    return f"{statistics.median(values['us']) / statistics.median(values['litellm']):.3g} x"


def _row(name: str, target: str, ours: float, theirs: float) -> tuple[str, str, str, str, str]:
    return name, target, f"{ours:.3g}", f"{theirs:.3g}", f"{ours / theirs:.3g} x"


def _document(rows: list[tuple[str, str, str, str, str]], rounds: int, seconds: float) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("Django", "gunicorn", "gevent", "litellm", "psycopg"))
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`: our gateway with its ledger **on** (two durable commits a request, group-committed),",
        "LiteLLM's proxy without a database, the same static upstream, one worker each, interleaved rounds in one run.",
        "The ratio of the medians is what counts.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores shared by "
        f"load client, upstream, Postgres and gateway, Python {platform.python_version()}, {packages}.",
        f"Rounds: {rounds} of {seconds:g} s each; min / median / max. Streams have {EVENTS} content events.",
        "",
        "| | us | LiteLLM | us : LiteLLM | aim |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [f"| {name} | {ours} | {theirs} | {ratio} | {target} |" for name, target, ours, theirs, ratio in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
