"""Records that nobody changes, and that many are made of: some thirty a request.

A frozen dataclass sets each field by a call of ``object.__setattr__``, which takes the processor 1,500 instructions.
With two hundred fields that was a ninth of a whole request (docs/benchmarks.md). A record's fields are set as any other
object's are. That nobody writes to one is mypy's to say, for which a record is the frozen dataclass that it says it is.
Classes of which few are made stay frozen dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

__all__ = ["record"]

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, slots: bool = False) -> Callable[[type[T]], type[T]]:
        """``dataclass``, equal and with a hash by its fields as a frozen one has it."""
        assert frozen
        return dataclasses.dataclass(slots=slots, unsafe_hash=True)
