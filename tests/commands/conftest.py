"""The ledger's fixture, for commands that report on it."""

from tests.ledger.conftest import book

__all__ = ["book"]
