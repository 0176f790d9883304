"""The long forms share their cast with the short ones."""

from tests.ledger.conftest import book, cluster

__all__ = ["book", "cluster"]
