"""A litellm that we cannot call is refused, and what does not fit is named: at the server's start, and here."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any, cast

import pytest

from routing.upstreams import capabilities, estimate, sdk
from routing.upstreams.base import FailureKind, UpstreamError, UpstreamRequest
from routing.upstreams.formats import FORMATS, anthropic, gemini, transforms
from routing.upstreams.formats.wire import Prepared
from routing.upstreams.litellm_fit import CALLS, Call, LitellmMisfit, check
from routing.upstreams.litellm_import import load
from routing.upstreams.translate import Translate
from routing.upstreams.warming import warm_translation
from tests.wire.upstream_calls import call


class AnotherLitellm:
    """The methods that we call, as another release may have changed them. They are inspected, not called."""

    def as_before(self, messages: list[Any], model: str = "") -> None: ...

    def wants_more(self, messages: list[Any], *, model: str, api_base: str | None) -> None: ...

    def wants_less(self) -> None: ...

    def takes_anything(self, **_: Any) -> None: ...

    @staticmethod
    def without_self(messages: list[Any]) -> None: ...


HERE = f"{__name__}:AnotherLitellm"


def test_the_installed_litellm_fits() -> None:
    warm_translation()


@pytest.mark.parametrize("name", ["as_before", "takes_anything", "without_self"])
def test_a_method_that_takes_what_we_give_fits(name: str) -> None:
    check([Call(f"{HERE}.{name}", ("messages",))], values=[HERE])


def test_all_that_does_not_fit_is_said_at_once_and_by_name() -> None:
    calls = [
        Call(f"{HERE}.as_before", ("messages",)),
        Call(f"{HERE}.wants_more", ("messages",)),
        Call(f"{HERE}.wants_less", ("messages",), ("tools",)),
        Call(f"{HERE}.gone", ("messages",)),
        Call("litellm.no.such.module:function"),
    ]
    with pytest.raises(LitellmMisfit) as raised:
        check(calls, values=["litellm:model_cost", "litellm:no_such_value"])
    said = str(raised.value)
    assert said.startswith("litellm 1.")
    reasons = said.partition("does not fit this gateway: ")[2].partition(". Install")[0].split("; ")
    assert [reason.rpartition("AnotherLitellm.")[2] for reason in reasons] == [
        "wants_more needs model, api_base",
        "wants_less does not take messages, tools",
        "gone is missing",
        "litellm.no.such.module.function is missing",
        "litellm.no_such_value is missing",
    ]
    assert "requirements.txt" in said


def _named_calls(module: ModuleType) -> Iterator[tuple[str, set[str]]]:
    """Every call in the module with named arguments: the last part of the function's name, and the arguments."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and node.keywords:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield str(name), {keyword.arg for keyword in node.keywords if keyword.arg}


def test_what_is_checked_is_what_is_called() -> None:
    known: dict[str, list[Call]] = {}
    for checked in CALLS:
        known.setdefault(checked.where.rpartition(":")[2].rpartition(".")[2], []).append(checked)
    called = [
        (name, given)
        for module in (anthropic, gemini, transforms, capabilities, sdk, estimate)
        for name, given in _named_calls(module)
        if name in known
    ]
    for name, given in called:
        assert any(given <= {*one.always, *one.sometimes} for one in known[name]), f"{name} is called with {given}"
    assert {name for name, _ in called} == {
        name for name, checks in known.items() if name != "chunk_parser" and any(one.always for one in checks)
    }


class _CallsItWrongly:
    """A format that calls litellm with another release's arguments."""

    def prepare(self, request: UpstreamRequest, *, streamed: bool) -> Prepared:
        litellm = load()
        litellm.utils.validate_and_fix_openai_messages(messages=request.body["messages"], of_another_release=True)
        raise AssertionError("litellm takes what no release of it takes")


def test_a_wrong_call_of_litellm_is_ours_and_not_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast(Any, FORMATS), "anthropic", _CallsItWrongly())
    with pytest.raises(TypeError, match="of_another_release"):
        Translate().whole(call("http://127.0.0.1:1", provider="anthropic"))


def test_a_request_on_which_litellm_stumbles_is_not_taken_for_a_misfit() -> None:
    with pytest.raises(UpstreamError) as raised:
        Translate().whole(call("http://127.0.0.1:1", {"messages": ["a text"]}, provider="anthropic"))
    assert (raised.value.kind, raised.value.client_status) == (FailureKind.CAPABILITY, 400)
