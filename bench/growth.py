"""How cost grows with the ledger: an empty one and a full one, measured alike: ``python -m bench.growth``.

Both databases are on one server, and the rounds are interleaved. The ratio is the result: 1 means that the size of the
ledger does not matter. ``--keep DIRECTORY`` leaves the server's data there, so that ten million rows are written once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from gateway_project.embedded_postgres import EmbeddedPostgres

ROUNDS = 3
REQUESTS = 200  # a round
ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth")
    parser.add_argument("--rows", type=int, default=1_000_000, help="entries of the full ledger")
    parser.add_argument("--keep", type=Path, help="where the data stays; else it is thrown away")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "postgres"
        server = EmbeddedPostgres(place)
        stack.enter_context(server.shared())
        urls = [_database(server, rows) for rows in (0, options.rows)]
        seen: list[dict[str, list[float]]] = [{}, {}]
        for _ in range(ROUNDS):
            for url, figures in zip(urls, seen, strict=True):
                for name, ms in json.loads(_run(url)).items():
                    figures.setdefault(name, []).append(ms)
    print(f"| ms, median of {ROUNDS} rounds | empty ledger | {options.rows:,} entries | ratio |\n|---|---:|---:|---:|")
    for name in seen[0]:
        empty, full = (statistics.median(figures[name]) for figures in seen)
        print(f"| {name} | {empty:.1f} | {full:.1f} | {full / empty:.1f} |")


def _database(server: EmbeddedPostgres, rows: int) -> str:
    """The URL of a database with so many entries, all rolled up and proved. Made when it is not there."""
    name = f"growth_{rows}"
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            connection.execute(f'CREATE DATABASE "{name}"')
            _run(server.url(name), str(rows))
    return server.url(name)


def _run(url: str, *arguments: str) -> str:
    code = "import django, sys; django.setup(); from bench.growth_measures import main; main(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "GATEWAY_ENV_FILE": os.devnull,
        "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
        "SECRET_KEY": "for an hour, on loopback, and with nothing to sign",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def timed_ms(work: Callable[[], object]) -> float:
    """The better of two times: the first may read from the disk."""
    times = []
    for _ in range(2):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return min(times)


if __name__ == "__main__":
    main()
