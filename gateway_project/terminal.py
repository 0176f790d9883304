"""A terminal, a pipe or a log collector that does not read UTF-8 must not end the gateway.

What its encoding lacks is written as ``\\u201c``. That is what JSON calls the character too, so a line of the log stays
JSON, whatever a client's alias or user is called. Halves of surrogate pairs are written so even in UTF-8, which has no
form for them.
"""

from __future__ import annotations

import codecs
import io
import sys

ESCAPED = "gateway.escaped"


def accept_every_character() -> None:
    """Make stdout and stderr take any text, for the rest of the process."""
    codecs.register_error(ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # tests and servers put other objects there
            stream.reconfigure(errors=ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    units = (int.from_bytes(lacking[place : place + 2], "big") for place in range(0, len(lacking), 2))
    return "".join(f"\\u{unit:04x}" for unit in units), error.end
