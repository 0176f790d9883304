"""Anthropic's and Gemini's wire formats, by litellm's own provider classes.

For each: what `litellm.completion()` does to a request before it sends it, and with the answer after it has come, as
litellm's handlers do it (`llms/anthropic/chat/handler.py`, `llms/vertex_ai/gemini/…`), without its HTTP clients, its
logging, its callbacks and its cost calculation. tests/wire/test_equivalence.py holds both against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from routing.upstreams.formats.anthropic import Anthropic
from routing.upstreams.formats.gemini import Gemini
from routing.upstreams.formats.wire import WireFormat

#: By litellm's name of the provider.
FORMATS: Final[Mapping[str, WireFormat]] = {"anthropic": Anthropic(), "gemini": Gemini()}
