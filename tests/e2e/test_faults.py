"""The sixteen faults of the published failover benchmark, for all three wire formats, streamed and whole.

Time limits, retries and breakers are the first start's. A case that would take over a minute sets its own limits.
Faults take time (twelve seconds for a first token, fifteen between two events), so all requests go out together. Each
test then looks at one of them: at what its caller got, what the simulated provider saw, and what the books say.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from routing.models import ChainKind, Fallback, ModelAlias, Provider
from tests.clocks import within
from tests.e2e.gateway import Gateway, Route, asks, cost, http, price
from tests.simulator import Behaviour, ReceivedRequest, Usage, faults

WIRES = ("openai", "anthropic", "gemini")
NEXT = {"openai": "anthropic", "anthropic": "gemini", "gemini": "openai"}
TOKENS = tuple(f" word{number}" if number else "word0" for number in range(60))
ANSWER = "".join(TOKENS)
PRIMARY, FALLBACK = Usage(11, 60), Usage(13, 61)  # different, to tell them apart in the books
GOOD = Behaviour(tokens=TOKENS, usage=PRIMARY)
GOOD_FALLBACK = Behaviour(tokens=TOKENS, usage=FALLBACK)


@dataclass
class Outcome:
    """The result of one request, for its caller and at the two providers."""

    route: Route
    wire: str
    is_streamed: bool
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    seconds: float = 0.0
    at_primary: list[ReceivedRequest] = field(default_factory=list)
    at_fallback: list[ReceivedRequest] = field(default_factory=list)

    def gaps_s(self) -> list[float]:
        """The seconds between the requests that the primary received."""
        times = [request.received_at for request in self.at_primary]
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    @property
    def began_late(self) -> bool:
        """Whether comments came before the first content, and the headers before anybody was known to answer."""
        return self.body.startswith(": keep-alive")

    def moved_on_after_s(self) -> float:
        """The seconds from the last request at the primary to the first request at the fallback.

        The gateway's limit begins before the provider has the request, so this may be a little less than the limit.
        """
        return self.at_fallback[0].received_at - self.at_primary[-1].received_at


Expectation = Callable[[Gateway, Outcome], None]


@dataclass(frozen=True)
class Fault:
    """``primary`` are the faults of the first requests, and ``forever`` is the fault of every request.

    After them the provider is well. A fault that has no meaning for whole answers has only one mode.
    """

    expect: Expectation
    primary: tuple[Behaviour, ...] = ()
    forever: Behaviour = GOOD
    modes: tuple[str, ...] = ("streamed", "whole")
    fallback: Behaviour = GOOD_FALLBACK
    fallback_wire: str = ""  # the next format, unless the fault needs a certain format
    fallback_model: str = ""
    chain: ChainKind = ChainKind.GENERAL
    whole_limits: dict[str, Any] = field(default_factory=dict)  # of the providers, unlike the first start's


# --- what must come of them --------------------------------------------------------------------------------


def answered_by_primary(
    attempts: int, *, least_gap_s: float = 0.15, most_gap_s: float = 3, within_s: float, billed: bool = False
) -> Expectation:
    def expect(gateway: Gateway, seen: Outcome) -> None:
        assert_whole_answer(seen, "false", attempts)
        assert len(seen.at_primary) == attempts
        assert all(least_gap_s <= gap_s <= most_gap_s for gap_s in seen.gaps_s()), "it backs off, and not for long"
        assert seen.at_fallback == []
        assert seen.seconds < within_s
        assert_booked(gateway, seen, PRIMARY, attempts, billed=billed)

    return expect


def answered_by_fallback(attempts: int, *, within_s: float, after_s: float = 0, billed: bool = False) -> Expectation:
    """``after_s``: for which the primary is waited for, and then left. ``billed``: it had the request and did
    not refuse it, so that a failed attempt has its price as well."""

    def expect(gateway: Gateway, seen: Outcome) -> None:
        assert_whole_answer(seen, "true", attempts + 1)
        assert len(seen.at_primary) == attempts
        assert all(0.15 <= gap_s <= 3 for gap_s in seen.gaps_s()), "it backs off, and not for long"
        assert len(seen.at_fallback) == 1
        assert after_s - 0.5 <= seen.moved_on_after_s() < after_s + 2
        assert (after_s == 0) or seen.at_primary[0].closed_by_client_at is not None
        assert seen.seconds < within_s
        assert_booked(gateway, seen, FALLBACK, attempts + 1, billed=billed)

    return expect


def rescued(*, within_s: float, after_s: float = 0, refusals: int = 0) -> Expectation:
    """The caller gets one whole answer, and all that was consumed for it is on the books."""

    def expect(gateway: Gateway, seen: Outcome) -> None:
        assert_whole_answer(seen, "false", 1)  # the head was sent before the stream broke
        assert seen.seconds < within_s
        assert len(seen.at_primary) == 1, "a broken stream is not asked for again"
        assert len(seen.at_fallback) == 1 + refusals
        assert after_s - 0.5 <= seen.moved_on_after_s() < after_s + 2
        assert [request.status for request in seen.at_fallback] == [400] * refusals + [200]
        entry, attempts = gateway.entry(seen.route.alias), gateway.attempts(seen.route.alias)
        assert (entry["state"], entry["error_code"], entry["fallback"]) == ("posted", None, True)
        assert (entry["provider"], entry["attempts"]) == (seen.route.providers[1], 2 + refusals)
        cut, *refused_ones, answered = attempts
        assert cut["outcome"] == ("timeout" if after_s else "interrupted")
        assert cut["output_tokens"] >= 40
        assert [(a["outcome"], a["cost_usd"]) for a in refused_ones] == [("capability", 0)] * refusals
        assert answered["outcome"] == "answered"
        assert answered["cost_usd"] == cost(FALLBACK.input_tokens, FALLBACK.output_tokens)
        assert entry["cost_usd"] == cut["cost_usd"] + answered["cost_usd"]
        assert cut["cost_usd"] == cost(cut["input_tokens"], cut["output_tokens"])

    return expect


def refused(gateway: Gateway, seen: Outcome) -> None:
    """No retry, no other model, and the provider's reason reaches the caller."""
    error = json.loads(seen.body)["error"]
    assert (seen.status, error["code"]) == (400, REASONS[seen.wire][0])
    assert REASONS[seen.wire][1] in error["message"]
    assert seen.headers["x-gateway-attempts"] == "1"
    assert len(seen.at_primary) == 1
    assert seen.at_fallback == []
    entry, (attempt,) = gateway.entry(seen.route.alias), gateway.attempts(seen.route.alias)
    assert (attempt["outcome"], entry["attempts"]) == ("content_policy", 1)
    # Gemini refuses with a 200 that counts the prompt; the others count nothing.
    assert entry["state"] == ("posted" if seen.wire == "gemini" else "voided")
    assert attempt["cost_usd"] == cost(attempt["input_tokens"], 0)
    assert (attempt["input_tokens"] > 0) == (seen.wire == "gemini")


def assert_whole_answer(seen: Outcome, fallback: str, attempts: int) -> None:
    assert seen.status == 200, seen.body
    if seen.began_late:
        assert seen.headers["x-gateway-alias"] == seen.route.alias
    else:
        assert seen.headers["x-gateway-alias"] == seen.route.aliases[fallback == "true"]
        assert seen.headers["x-gateway-provider"] == seen.route.providers[fallback == "true"]
        assert (seen.headers["x-gateway-fallback"], seen.headers["x-gateway-attempts"]) == (fallback, str(attempts))
    if not seen.is_streamed:
        (choice,) = json.loads(seen.body)["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (ANSWER, "stop")
        return
    *events, done, after = seen.body.split("\n\n")
    assert (done, after) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events if event != ": keep-alive"]
    assert len({(chunk["id"], chunk["model"]) for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == ANSWER
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]


def assert_booked(gateway: Gateway, seen: Outcome, usage: Usage, attempts: int, *, billed: bool) -> None:
    """The usage of who answered, at its price; failed attempts are there and cost what their provider may bill."""
    entry = gateway.entry(seen.route.alias)
    *failed, last = gateway.attempts(seen.route.alias)
    assert (entry["state"], entry["attempts"], len(failed)) == ("posted", attempts, attempts - 1)
    assert entry["provider"] == last["provider"]
    assert seen.began_late or last["provider"] == seen.headers["x-gateway-provider"]
    assert (last["outcome"], last["input_tokens"], last["output_tokens"]) == (
        "answered", usage.input_tokens, usage.output_tokens,
    )  # fmt: skip
    assert last["cost_usd"] == cost(usage.input_tokens, usage.output_tokens)
    assert all((attempt["cost_usd"] > 0) == billed for attempt in failed)
    # Anthropic's count at the beginning of a stream is no count of what a broken stream has said.
    assert (entry["usage_source"] == "estimated") == billed
    assert all(attempt["provider"] == seen.route.providers[0] for attempt in failed)
    assert entry["cost_usd"] == sum(attempt["cost_usd"] for attempt in [*failed, last])
    if not seen.is_streamed:
        assert Decimal(seen.headers["x-gateway-cost-usd"]) == entry["cost_usd"]


#: A silent provider is left after twelve seconds when it was to stream. A whole answer may take ten minutes without a
#: byte, as those of reasoning models do, so that its only limit is lowered here.
SHORT_TOTAL: dict[str, Any] = {"total_timeout_s": 3.0}
#: How each format refuses a prompt: the code (ours, where the format has no code), and the provider's words.
REASONS = {
    "openai": ("invalid_prompt", "flagged as potentially violating our usage policy"),
    "anthropic": ("content_policy_violation", "Output blocked by content filtering policy"),
    "gemini": ("content_policy_violation", "PROHIBITED_CONTENT"),
}
REST = Behaviour(tokens=TOKENS[40:], usage=FALLBACK)

FAULTS = {
    "429 with Retry-After": Fault(
        answered_by_primary(2, least_gap_s=1.0, within_s=4), (faults.rate_limited(retry_after_s=1),)
    ),
    "429 with a Retry-After of a minute": Fault(
        answered_by_fallback(1, within_s=4), (faults.rate_limited(retry_after_s=60),)
    ),
    "429 for ever": Fault(answered_by_fallback(2, within_s=4), forever=faults.rate_limited()),
    "500 once": Fault(answered_by_primary(2, within_s=4), (faults.server_error(),)),
    "503 for ever": Fault(answered_by_fallback(2, within_s=4), forever=faults.unavailable()),
    "reset before the headers": Fault(
        answered_by_fallback(2, within_s=4, billed=True), forever=faults.reset_before_headers()
    ),
    "no response at all": Fault(
        answered_by_fallback(1, within_s=15, after_s=12, billed=True), forever=faults.silent(), modes=("streamed",)
    ),
    "no whole response at all": Fault(
        answered_by_fallback(1, within_s=6, after_s=3, billed=True), forever=faults.silent(), modes=("whole",),
        whole_limits=SHORT_TOTAL,
    ),
    "first token after 20 s": Fault(
        answered_by_fallback(1, within_s=15, after_s=12, billed=True),
        forever=faults.slow_first_token(20), modes=("streamed",),
    ),
    "whole answer after 20 s": Fault(
        answered_by_primary(1, within_s=24), (GOOD.but(latency_s=20.0),), modes=("whole",)
    ),
    "cut after 40 of 60 tokens": Fault(
        rescued(within_s=4), (faults.cut_after(40).but(tokens=TOKENS),), modes=("streamed",), fallback=REST
    ),
    "whole answer cut": Fault(
        answered_by_primary(2, within_s=4, billed=True), (faults.cut_after(40).but(tokens=TOKENS),), modes=("whole",)
    ),
    "stall after 40 of 60 tokens": Fault(
        rescued(within_s=19, after_s=15), (faults.stall_after(40).but(tokens=TOKENS),), modes=("streamed",),
        fallback=REST,
    ),
    "whole answer stalls": Fault(
        answered_by_fallback(1, within_s=6, after_s=3, billed=True), (faults.stall_after(40).but(tokens=TOKENS),),
        modes=("whole",), whole_limits=SHORT_TOTAL,
    ),
    "malformed event in mid-stream": Fault(
        answered_by_primary(1, within_s=4), (faults.malformed_event_at(30).but(tokens=TOKENS, usage=PRIMARY),),
        modes=("streamed",),
    ),
    "malformed whole answer": Fault(
        answered_by_fallback(1, within_s=4, billed=True), forever=faults.malformed_body(), modes=("whole",)
    ),
    "no end marker": Fault(
        answered_by_primary(1, within_s=4), (faults.without_done(60).but(tokens=TOKENS, usage=PRIMARY),),
        modes=("streamed",),
    ),
    "context length exceeded": Fault(
        answered_by_fallback(1, within_s=4), forever=faults.context_length_exceeded(), chain=ChainKind.CONTEXT_WINDOW
    ),
    "content filter": Fault(refused, forever=faults.content_filtered()),
    # litellm's map says that this model goes on from a prefill.
    "cut, and the fallback refuses prefill": Fault(
        rescued(within_s=4, refusals=1), (faults.cut_after(40).but(tokens=TOKENS),), modes=("streamed",),
        fallback=faults.refuses_prefill().but(tokens=TOKENS[40:], usage=FALLBACK),
        fallback_wire="anthropic", fallback_model="claude-sonnet-4-5",
    ),
}  # fmt: skip
CASES = [(name, wire, mode) for name, fault in FAULTS.items() for wire in WIRES for mode in fault.modes]


@pytest.fixture(scope="module")
def outcomes(shared_gateway: Gateway) -> Iterator[dict[tuple[str, str, str], Outcome]]:
    """The outcomes of all cases, which run at once."""
    gateway = shared_gateway
    gateway.sim.reset()
    seen = {case: Outcome(_route(gateway, *case), case[1], case[2] == "streamed") for case in CASES}
    threads = [threading.Thread(target=_ask, args=(gateway, outcome)) for outcome in seen.values()]
    for thread in threads:
        thread.start()
        time.sleep(0.02)  # the tests measure the waits, so the starts must not crowd the machine
    for thread in threads:
        thread.join()
    for outcome in seen.values():
        outcome.at_primary = gateway.sim.requests_to(outcome.route.providers[0])
        outcome.at_fallback = gateway.sim.requests_to(outcome.route.providers[1])
    yield seen
    gateway.remove_routes()


def _route(gateway: Gateway, name: str, wire: str, mode: str) -> Route:
    fault = FAULTS[name]
    limits: dict[str, Any] = fault.whole_limits if mode == "whole" else {}
    route = gateway.route(wire, fault.fallback_wire or NEXT[wire], **limits)
    with gateway.orm():
        # Gemini's model thinks in silence, and would be waited for ten times as long.
        ModelAlias.objects.filter(name=route.alias).update(first_token_timeout_s=12 if wire == "gemini" else None)
        Fallback.objects.filter(alias__name=route.alias).update(kind=fault.chain)
        if fault.fallback_model:
            ModelAlias.objects.filter(name=route.aliases[1]).update(upstream_model=fault.fallback_model)
            price(route.providers[1], fault.fallback_model)
    gateway.sim.behave(route.providers[0], *fault.primary, forever=fault.forever)
    gateway.sim.behave(route.providers[1], forever=fault.fallback)
    return route


def _ask(gateway: Gateway, outcome: Outcome) -> None:
    began = time.monotonic()
    body = {"model": outcome.route.alias, "stream": outcome.is_streamed, **asks()}
    answer = http.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=120)
    outcome.status, outcome.headers, outcome.body = answer.status_code, dict(answer.headers), answer.text
    outcome.seconds = time.monotonic() - began


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", CASES, ids=[", ".join(case) for case in CASES])
def test_a_provider_s_fault_costs_the_caller_what_the_table_says(
    shared_gateway: Gateway, outcomes: dict[tuple[str, str, str], Outcome], case: tuple[str, str, str]
) -> None:
    FAULTS[case[0]].expect(shared_gateway, outcomes[case])


def test_after_all_faults_the_gateway_is_healthy_and_holds_nothing(
    shared_gateway: Gateway, outcomes: dict[tuple[str, str, str], Outcome]
) -> None:
    assert http.get(f"{shared_gateway.url}/health").status_code == 200
    aliases = [outcome.route.alias for outcome in outcomes.values()]
    assert shared_gateway.rows("SELECT request_id FROM open_holds WHERE alias = ANY(%s)", aliases) == []


# --- the one that is about more than one request ---------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_primary_that_was_down_is_left_alone_probed_and_returned_to(
    gateway: Gateway, wire: str, streamed: bool
) -> None:
    """The benchmark's primary is down for a minute, and ours for two seconds, with a cool-down of one second."""
    route = gateway.route(wire, NEXT[wire], retries=0, breaker_failures=2, breaker_cooldown_s=1)
    gateway.sim.behave(route.providers[0], faults.down_for(2), forever=GOOD)
    began = time.monotonic()
    served: list[str] = []

    def ask() -> str:
        create = gateway.client().chat.completions.create
        if streamed:
            chunks = list(create(model=route.alias, stream=True, **asks()))
            return str(chunks[0].model)
        return str(create(model=route.alias, **asks()).model)

    while not (time.monotonic() - began > 2 and served[-1] == route.aliases[0]):
        served.append(ask())
        assert within(time.monotonic() - began, 6), "back within the cool-down and a little"
        time.sleep(0.05)
    down = [request for request in gateway.sim.requests_to(route.providers[0]) if request.status != 200]
    assert route.aliases[1] in served
    # Two failures a worker open the breaker. Then there is one probe a second, not an attempt a request.
    assert len(down) <= 7 < len(served)
    gateway.wait_settled(route.alias, len(served))
    assert {entry["state"] for entry in gateway.entries(route.alias)} == {"posted"}
    failed = [attempt for attempt in gateway.attempts(route.alias) if attempt["outcome"] == "server_error"]
    assert [attempt["cost_usd"] for attempt in failed] == [0] * len(down), "all are on the books, and cost nothing"


def test_the_first_start_has_the_limits_of_the_contract(gateway: Gateway) -> None:
    route = gateway.route("openai")
    with gateway.orm():
        row = Provider.objects.get(name=route.providers[0])
    limits = (row.connect_timeout_s, row.first_token_timeout_s, row.idle_timeout_s, row.total_timeout_s, row.retries)
    assert limits == (5, 12, 15, 600, 1)
