"""Text from clients and providers is made storable."""

from __future__ import annotations

import pytest

from accounting.text import storable


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("snow ☃ 😀\n", "snow ☃ 😀\n"),
        ("a\x00b", "ab"),
        ("\ud83d lone \udc00", "? lone ?"),
        ("", ""),
    ],
)
def test_only_what_postgres_cannot_store_is_replaced(said: str, stored: str) -> None:
    assert storable(said) == stored


def test_the_cut_counts_the_characters_that_are_stored() -> None:
    assert storable("\x00\x00\ud800bcd", 3) == "?bc"
    assert storable("ab", 3) == "ab"
