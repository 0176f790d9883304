"""What is compared, as processes: the static upstream, us with the ledger on, LiteLLM's proxy without a database."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
LITELLM = ROOT / ".bench" / "litellm"
LITELLM_PIN = "litellm[proxy]==1.106.2"
KEYS = {"OPENAI_API_KEY": "sk-bench", "ANTHROPIC_API_KEY": "sk-ant-bench", "GEMINI_API_KEY": "AIza-bench"}
#: alias → (provider's name here, litellm's name, model, where the static upstream plays it)
FORMATS = {
    "gpt-4o": ("openai", "openai", "gpt-4o", "/openai/v1"),
    "claude-sonnet": ("anthropic", "anthropic", "claude-sonnet-4-6", "/anthropic"),
    "gemini-pro": ("google", "gemini", "gemini-2.5-pro", "/gemini/v1beta"),
}
START_WITHIN_S = 120
MASTER_KEY = "sk-bench-9f1c2a7e4b6d8035"  # LiteLLM does not start without one; we take any on loopback


@dataclass
class Peer:
    name: str
    port: int
    process: subprocess.Popen[bytes]
    started_s: float  # until its first answer

    def workers(self) -> list[psutil.Process]:
        """The processes that answer requests: for us gunicorn's workers, not the launcher, not Postgres."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        if self.name == "us":
            gunicorn = [p for p in family if "gunicorn" in " ".join(p.cmdline())]
            return [p for p in gunicorn if p.parent() in gunicorn]
        return [p for p in family if "litellm" in " ".join(p.cmdline())]

    def cpu_s(self) -> float:
        return sum(sum(p.cpu_times()[:2]) for p in self.workers())

    def rss_mb(self) -> float:
        return float(sum(p.memory_info().rss for p in self.workers())) / 2**20

    def private_mb(self) -> float:
        return float(sum(p.memory_full_info().uss for p in self.workers())) / 2**20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _get(port: int, path: str) -> urllib.request.Request:
    return urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {MASTER_KEY}"})


@contextlib.contextmanager
def running(name: str, port: int, command: list[str], environment: dict[str, str], ready: str) -> Iterator[Peer]:
    """The process, once it answers at ``ready``; stopped at the end."""
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while time.monotonic() - began < START_WITHIN_S:
                with contextlib.suppress(OSError), urllib.request.urlopen(_get(port, ready), timeout=1):
                    break
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"{name} did not start:\n{log.read().decode()[-3000:]}")
                time.sleep(0.05)
            yield Peer(name, port, process, time.monotonic() - began)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def upstream(events: int) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "tests.simulator.static", "--port", str(port), "--events", str(events)]
    process = subprocess.Popen(command, cwd=ROOT)
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
def us(upstream_port: int, data_dir: Path) -> Iterator[Peer]:
    port = free_port()
    environment = {
        **KEYS,
        "GATEWAY_ENV_FILE": os.devnull,
        "GATEWAY_DATA_DIR": str(data_dir),
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
    }
    with running("us", port, [sys.executable, "-m", "gateway_project.run"], environment, "/v1/models") as peer:
        statements = [
            f"UPDATE routing_provider SET base_url = 'http://127.0.0.1:{upstream_port}{path}' WHERE name = '{name}';"
            for name, _, _, path in FORMATS.values()
        ]
        statements.append("UPDATE accounting_budget SET limit_usd = 1000000;")  # held and posted all the same
        subprocess.run(
            [sys.executable, "manage.py", "dbshell", "--", "-q", "-c", " ".join(statements)],
            cwd=ROOT,
            env={**os.environ, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        yield peer


@contextlib.contextmanager
def litellm(upstream_port: int, data_dir: Path) -> Iterator[Peer]:
    if not (LITELLM / "bin" / "litellm").exists():
        print(f"installing {LITELLM_PIN} into {LITELLM} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", LITELLM], check=True)
        subprocess.run([LITELLM / "bin" / "pip", "install", "-q", LITELLM_PIN], check=True)
    config = data_dir / "litellm.yaml"
    lines = ["model_list:"]
    for alias, (_, provider, model, path) in FORMATS.items():
        lines += [f"  - model_name: {alias}", "    litellm_params:", f"      model: {provider}/{model}"]
        lines += [f"      api_base: http://127.0.0.1:{upstream_port}{path}", "      api_key: sk-bench"]
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    port = free_port()
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
    }
    command = [
        str(LITELLM / "bin" / "litellm"),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    with running("litellm", port, command, environment, "/v1/models") as peer:
        yield peer
