"""The long form of the tests of bounds in tests/wire. TORTURE_EXAMPLES (20000) may shorten it."""

from __future__ import annotations

import os

from tests.unit import test_sound_costs
from tests.wire import (
    test_bounds,
    test_completions,
    test_gemini_bounds,
    test_images,
    test_messages_bounds,
    test_rerank,
    test_responses_bounds,
)

EXAMPLES = int(os.environ.get("TORTURE_EXAMPLES", "20000"))


def test_nothing_that_is_sent_can_cost_more_than_was_held() -> None:
    test_bounds.explore(EXAMPLES)


def test_nothing_that_is_sent_to_anthropic_as_it_came_can_cost_more_than_was_held() -> None:
    test_messages_bounds.explore(EXAMPLES)


def test_no_response_can_cost_more_than_was_held() -> None:
    test_responses_bounds.explore(EXAMPLES)


def test_nothing_that_is_sent_to_gemini_as_it_came_can_cost_more_than_was_held() -> None:
    test_gemini_bounds.explore(EXAMPLES)


def test_no_completion_that_is_sent_can_cost_more_than_was_held() -> None:
    test_completions.explore(EXAMPLES)


def test_no_picture_that_is_asked_for_can_cost_more_than_was_held() -> None:
    test_images.explore(EXAMPLES)


def test_nothing_that_is_ranked_can_cost_more_than_was_held() -> None:
    test_rerank.explore(EXAMPLES)


def test_no_bill_of_sound_can_be_dearer_than_its_hold() -> None:
    test_sound_costs.explore(EXAMPLES)
