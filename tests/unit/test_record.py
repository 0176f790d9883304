"""A record is to its users what a frozen dataclass is, but for who forbids to write to it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

from accounting.record import record

ROOT = Path(__file__).resolve().parents[2]


@record(frozen=True, slots=True)
class Charge:
    name: str
    amount: int = 0
    notes: list[str] = dataclasses.field(default_factory=list, hash=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    amount: int = 0
    notes: list[str] = dataclasses.field(default_factory=list, hash=False)


def test_a_record_compares_hashes_copies_and_shows_itself_as_a_frozen_dataclass() -> None:
    charge, frozen = Charge("a", 1), Frozen("a", 1)
    assert charge == Charge("a", 1) != Charge("b", 1)
    assert hash(charge) == hash(frozen)
    assert dataclasses.replace(charge, amount=2) == Charge("a", 2)
    assert repr(charge) == repr(frozen).replace("Frozen", "Charge")
    assert not hasattr(charge, "__dict__")


def test_mypy_forbids_to_write_to_a_record(tmp_path: Path) -> None:
    program = tmp_path / "writes.py"
    program.write_text(
        "from accounting.record import record\n\n@record(frozen=True, slots=True)\nclass Charge:\n    amount: int\n\n"
        "Charge(1).amount = 2\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--cache-dir", str(tmp_path / "cache")]
    said = subprocess.run([*command, str(program)], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert 'writes.py:7: error: Property "amount" defined in "Charge" is read-only' in said
    assert "Found 1 error" in said
