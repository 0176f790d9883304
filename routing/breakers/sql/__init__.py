"""The breakers' SQL: one statement a file, its header says purpose, locks taken and rows returned."""

from functools import cache
from pathlib import Path


@cache
def load(name: str) -> str:
    """The text of ``routing/breakers/sql/{name}.sql``."""
    return (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
