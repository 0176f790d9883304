"""The long form of the random requests (tests/e2e/test_fuzz.py), new ones each time, each whole and streamed.

The environment may set FUZZ_EXAMPLES (2000), and FUZZ_SEED to play a run again. The seed is printed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import shared_gateway, sim
from tests.e2e.fuzz import fuzzing
from tests.e2e.gateway import Gateway

__all__ = ["shared_gateway", "sim"]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "0")) or random.randrange(1, 2**32)


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Iterator[Gateway]:
    yield shared_gateway
    shared_gateway.remove_routes()


def test_random_requests_are_answered_or_refused_in_their_own_words_and_are_settled(gateway: Gateway) -> None:
    print(f"FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}")  # noqa: T201
    with fuzzing(gateway) as fuzz:
        fuzz.run(EXAMPLES, seed_of_run=SEED, is_twofold=True)
        fuzz.assert_books_are_right()
    print("\n".join(f"{times:6} {what}" for what, times in fuzz.seen.most_common()))  # noqa: T201
