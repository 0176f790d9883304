"""The ledger's door: each process has one writer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.ledger.spender import environment

#: Each writer prints its name and its process. The parent starts a writer and forks; the child starts its own.
FORKING = """
import os, django
django.setup()
from accounting import ledger

class Named:
    def __init__(self, name): self.name = name
    def start(self): print(self.name, "starts in the", whose, flush=True)
    def stop(self): print(self.name, "stops in the", whose, flush=True)
    def settle(self, settlement): print(self.name, "settles in the", whose, flush=True); return True

whose = "parent"
ledger.stop()  # nothing has started: nothing to stop
ledger.start(Named("first"))
ledger.settle(None)
if child := os.fork():
    os.waitpid(child, 0)
    try:
        ledger.start(Named("third"))
    except RuntimeError as error:
        print(error, flush=True)
    ledger.start()
    ledger.stop()
else:
    whose = "child"
    ledger.stop()  # the parent's writer is not the child's to stop
    ledger.start(Named("second"))
    ledger.settle(None)
"""


@pytest.mark.django_db
def test_a_forked_worker_has_a_writer_of_its_own() -> None:
    run = subprocess.run([sys.executable, "-c", FORKING], env=environment(), capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        "first starts in the parent",
        "first settles in the parent",
        "second starts in the child",
        "second settles in the child",
        "this process has a ledger writer already",
        "first starts in the parent",
        "first stops in the parent",
    ]
