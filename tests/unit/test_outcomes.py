"""The enum, the kinds of providers' failures and the documentation have the same outcomes."""

from __future__ import annotations

import re
from pathlib import Path

from accounting.models import Attempt
from accounting.outcomes import Outcome
from routing.upstreams.base import FailureKind

DOCUMENT = Path(__file__).parents[2] / "docs" / "sql-views.md"


def test_the_documentation_explains_every_outcome_and_no_other() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("### Outcomes\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \| .", section, flags=re.MULTILINE)
    assert documented == [outcome.value for outcome in Outcome]


def test_whatever_a_failure_is_called_is_an_outcome() -> None:
    assert {kind.value for kind in FailureKind} < {outcome.value for outcome in Outcome}


def test_an_outcome_fits_its_column() -> None:
    assert max(map(len, Outcome)) <= (Attempt._meta.get_field("outcome").max_length or 0)
