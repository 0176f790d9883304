"""Facts: each is one function, called from one place, and is one line of the log with its fields."""

from __future__ import annotations

import ast
import inspect
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import is_dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from accounting import facts

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("accounting", "routing", "gateway_project")
LEVELS = frozenset({"debug", "info", "warning", "error", "critical", "exception", "log"})

FUNCTIONS = {
    name
    for name, value in vars(facts).items()
    if inspect.isfunction(value) and value.__module__ == facts.__name__ and not name.startswith("_")
}
SHAPES = {
    name: value for name, value in vars(facts).items() if isinstance(value, type) and value.__module__ == facts.__name__
}


def calls_outside_of_facts() -> Iterator[tuple[str, ast.Call]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if path == ROOT / "accounting" / "facts.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_fact_is_told_from_exactly_one_place() -> None:
    told = Counter(
        call.func.attr
        for _, call in calls_outside_of_facts()
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "facts"
    )
    assert {name: told[name] for name in FUNCTIONS | SHAPES.keys()} == dict.fromkeys(FUNCTIONS | SHAPES.keys(), 1)
    imported = [
        f"{path.relative_to(ROOT)}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "from accounting.facts import" in path.read_text(encoding="utf-8")
    ]
    assert imported == []  # a fact is told as `facts.its_name(…)`, so that the count above sees it


def test_a_line_with_fields_is_written_in_facts_alone() -> None:
    assert [
        place
        for place, call in calls_outside_of_facts()
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in LEVELS
        and any(argument.arg == "extra" for argument in call.keywords)
    ] == []


def test_a_fact_of_more_than_two_fields_is_a_frozen_dataclass() -> None:
    for name in FUNCTIONS:
        assert len(inspect.signature(getattr(facts, name)).parameters) <= 2, name
    for shape in SHAPES.values():
        assert is_dataclass(shape)
        # Each request has one that ended, which therefore is an `accounting.record`.
        assert shape.__dataclass_params__.frozen or shape is facts.RequestEnded  # type: ignore[attr-defined]


def test_a_line_has_the_facts_fields_and_amounts_as_plain_text(caplog: pytest.LogCaptureFixture) -> None:
    facts.hold_expired(facts.HoldExpired("req-1", "entry-1", Decimal("0.000000010000")))
    facts.hold_expired(facts.HoldExpired("req-2", "entry-2", None))
    names = ("name", "levelname", "msg", "request_id", "entry", "cost_usd")
    assert [tuple(vars(line)[name] for name in names) for line in caplog.records] == [
        ("gateway.ledger", "WARNING", "hold expired to unknown", "req-1", "entry-1", "0.00000001"),
        ("gateway.ledger", "WARNING", "hold expired to unknown", "req-2", "entry-2", None),
    ]


def test_an_ended_request_is_an_error_only_when_its_settlement_is_not_durable(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.request")
    for settled in (True, False):
        facts.request_ended(
            facts.RequestEnded(
                request_id="req-1", endpoint="chat", key="bot", alias="a", served_alias=None, provider=None, model=None,
                attempts=0, fallback=False, streamed=False, status=502, error_code="all_models_failed", input_tokens=0,
                output_tokens=0, usage_source="provider", hold_usd=Decimal(1), cost_usd=Decimal(0), first_token_ms=None,
                duration_ms=3, settled=settled,
            )
        )  # fmt: skip
    assert [(line.levelname, vars(line)["settled"], vars(line)["cost_usd"]) for line in caplog.records] == [
        ("INFO", True, "0"), ("ERROR", False, "0"),
    ]  # fmt: skip
