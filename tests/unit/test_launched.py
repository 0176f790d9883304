"""gunicorn loads the gateway while its launcher prepares the database, and serves at the launcher's word."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gateway_project.launched import LAUNCHER, SERVE

ASKED = "from gateway_project.launched import wait_until_prepared; print(wait_until_prepared(), wait_until_prepared())"


def asked(said: bytes, launcher: int = os.getpid()) -> tuple[int, str, str]:
    """What a child of ours learns of a launcher that says this and closes the pipe."""
    environment = {**os.environ, LAUNCHER: str(launcher)}
    done = subprocess.run([sys.executable, "-c", ASKED], input=said, env=environment, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_it_serves_when_the_launcher_says_so() -> None:
    assert asked(SERVE) == (0, "True True\n", "")


@pytest.mark.parametrize("said", [b"", SERVE[:3]])
def test_it_ends_without_a_word_when_the_launcher_could_not_prepare(said: bytes) -> None:
    assert asked(said) == (2, "", "")


def test_it_does_not_wait_for_a_launcher_that_is_not_its_parent() -> None:
    assert asked(b"", launcher=1) == (0, "False False\n", "")
