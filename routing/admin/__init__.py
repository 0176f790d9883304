"""The operators' pages: what they may change, live. The ledger's own pages are in ``accounting.admin``.

Keys, budgets and prices belong to accounting, but their forms speak of aliases and providers, which accounting does
not know: so their pages are here.
"""

from routing.admin import aliases, breakers, budgets, dashboard, keys, operators, prices, providers

__all__ = ["aliases", "breakers", "budgets", "dashboard", "keys", "operators", "prices", "providers"]
