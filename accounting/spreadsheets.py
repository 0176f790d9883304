"""Text for a cell of a CSV file, which people open in spreadsheets."""

from __future__ import annotations

import re

#: What a spreadsheet may take for a formula: https://owasp.org/www-community/attacks/CSV_Injection
#: Full-width signs count too, as do signs behind white space.
_FORMULA = re.compile("[\t\r\n]|\\s*[=+@\uff1d\uff0b\uff0d\uff20-]")


def harmless(text: str) -> str:
    """The text, behind an apostrophe when a spreadsheet would run it. Clients name end users and tags, so they write
    into the operator's sheet."""
    return f"'{text}" if _FORMULA.match(text) else text
