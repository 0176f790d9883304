"""How dollars are written, and how many there may be."""

from decimal import Decimal
from typing import Final

#: What one attempt is booked at when its count and its price say more: the columns have room for ten of it.
MOST_COST_USD: Final = Decimal(9_999_999)


def plain_usd(amount: Decimal) -> str:
    """The exact amount without exponent and without trailing zeros: ``0.00012``, ``10``."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def dollars(amount: Decimal) -> str:
    """The exact amount for people: ``$0.00012``, ``-$10``."""
    return f"{'-' if amount < 0 else ''}${plain_usd(abs(amount))}"
