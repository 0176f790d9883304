"""The long form of tests/e2e/test_abuse.py: each attack for longer, and by more attackers."""

from __future__ import annotations

import os

os.environ.setdefault("ABUSE_IDLE_S", "5")
os.environ.setdefault("ABUSE_S", "20")

from tests.e2e.conftest import guarded_postgres, sim
from tests.e2e.test_abuse import abused, attacker, neighbour, test_neighbours_hardly_notice

__all__ = ["abused", "attacker", "guarded_postgres", "neighbour", "sim", "test_neighbours_hardly_notice"]
