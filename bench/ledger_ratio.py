"""What the ledger costs: our requests a second with and without it, in one run: ``python -m bench.ledger_ratio``.

Both gateways have one worker and the same code, Postgres and static upstream, in interleaved rounds. Without the
ledger, a writer admits all requests and keeps nothing. So the difference is a request's two durable transactions and
all that leads to them.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench import load, peers
from bench.__main__ import chat
from bench.peers import KEYS, Peer, free_port
from gateway_project.embedded_postgres import EmbeddedPostgres

ROUNDS, SECONDS = 5, 4.0


def main() -> None:
    ready = chat("gpt-4o", {})
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(peers.upstream(events=100))
        on = stack.enter_context(peers.us(upstream, upstream, place, ready))
        port = free_port()
        environment = {
            **KEYS,
            "GATEWAY_ENV_FILE": os.devnull,
            "DATABASE_URL": EmbeddedPostgres(place / "data" / "postgres").url(),
            "SECRET_KEY": "for an hour, on loopback, and with nothing to sign",
            "PORT": str(port),
            "WEB_CONCURRENCY": "1",
        }
        command = [sys.executable, "-m", "gunicorn", "-c", "bench/without_ledger.conf.py"]
        off = stack.enter_context(peers.running("without", port, command, environment, ready))
        for peer in (on, off):  # the figures do not include the first requests
            load.run(peer.port, ready, clients=4, seconds=1)
        print("| clients | with ledger, requests/s | without | ratio (min / median / max) |\n|---:|---:|---:|---|")
        for clients in (1, 8, 64):
            seen = [(_per_second(on, ready, clients), _per_second(off, ready, clients)) for _ in range(ROUNDS)]
            ratios = sorted(with_ledger / without for with_ledger, without in seen)
            with_ledger, without = (statistics.median(column) for column in zip(*seen, strict=True))
            spread = f"{ratios[0]:.2f} / {statistics.median(ratios):.2f} / {ratios[-1]:.2f}"
            print(f"| {clients} | {with_ledger:.0f} | {without:.0f} | {spread} |", flush=True)


def _per_second(peer: Peer, data: bytes, clients: int) -> float:
    seen = load.run(peer.port, data, clients=clients, seconds=SECONDS)
    if seen.failed:
        raise SystemExit(f"{peer.name}: {seen.failed} of {seen.requests} requests failed")
    return seen.per_second


if __name__ == "__main__":
    main()
