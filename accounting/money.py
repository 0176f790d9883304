"""How dollars are written."""

from decimal import Decimal


def plain_usd(amount: Decimal) -> str:
    """The exact amount without exponent and without trailing zeros: ``0.00012``, ``10``."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
