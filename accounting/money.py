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


def rounded_dollars(amount: Decimal) -> str:
    """The amount for reading: cents from a dollar on, three digits below, as in ``$1,234.57`` and ``$0.00211``.

    Whole dollars have no cents. So ``$10`` is exactly ten, and ``$10.00`` is nearly ten.
    """
    size = abs(amount)
    places = 2 if size >= 1 or not size else 2 - size.adjusted()
    shown = round(size, places)
    if amount == int(amount):
        text = f"{int(size):,}"
    elif shown >= 1:
        text = f"{shown:,.2f}"
    else:
        cents, more = f"{shown:f}"[:4], f"{shown:f}"[4:].rstrip("0")
        text = cents + more
    return f"{'-' if amount < 0 else ''}${text}"
