"""The SQL of sign-ins: one statement a file. Its header states the purpose, the locks taken and the rows returned."""

from __future__ import annotations

from pathlib import Path

from accounting.sql import loader

load = loader(Path(__file__).parent)
