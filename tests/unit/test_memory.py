"""What large bodies leave behind goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: 100 MB of blocks, every hundredth of which stays in use.
HOLES = """
import time, psutil
from routing.api import memory

memory.AFTER_S = 0.05
blocks = [bytes(1000) for _ in range(100_000)]
kept = blocks[::100]
del blocks
own_mb = lambda: psutil.Process().memory_info().rss / 2**20
before = own_mb()
for _ in range(1000):
    memory.give_back_soon()  # as often as it likes: the work is done once
deadline = time.monotonic() + 10
while own_mb() > before - 60 and time.monotonic() < deadline:
    time.sleep(0.02)
print(before - own_mb() > 60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has malloc_trim")
def test_holes_between_blocks_that_are_in_use_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
