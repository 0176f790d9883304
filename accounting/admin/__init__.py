"""The ledger's pages: to be read, and corrected by resolving and adjusting alone.

The pages of keys, budgets and prices are in ``routing.admin``, because their forms speak of aliases and providers.
"""

from accounting.admin import entries

__all__ = ["entries"]
