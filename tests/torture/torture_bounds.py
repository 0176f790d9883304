"""The long form of tests/wire/test_bounds.py. TORTURE_EXAMPLES (20000) may shorten it."""

from __future__ import annotations

import os

from tests.wire.test_bounds import explore


def test_nothing_that_is_sent_can_cost_more_than_was_held() -> None:
    explore(examples=int(os.environ.get("TORTURE_EXAMPLES", "20000")))
