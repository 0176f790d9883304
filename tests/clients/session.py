"""A scripted piece of work of twenty steps for a coding agent: it writes files, edits them and runs commands.

The simulator plays the model. It answers the agent's n-th request with the n-th tool call, so the agent must send every
result back for the next call to come. The agent's own tools do the work, and the folder shows at the end whether they
did all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tests.e2e.gateway import cost
from tests.simulator.behaviour import Behaviour, ToolCall, Usage

STEPS = 20
END = "All twenty steps are done."
#: What the agent's tools must have written at the end.
POEM = "first line\nline 4, edited\nline 7, edited\nline 10, edited\nline 13, edited\nline 16, edited\nlast line\n"


def usage_of(step: int) -> Usage:
    """What the simulated provider bills for a step: odd numbers, different in each step."""
    return Usage(input_tokens=10_007 + 113 * step, output_tokens=101 + 7 * step, cached_tokens=5_003 + 11 * step)


def cost_of(steps: int) -> Decimal:
    """Of the first requests of a session, exactly."""
    used = [usage_of(step) for step in range(steps)]
    return sum((cost(u.input_tokens, u.output_tokens, cached=u.cached_tokens) for u in used), Decimal(0))


@dataclass(frozen=True, slots=True)
class Write:
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Edit:
    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Run:
    command: str


Step = Write | Edit | Run


def steps() -> Iterator[Step]:
    yield Write("poem.txt", "first line\nlast line\n")
    yield Run("cat poem.txt")
    for number in range(4, 19, 3):
        yield Edit("poem.txt", "last line", f"line {number}\nlast line")
        yield Run(f"grep -c 'line {number}' poem.txt")
        yield Edit("poem.txt", f"line {number}\n", f"line {number}, edited\n")
    yield Run("wc -l < poem.txt")
    yield Write("done.txt", "done\n")
    yield Run("ls")


def behaviours(call_of: Callable[[Step, Path], ToolCall], folder: Path) -> Sequence[Behaviour]:
    """What the model answers to the session's requests, in their order. ``call_of`` writes a step as a tool call."""
    calls = [Behaviour(tool_calls=(call_of(step, folder),), usage=usage_of(at)) for at, step in enumerate(steps())]
    assert len(calls) == STEPS
    return (*calls, Behaviour(text=END, usage=usage_of(STEPS)))


def assert_done(folder: Path) -> None:
    assert (folder / "poem.txt").read_text() == POEM
    assert (folder / "done.txt").read_text() == "done\n"
