"""How amounts are written: exactly, and rounded for reading without hiding that they are."""

from __future__ import annotations

from decimal import Decimal

import pytest

from accounting.amounts import usd
from accounting.money import rounded_dollars


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0", "$0"),
        ("10.000000000000", "$10"),
        ("3.42", "$3.42"),
        ("3.4", "$3.40"),
        ("89.27836882", "$89.28"),
        ("1234.5", "$1,234.50"),
        ("1000000", "$1,000,000"),
        ("-99999998.96425285", "-$99,999,998.96"),
        ("0.0031", "$0.0031"),
        ("0.00211", "$0.00211"),
        ("0.00600285", "$0.006"),
        ("0.5", "$0.50"),
        ("0.1234567", "$0.123"),
        ("-0.05", "-$0.05"),
        ("0.000000000001", "$0.000000000001"),
        ("9.9999", "$10.00"),  # not "$10", which would be all of it
        ("0.9999", "$1.00"),
        ("999.995", "$1,000.00"),
    ],
)
def test_an_amount_is_rounded_for_reading(amount: str, words: str) -> None:
    assert rounded_dollars(Decimal(amount)) == words


def test_what_was_rounded_has_the_exact_amount_as_its_title() -> None:
    assert usd(Decimal("89.27836882")) == '<span class="gateway-usd" title="$89.27836882">$89.28</span>'
    assert usd(Decimal(1234)) == "$1,234"
    assert usd(Decimal("0.25")) == "$0.25"
