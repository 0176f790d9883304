"""What a strict provider would refuse of a request, the client has sent itself: random requests show it.

The long form is tests/torture/torture_fuzz.py.
"""

from __future__ import annotations

import pytest

from tests.e2e.fuzz import fuzzing, strange_names
from tests.e2e.gateway import Gateway


def test_a_random_request_is_answered_or_refused_in_its_own_words_and_is_settled(gateway: Gateway) -> None:
    with fuzzing(gateway) as fuzz:
        fuzz.run(examples=150)
        fuzz.assert_books_are_right()


@pytest.mark.parametrize(
    ("param", "message", "strange"),
    [
        ("stop", "'stop' is too long", set()),
        ("messages[0].content[1]", "Claude takes no sound", set()),
        (None, "messages.0.content: must not be empty", set()),
        ("max_tokens", "'max_tokens' is too large", {"max_tokens"}),
        (None, "Invalid value at 'generation_config.stop_sequences'", {"generation_config", "stop_sequences"}),
        (None, "it has a maxOutputTokens value that is too large", {"maxOutputTokens"}),
        ("messages[0].refusal", "property 'refusal' is unsupported", {"refusal"}),
    ],
)
def test_a_name_that_the_client_did_not_send_is_noticed(param: str | None, message: str, strange: set[str]) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "stop": "END"}
    assert strange_names({"param": param, "message": message}, body) == strange
