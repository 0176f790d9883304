"""How dollars are written."""

from decimal import Decimal


def plain_usd(amount: Decimal) -> str:
    """The exact amount without exponent and without trailing zeros: ``0.00012``, ``10``."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def dollars(amount: Decimal) -> str:
    """The exact amount for people: ``$0.00012``, ``-$10``."""
    return f"{'-' if amount < 0 else ''}${plain_usd(abs(amount))}"
