"""The ledger's pages. Operators read it, and can only correct it by resolving and adjusting entries.

The pages of keys, budgets and prices are in ``routing.admin``, because their forms refer to aliases and providers.
"""

from accounting.admin import changes, entries, reconciliations, refusals

__all__ = ["changes", "entries", "reconciliations", "refusals"]
