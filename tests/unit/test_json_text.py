"""JSON by orjson is JSON by `json`: every value and every text, at the edges too."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accounting import json_text

EDGES = [2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, -(2**63), -(2**63) - 1, 10**18, 10**19, -(10**18), 10**400]
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.sampled_from(EDGES),
    st.floats(allow_nan=False, allow_infinity=False),
)
#: Surrogates alone too, and the line ends of `splitlines`.
TEXTS = st.text(
    st.one_of(st.characters(), st.characters(categories=["Cs"]), st.sampled_from("\u2028\u2029\x85\x00\x1f"))
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
#: JSON as others write it, and what is nearly JSON.
PIECES = st.sampled_from(
    ["{", "}", "[", "]", ",", ":", " ", "\n", '"', '"a"', '"a":', "\\", "\\ud800", "\\u0000", "true", "null", "NaN",
     "-", "Infinity", "-Infinity", "1e400", "-0", "-0.0", "0", "12345678901234567890", "0.1234567890123456789", "1E5",
     ".5", "9" * 19, "9" * 20, "-" + "9" * 19, "\ufeff", "é", "\u2028", "\x01", "\x0c"]
)  # fmt: skip
TEXTS_OF_JSON = st.one_of(
    st.lists(PIECES, max_size=12).map("".join),
    VALUES.map(json.dumps),
    st.tuples(VALUES, st.integers(0, 3), st.booleans()).map(lambda t: json.dumps(t[0], indent=t[1], sort_keys=t[2])),
    st.lists(st.tuples(st.sampled_from(["a", "b"]), VALUES), max_size=5).map(  # keys that come twice
        lambda pairs: "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}"
    ),
)


def pythons(data: bytes) -> Any:
    return json.loads(data.decode("utf-8", "surrogatepass"))


def same(one: Any, other: Any) -> bool:
    """Equal in type and in order too: 1 is not 1.0, and -0.0 is not 0.0."""
    return repr(one) == repr(other)


@settings(max_examples=600, deadline=None)
@given(TEXTS_OF_JSON)
@example("1" * 19)
@example("-" + "9" * 20)
@example("[1," + "9" * 20 + "]")
@example('{"a":' + "9" * 20 + "}")
@example('{"a":\n-' + "9" * 20 + "}")
@example("0." + "9" * 40)
@example('{"a":1,"b":2,"a":3}')
def test_what_is_read_is_what_json_reads(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    try:
        expected = pythons(data)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  the words are the reader's
            json_text.loads(data, pythons)
    else:
        assert same(json_text.loads(data, pythons), expected)


@settings(max_examples=600, deadline=None)
@given(VALUES)
@example(2**64)
@example(["\ud800", 2**70, None])
@example({"\ud800": "\u2028"})
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    for written in (json_text.dumps(value), json_text.dumps_strictly(value), json_text.dumps_line(value)):
        assert same(pythons(written), value)
        written.decode()  # no reader stumbles over a byte
    assert len(json_text.dumps_line(value).decode().splitlines()) == 1


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null_or_refused(number: float) -> None:
    assert json_text.dumps({"a": [number]}) == b'{"a":[null]}'
    for value in ({"a": [number]}, [number, None], [number, "\ud800"], [number, 2**64]):
        with pytest.raises(ValueError, match="Out of range float values"):
            json_text.dumps_strictly(value)


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "1e400", '{"a":-1e400}', "\ufeff{}", '"\\ud800"', '"\ud800"', "{"]
)
def test_what_orjson_refuses_is_its_callers(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    assert json_text.loads(data, lambda given: ("asked", given)) == ("asked", data)


@pytest.mark.parametrize("value", [object(), {1, 2}, {(1,): 2}])
def test_what_json_cannot_write_is_refused(value: object) -> None:
    for write in (json_text.dumps, json_text.dumps_strictly, json_text.dumps_line):
        with pytest.raises(TypeError):
            write(value)


def test_keys_that_are_not_text_and_deep_values_are_written() -> None:
    deep: Any = None
    for _ in range(400):
        deep = [deep]
    assert json_text.dumps({1: 2}) == b'{"1":2}'
    assert json_text.dumps(deep) == json_text.dumps_strictly(deep) == b"[" * 400 + b"null" + b"]" * 400


@pytest.mark.parametrize("text", ["a 1234567890123456789", "id:1234567890123456789", "x" * 40, "0.1234567890123456789"])
def test_digits_in_a_text_are_read_whoever_reads_them(text: str) -> None:
    assert json_text.loads(json.dumps([text]).encode(), pythons) == [text]
