"""The breakers' SQL: one statement a file, its header says purpose, locks taken and rows returned."""

from __future__ import annotations

from pathlib import Path

from accounting.sql import loader

load = loader(Path(__file__).parent)
