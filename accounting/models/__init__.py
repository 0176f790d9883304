"""Who pays: keys, budgets, prices, and the ledger. Django looks for an application's models here.

Money is US dollars, NUMERIC(20,12), never float.
"""

from accounting.models.budgets import (
    NAMED_SCOPES,
    Budget,
    BudgetMode,
    BudgetPeriod,
    BudgetPeriodLength,
    BudgetScope,
    validate_time_zone,
)
from accounting.models.changes import Change, ConfigurationVersion, ExactNumbers
from accounting.models.keys import ANONYMOUS, ApiKey, KeyRate, validate_fixed_tags, validate_tag_names
from accounting.models.ledger import Adjustment, Attempt, Charge, EntryState, LedgerEntry
from accounting.models.prices import METERS, Price, PriceQuerySet, PriceRate
from accounting.models.proofs import Proof, Reconciliation, ReconciliationQuerySet
from accounting.models.refused import RefusedRequest
from accounting.models.sums import Rollup, SpendSum, UnrolledEntry

__all__ = [
    "ANONYMOUS",
    "METERS",
    "NAMED_SCOPES",
    "Adjustment",
    "ApiKey",
    "Attempt",
    "Budget",
    "BudgetMode",
    "BudgetPeriod",
    "BudgetPeriodLength",
    "BudgetScope",
    "Change",
    "Charge",
    "ConfigurationVersion",
    "EntryState",
    "ExactNumbers",
    "KeyRate",
    "LedgerEntry",
    "Price",
    "PriceQuerySet",
    "PriceRate",
    "Proof",
    "Reconciliation",
    "ReconciliationQuerySet",
    "RefusedRequest",
    "Rollup",
    "SpendSum",
    "UnrolledEntry",
    "validate_fixed_tags",
    "validate_tag_names",
    "validate_time_zone",
]
