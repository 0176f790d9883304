"""``python -m bench.instructions``: how many instructions a request takes of our worker, against ``budget.toml``.

A time depends on the machine and on whoever else uses it. A count hardly does: valgrind's callgrind executes the worker
and counts. It takes fifty times as long, so a few hundred requests of each kind have to do. What the worker does by
the clock (its heartbeat, the breakers' sharing) is counted while nobody asks, and taken off.

Counts of two builds of Python cannot be compared.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import load, peers
from gateway_project.embedded_postgres import EmbeddedPostgres, stop_with_parent
from gateway_project.launched import LAUNCHER, SERVE

EVENTS = 100  # content events of a stream
CLIENTS = 8
WHOLE, STREAMS = 160, 12  # how many are counted
WARM_UP = 32
IDLE_S = 8
TOLERATED = 1.05
OVER = 3  # the exit status that says so, and not that nothing could be counted
START_WITHIN_S = 1200
BUDGET = Path(__file__).with_name("budget.toml")
ALIASES = {"openai": "gpt-4o", "anthropic": "claude-sonnet", "gemini": "gemini-pro"}
_TOTALS = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def chat(alias: str, *, streamed: bool) -> bytes:
    body = {"model": alias, "messages": [{"role": "user", "content": "Say hello to the bench"}], "max_tokens": 100}
    headers = {"Authorization": f"Bearer {peers.MASTER_KEY}"}
    return load.request("/v1/chat/completions", {**body, "stream": streamed}, headers)


class Counted:
    """The gateway's only worker, under callgrind. It counts when it is told to."""

    def __init__(self, port: int, worker: int, place: Path) -> None:
        self.port = port
        self._worker = worker
        self._place = place
        self._a_second = 0.0  # what the worker does by the clock

    def rest(self) -> None:
        """Counts what the worker does while nobody asks."""
        self._tell("instrumentation", "on")
        time.sleep(1)
        counted, took_s = self._counted(lambda: time.sleep(IDLE_S))
        self._tell("instrumentation", "off")
        self._a_second = counted / took_s

    def instructions(self, request: bytes, requests: int) -> float:
        """What one of so many requests took."""
        load.times(self.port, request, clients=CLIENTS, requests=WARM_UP)
        self._tell("instrumentation", "on")
        load.times(self.port, request, clients=CLIENTS, requests=CLIENTS)
        counted, took_s = self._counted(lambda: load.times(self.port, request, clients=CLIENTS, requests=requests))
        self._tell("instrumentation", "off")
        return (counted - self._a_second * took_s) / requests

    def _counted(self, work: Callable[[], None]) -> tuple[int, float]:
        """How many instructions, and for how long."""
        self._tell("zero")
        began = time.monotonic()
        work()
        took_s = time.monotonic() - began
        self._tell("dump")
        dumps = sorted(self._place.glob(f"callgrind.{self._worker}.*"), key=lambda dump: dump.stat().st_mtime_ns)
        totals = _TOTALS.search(dumps[-1].read_text())
        assert totals is not None
        return int(totals[1]), took_s

    def _tell(self, *words: str) -> None:
        command = ["vgdb", f"--pid={self._worker}", "--wait=20", *words]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def counted(upstream_port: int, place: Path) -> Iterator[Counted]:
    port, environment = peers.prepared(upstream_port, upstream_port, place)
    postgres = EmbeddedPostgres(place / "data" / "postgres")
    postgres.start()
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={place}/callgrind.%p"]
    command += [sys.executable, "-m", "gunicorn", "--config", "bench/counted.conf.py", "gateway_project.wsgi"]
    environment = {**os.environ, **environment, "PYTHONHASHSEED": "0", LAUNCHER: str(os.getpid())}
    with (place / "gateway.log").open("w+b") as log:
        process = subprocess.Popen(
            command,
            cwd=peers.ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=stop_with_parent(signal.SIGTERM),  # noqa: PLW1509
        )
        assert process.stdin is not None
        process.stdin.write(SERVE)  # as its launcher says it: the database is prepared
        process.stdin.flush()
        try:
            _wait(process, port, place / "gateway.log")
            yield Counted(port, process.pid, place)
        finally:
            process.kill()
            process.wait()
            postgres.stop()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends_at = time.monotonic() + START_WITHIN_S
    while time.monotonic() < ends_at and process.poll() is None:
        with contextlib.suppress(OSError):
            load.times(port, chat("gpt-4o", streamed=False), clients=1, requests=1)
            return
        time.sleep(0.5)
    raise SystemExit(f"the gateway did not start under valgrind:\n{log.read_text()[-3000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions")
    parser.add_argument("--only", help="one name of the budget")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("valgrind is missing: apt-get install valgrind", file=sys.stderr)
        return 2
    written = tomllib.loads(BUDGET.read_text(encoding="utf-8"))
    budget: dict[str, float] = written["instructions"]
    is_comparable = sys.version == written["python"]
    over = []
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        worker = stack.enter_context(counted(stack.enter_context(peers.upstream(EVENTS)), place))
        for alias in ALIASES.values():  # what is done by the clock is done for those that have been asked
            load.times(worker.port, chat(alias, streamed=False), clients=1, requests=2)
        worker.rest()
        for name, allowed in budget.items():
            if options.only not in (None, name):
                continue
            kind, _, form = name.partition("_")
            streamed = form == "event"
            request = chat(ALIASES[kind], streamed=streamed)
            count = STREAMS if streamed else WHOLE
            seen = worker.instructions(request, count) / (EVENTS if streamed else 1)
            if seen > allowed * TOLERATED:  # once more, because a batch of the ledger's may have been in the way
                seen = min(seen, worker.instructions(request, count) / (EVENTS if streamed else 1))
            print(f"{name:18} {seen:12,.0f}  budget {allowed:12,.0f}  {seen / allowed:6.3f}", flush=True)
            if seen > allowed * TOLERATED:
                over.append(name)
    if not is_comparable:
        print(f"not compared: the budget is of Python {written['python']}, and this is {sys.version}")
        return 0
    for name in over:
        print(f"{name} takes more than {TOLERATED - 1:.0%} above its budget in {BUDGET.name}", file=sys.stderr)
    return OVER if over else 0


if __name__ == "__main__":
    sys.exit(main())
