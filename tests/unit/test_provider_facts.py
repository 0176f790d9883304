"""The table of providers: every row has facts of a sane shape, and says what a request needs to know."""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import urlsplit

import pytest

from routing.upstreams.providers import (
    ADDED_PARAMETERS,
    CAPS,
    COMMON_PARAMETERS,
    MESSAGE_FIELDS,
    PLATFORM_PARAMETERS,
    PROVIDERS,
    ProviderFacts,
    facts_of,
    needs_base_url,
)

ROWS = list(PROVIDERS.values())
RELAYED = [row for row in ROWS if row.way == "relay"]
DEFAULTS = {f.name: f.default for f in dataclasses.fields(ProviderFacts)}


def name_of(row: ProviderFacts) -> str:
    return row.name


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_every_row_is_known_to_litellm_and_says_where_its_key_is(row: ProviderFacts) -> None:
    from routing.upstreams.litellm_import import load

    assert row.name in {provider.value for provider in load().LlmProviders} | {"anyscale"}
    assert PROVIDERS[row.name] is row
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*_API_KEY", row.key_variable)


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_an_address_is_one_that_a_path_can_be_put_behind_or_the_operator_must_give_it(row: ProviderFacts) -> None:
    if row.base_url is not None:
        parts = urlsplit(row.base_url)
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert not row.base_url.endswith("/")
        assert not parts.query
        assert parts.scheme == "https" or (row.keyless and parts.hostname in ("localhost", "127.0.0.1"))
    assert needs_base_url(row.name) == (row.way == "relay" and row.base_url is None)


@pytest.mark.parametrize("row", RELAYED, ids=name_of)
def test_what_a_relayed_provider_understands_is_said_in_known_words(row: ProviderFacts) -> None:
    assert row.dialects[0] == "openai"
    assert row.caps
    assert set(row.caps) <= CAPS
    assert {field.removeprefix("tool.").removeprefix("user.") for field in row.message_fields} <= MESSAGE_FIELDS
    assert row.takes <= PLATFORM_PARAMETERS | ADDED_PARAMETERS
    assert row.refuses | row.thinkers_refuse <= COMMON_PARAMETERS
    assert row.renames.keys() <= COMMON_PARAMETERS - row.refuses
    assert row.values.keys() <= row.takes | COMMON_PARAMETERS
    assert 1 <= row.call_ids.shortest <= row.call_ids.longest
    assert 1 <= row.hottest <= 2
    assert row.prefill == "" or row.prefill in row.message_fields
    assert row.life_signs in ("", "pings", "comments")
    assert row.source.startswith("https://"), "a fact without its page cannot be checked"


@pytest.mark.parametrize("row", [row for row in ROWS if row.way != "relay"], ids=name_of)
def test_other_rows_say_nothing_of_openais_format(row: ProviderFacts) -> None:
    for fact in ("caps", "developer", "stream_options", "call_ids", "message_fields", "takes", "refuses", "hottest"):
        assert getattr(row, fact) == DEFAULTS[fact]


def test_the_kinds_of_parameters_do_not_overlap() -> None:
    assert not PLATFORM_PARAMETERS & ADDED_PARAMETERS
    assert not COMMON_PARAMETERS & (PLATFORM_PARAMETERS | ADDED_PARAMETERS)


ANY_CAP = ("max_completion_tokens", "max_tokens")
NEW_CAP, OLD_CAP = ("max_completion_tokens",), ("max_tokens",)


@pytest.mark.parametrize(
    ("called", "understands"),
    [
        (("openai", "gpt-4o", None), ("openai", ANY_CAP, True)),
        (("openai", "gpt-4o", "https://eu.api.openai.com/v1"), ("openai", ANY_CAP, True)),
        (("openai", "o3-mini", None), ("openai", NEW_CAP, True)),
        (("openai", "gpt-5.1", "https://proxy.example/v1"), ("openai", NEW_CAP, False)),
        (("openai", "gpt-4o", "https://proxy.example/v1"), ("openai", OLD_CAP, False)),
        (("openai", "gpt-4o", "https://openai.com.example/v1"), ("openai", OLD_CAP, False)),
        (("openai", "gpt-oss-20b", "http://localhost:1234/v1"), ("custom_openai", OLD_CAP, False)),
        (("openai", "qwen3", "http://localhost:8000/v1"), ("custom_openai", OLD_CAP, False)),
        (("openai_like", "qwen3", "http://localhost:8000/v1"), ("custom_openai", OLD_CAP, False)),
        (("groq", "openai/gpt-oss-20b", None), ("groq", ANY_CAP, False)),
    ],
)
def test_openais_name_is_taken_for_openai_where_openai_answers(
    called: tuple[str, str, str | None], understands: tuple[str, tuple[str, ...], bool]
) -> None:
    facts = facts_of(*called)
    assert (facts.name, facts.caps, facts.developer) == understands
