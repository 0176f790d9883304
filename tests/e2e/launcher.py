"""The real launcher as a process, as `make run` starts it, on a free port and in the test's own data directory."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RunningGateway:
    """One launcher and its children. ``output`` is what it has printed so far, stderr included."""

    def __init__(
        self,
        data_dir: Path,
        command: list[str],
        work_dir: Path,
        environment: dict[str, str],
        host: str = "127.0.0.1",
    ) -> None:
        self.data_dir = data_dir
        self.host = host  # the name that requests use
        self.environment = environment
        self.url = f"http://127.0.0.1:{environment['PORT']}"
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(
            command,
            cwd=work_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @classmethod
    def in_tree(cls, data_dir: Path, **variables: str) -> RunningGateway:
        """The gateway of this tree, with its embedded Postgres unless DATABASE_URL is among the variables."""
        environment = {
            "PATH": os.environ["PATH"],
            "GATEWAY_ENV_FILE": os.devnull,
            "GATEWAY_DATA_DIR": str(data_dir),
            "WEB_CONCURRENCY": "1",
            "PORT": str(free_port()),
            **variables,
        }
        return cls(data_dir, [sys.executable, "-m", "gateway_project.run"], ROOT, environment)

    @property
    def output(self) -> str:
        self._log.flush()
        return os.pread(self._log.fileno(), 10_000_000, 0).decode()

    def wait_until_ready(self) -> float:
        """Wait until the gateway has printed its banner and answers. Returns how many seconds that took."""
        started = time.monotonic()
        while time.monotonic() - started < START_TIMEOUT_S:
            assert self.process.poll() is None, self.output
            if "  Gateway   " in self.output and self.status("/health/live") == 200:
                return time.monotonic() - started
            time.sleep(0.1)
        raise AssertionError(f"not ready in {START_TIMEOUT_S} s:\n{self.output}")

    def status(self, path: str) -> int:
        """The HTTP status of a GET; 0 when nobody answers."""
        try:
            request = urllib.request.Request(self.url + path, headers={"Host": self.host})
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    @property
    def password(self) -> str:
        found = re.search(r"one-time password (\S+)", self.output)
        assert found, self.output
        return found[1]

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`manage.py …` with this gateway's environment."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def descendants(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.data_dir / "postgres/postmaster.pid").read_text().split()[0]))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        self._log.close()
