"""The pages on which operators change the configuration, live. The ledger's own pages are in ``accounting.admin``.

Keys, budgets and prices belong to accounting. Their pages are here because their forms refer to aliases and providers,
which accounting does not know.
"""

import django_stubs_ext

django_stubs_ext.monkeypatch()  # before the forms: mypy needs `ModelForm[Budget]`, which Django alone refuses

from routing.admin import aliases, breakers, budgets, dashboard, keys, operators, prices, providers, sign_in  # noqa: E402

__all__ = ["aliases", "breakers", "budgets", "dashboard", "keys", "operators", "prices", "providers", "sign_in"]
