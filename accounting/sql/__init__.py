"""The ledger's SQL: one statement a file, its header says purpose, locks taken and rows returned."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path


def loader(folder: Path) -> Callable[[str], str]:
    """A function that returns the text of ``{name}.sql`` in the folder, and reads each file once."""

    @cache
    def load(name: str) -> str:
        return (folder / f"{name}.sql").read_text(encoding="utf-8")

    return load


load = loader(Path(__file__).parent)
