"""Whose a request is, by its key: pure."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from accounting.keys import Key
from accounting.models import validate_fixed_tags, validate_tag_names
from accounting.rates import RateLimits
from accounting.spreadsheets import harmless
from accounting.tags import has_tag, read_tags


def key(**fields: Any) -> Key:
    return Key(1, "bot", "", True, None, fields.pop("allowed", frozenset()), RateLimits(), **fields)


def test_a_fixed_tag_wins_over_what_the_client_sends() -> None:
    bot = key(tags={"team": "red"})
    assert bot.tags_of({"team": "blue", "ticket": "7"}) == {"team": "red", "ticket": "7"}
    assert bot.tags_of({"team": ["blue", "red"]}) == {"team": "red"}
    assert key().tags_of({"team": "blue"}) == {"team": "blue"}


def test_a_required_tag_is_missing_when_it_is_not_there_or_empty() -> None:
    bot = key(required_tags=("team", "project"))
    assert bot.missing_tag({"team": "red", "project": ["a"]}) is None
    assert bot.missing_tag({"project": "a"}) == "team"
    assert bot.missing_tag({"team": "red"}) == "project"
    assert bot.missing_tag({"team": "red", "project": ""}) == "project"
    assert bot.missing_tag({"team": "red", "project": []}) == "project"
    assert bot.missing_tag({"team": "red", "project": " "}) == "project"
    assert bot.missing_tag({"team": "red", "project": ["", " "]}) == "project"
    assert bot.missing_tag({"team": "red", "project": ["", "a"]}) is None


@pytest.mark.parametrize(
    ("fields", "named", "whose"),
    [
        ({}, "ada", "ada"),
        ({}, "", ""),
        ({"end_user": "crm"}, "", "crm"),
        ({"end_user": "crm"}, "ada", "ada"),
        ({"end_user": "crm", "callers_name_end_users": False}, "ada", "crm"),
        ({"callers_name_end_users": False}, "ada", ""),
    ],
)
def test_whose_a_request_is(fields: dict[str, Any], named: str, whose: str) -> None:
    assert key(**fields).end_user_of(named) == whose


def test_allowed_aliases_bind_fallbacks_only_when_the_key_says_so() -> None:
    allowed = frozenset({"a", "team/*"})
    assert key(allowed=allowed).may_fall_back_to("b")
    bound = key(allowed=allowed, binds_fallbacks=True)
    assert [bound.may_fall_back_to(alias) for alias in ("a", "team/x", "b")] == [True, True, False]
    assert key(binds_fallbacks=True).may_fall_back_to("b")


def test_a_list_of_texts_is_several_values_of_a_tag() -> None:
    tags = read_tags({"tags": ["red", "a=b"], "n": 7, "mixed": ["x", 1], "deep": {"a": 1}, "k\x00": "v\ud83d"})
    assert tags == {"tags": ["red", "a=b"], "n": "7", "mixed": '["x", 1]', "deep": '{"a": 1}', "k": "v?"}
    assert has_tag(tags, "tags=red")
    assert has_tag(tags, "tags=a=b")
    assert has_tag(tags, "n=7")
    for absent in ("tags=re", "tags", "tags=", "mixed=x", "none=red"):
        assert not has_tag(tags, absent)


@pytest.mark.parametrize(
    "tags",
    [[], {"team": 1}, {"team": ""}, {"": "x"}, {"a=b": "x"}, {"t": "x\x00"}, {"t": "x" * 513}, {"t" * 65: "x"},
     {str(number): "x" for number in range(17)}],
)  # fmt: skip
def test_a_fixed_tag_is_one_that_a_budget_can_name(tags: Any) -> None:
    with pytest.raises(ValidationError):
        validate_fixed_tags(tags)


def test_fixed_and_required_tags_that_can_be_named_are_taken() -> None:
    validate_fixed_tags({"team": "röd = rot", "n": "7"})
    validate_tag_names(["team", "cost centre"])


@pytest.mark.parametrize(
    "text", ["=1+2", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\uff1d1", '=HYPERLINK("x")']
)
def test_a_cell_that_a_spreadsheet_would_run_is_defused(text: str) -> None:
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "red", "user-42", "a=b", "2026-11-01", "'quoted", "7", "ada@example.com"])
def test_another_cell_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text
