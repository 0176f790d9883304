"""The operators' pages: what they may change, live. The ledger's own pages are in ``accounting.admin``.

Keys, budgets and prices belong to accounting, but their forms speak of aliases and providers, which accounting does
not know: so their pages are here.
"""

import django_stubs_ext

django_stubs_ext.monkeypatch()  # before the forms: `ModelForm[Budget]` is for mypy, and Django does not take it alone

from routing.admin import aliases, breakers, budgets, dashboard, keys, operators, prices, providers  # noqa: E402

__all__ = ["aliases", "breakers", "budgets", "dashboard", "keys", "operators", "prices", "providers"]
