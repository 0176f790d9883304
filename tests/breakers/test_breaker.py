"""When the breaker of one process opens, and which requests get through when it is half-open."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from routing.breakers import clients
from routing.breakers.breaker import Breakers
from routing.catalog import Provider, Step
from routing.upstreams.base import Deployment, FailureKind, Timeouts, UpstreamError
from tests.clocks import eventually, within

COOLDOWN_S = 0.2
UNAVAILABLE = UpstreamError(FailureKind.OVERLOADED, "unavailable", http_status=503)


def step(model: str = "m", *, failures: int = 3, rate: float = 0.5, cooldown_s: float = COOLDOWN_S) -> Step:
    provider = Provider(
        name="p",
        litellm_provider="openai",
        enabled=True,
        key_references=("",),
        retries=0,
        breaker_failures=failures,
        breaker_failure_rate=rate,
        breaker_cooldown_s=cooldown_s,
    )
    deployment = Deployment("p", "openai", model, base_url=None, timeouts=Timeouts())
    return Step(alias="a", output_cap_tokens=1, provider=provider, deployment=deployment)


@pytest.fixture
def breakers() -> Breakers:
    return Breakers()


def fail(
    breakers: Breakers, step: Step, times: int = 1, error: UpstreamError = UNAVAILABLE, key: int | None = None
) -> None:
    for _ in range(times):
        breakers.failed(step, error, key)


def from_another_thread(what: object) -> object:
    """The result of a call that another request makes."""
    assert callable(what)
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(what()))
    thread.start()
    thread.join()
    return results[0]


def test_failures_in_a_row_open_it_and_no_fewer(breakers: Breakers) -> None:
    fail(breakers, step(), 2)
    assert breakers.lets_through(step())
    fail(breakers, step())
    assert not breakers.lets_through(step())
    assert breakers.lets_through(step("another model"))


def test_a_success_in_between_resets_the_count(breakers: Breakers) -> None:
    fail(breakers, step(), 2)
    breakers.succeeded(step())
    fail(breakers, step(), 2)
    assert breakers.lets_through(step())


def test_a_deployment_that_fails_every_other_time_opens_it_by_its_rate(breakers: Breakers) -> None:
    often = step(failures=1000)
    for _ in range(9):
        breakers.succeeded(often)
        fail(breakers, often)
    breakers.succeeded(often)
    assert breakers.lets_through(often)  # 19 calls are not enough
    fail(breakers, often)
    assert not breakers.lets_through(often)


def test_a_rate_below_the_limit_opens_nothing(breakers: Breakers) -> None:
    seldom = step(failures=1000, rate=0.5)
    for _ in range(20):
        breakers.succeeded(seldom)
        breakers.succeeded(seldom)
        fail(breakers, seldom)
    assert breakers.lets_through(seldom)
    lower = step(failures=1000, rate=0.34)  # 21 of 62 are less, 22 of 63 are not
    fail(breakers, lower)
    fail(breakers, lower)
    assert not breakers.lets_through(lower)


@pytest.mark.parametrize("kind", [FailureKind.BAD_REQUEST, FailureKind.CONTEXT_WINDOW, FailureKind.CONTENT_POLICY])
def test_a_refused_request_counts_as_a_success(breakers: Breakers, kind: FailureKind) -> None:
    fail(breakers, step(), 2)
    fail(breakers, step(), 1, UpstreamError(kind, "no", http_status=400))
    fail(breakers, step(), 2)
    assert breakers.lets_through(step())


@pytest.mark.parametrize("kind", [FailureKind.NO_KEY, FailureKind.UNPRICED, FailureKind.BREAKER_OPEN])
def test_a_request_that_never_reached_the_deployment_does_not_count(breakers: Breakers, kind: FailureKind) -> None:
    fail(breakers, step(), 2)
    fail(breakers, step(), 5, UpstreamError(kind, "not called"))
    assert breakers.lets_through(step())
    fail(breakers, step())
    assert not breakers.lets_through(step())


def test_half_open_it_lets_one_through_whose_success_closes_it(breakers: Breakers) -> None:
    fail(breakers, step(), 3)
    time.sleep(COOLDOWN_S)
    assert breakers.lets_through(step())
    assert not from_another_thread(lambda: breakers.lets_through(step()))
    breakers.succeeded(step())
    assert from_another_thread(lambda: breakers.lets_through(step()))
    fail(breakers, step(), 2)  # counted from nothing
    assert breakers.lets_through(step())


def test_half_open_its_probes_failure_opens_it_again(breakers: Breakers) -> None:
    fail(breakers, step(), 3)
    time.sleep(COOLDOWN_S)
    assert breakers.lets_through(step())
    fail(breakers, step())
    assert not breakers.lets_through(step())
    time.sleep(COOLDOWN_S)
    assert breakers.lets_through(step())


def test_a_probe_that_was_never_sent_lets_the_next_request_probe(breakers: Breakers) -> None:
    fail(breakers, step(), 3)
    time.sleep(COOLDOWN_S)
    assert breakers.lets_through(step())
    breakers.failed(step(), UpstreamError(FailureKind.UNPRICED, "no room"))
    assert breakers.lets_through(step())
    breakers.probe_ended(step())
    assert from_another_thread(lambda: breakers.lets_through(step()))


def test_calls_that_began_before_it_opened_decide_nothing(breakers: Breakers) -> None:
    fail(breakers, step(), 3)
    breakers.succeeded(step())
    assert not breakers.lets_through(step())
    time.sleep(COOLDOWN_S / 2)
    fail(breakers, step())
    time.sleep(COOLDOWN_S / 2)
    assert breakers.lets_through(step())  # the cool-down did not start again
    from_another_thread(lambda: breakers.succeeded(step()))
    from_another_thread(lambda: fail(breakers, step()))
    assert not from_another_thread(lambda: breakers.lets_through(step()))  # the probe still runs
    breakers.succeeded(step())
    assert from_another_thread(lambda: breakers.lets_through(step()))


def test_a_retry_after_longer_than_the_cooldown_is_honoured(breakers: Breakers) -> None:
    fail(breakers, step(), 2, UpstreamError(FailureKind.RATE_LIMITED, "slow down", retry_after_s=0.6))
    fail(breakers, step())  # this failure has no Retry-After, so the earlier one still holds
    time.sleep(COOLDOWN_S + 0.1)
    assert not breakers.lets_through(step())
    time.sleep(0.3)
    assert breakers.lets_through(step())


def test_a_late_retry_after_keeps_it_open_for_longer(breakers: Breakers) -> None:
    fail(breakers, step(), 3)
    fail(breakers, step(), 1, UpstreamError(FailureKind.RATE_LIMITED, "slow down", retry_after_s=0.6))
    time.sleep(COOLDOWN_S + 0.1)
    assert not breakers.lets_through(step())
    time.sleep(0.3)
    assert breakers.lets_through(step())


def test_a_retry_after_of_years_counts_as_an_hour(breakers: Breakers) -> None:
    fail(breakers, step(), 3, UpstreamError(FailureKind.RATE_LIMITED, "never again", retry_after_s=1e9))
    ((_, news),) = breakers.news()
    assert 3590 < news.open_until - time.monotonic() <= 3600


def test_who_has_nobody_else_to_go_to_waits_for_the_probe_and_goes_on_when_it_succeeds(breakers: Breakers) -> None:
    began = time.monotonic()
    fail(breakers, step(), 3)
    with ThreadPoolExecutor(20) as pool:
        calling = threading.Semaphore(0)

        def request() -> float:
            assert breakers.admits(step(), wait_s=10)
            admitted_s = time.monotonic() - began
            if breakers.is_open(step()):  # only the probe's own request sees it so
                calling.acquire()
                breakers.succeeded(step())
            return admitted_s

        requests = [pool.submit(request) for _ in range(20)]
        assert eventually(lambda: time.monotonic() - began > COOLDOWN_S + 0.3)
        assert not any(request.done() for request in requests)
        calling.release()
        waited_s = sorted(request.result() for request in requests)
    assert within(waited_s[0], COOLDOWN_S + 0.1, least_s=COOLDOWN_S)
    assert within(waited_s[-1], COOLDOWN_S + 0.5, least_s=COOLDOWN_S + 0.3)


def test_who_waits_is_refused_when_the_probe_fails(breakers: Breakers) -> None:
    long = step(cooldown_s=1.0)
    fail(breakers, long, 3)
    time.sleep(1.0)
    assert breakers.admits(long, wait_s=10)
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(breakers.admits, long, 10) for _ in range(5)]
        time.sleep(0.3)
        assert not any(request.done() for request in waiting)
        began = time.monotonic()
        fail(breakers, long)
        assert [request.result() for request in waiting] == [False] * 5
        assert within(time.monotonic() - began, 0.3)
    assert within(breakers.open_s(long), 1.0, least_s=0.5)


def test_who_waits_becomes_the_probe_when_the_first_one_was_never_sent(breakers: Breakers) -> None:
    fail(breakers, step(), 3)
    time.sleep(COOLDOWN_S)
    assert breakers.admits(step(), wait_s=10)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(breakers.admits, step(), 10)
        time.sleep(0.1)
        assert not waiting.done()
        breakers.probe_ended(step())
        assert waiting.result(timeout=2)


def test_nobody_waits_longer_than_it_may(breakers: Breakers) -> None:
    late = step(cooldown_s=30)
    fail(breakers, late, 3)
    began = time.monotonic()
    assert not breakers.admits(late, wait_s=10)  # there will be no probe within that
    assert within(time.monotonic() - began, 0.1)
    fail(breakers, step("n"), 3)
    time.sleep(COOLDOWN_S)
    assert breakers.admits(step("n"), wait_s=10)
    began = time.monotonic()
    assert not from_another_thread(lambda: breakers.admits(step("n"), wait_s=0.4))  # the probe takes longer
    assert within(time.monotonic() - began, 0.5, least_s=0.4)


def test_one_key_alone_opens_nothing_where_another_is_at_work(breakers: Breakers) -> None:
    breakers.succeeded(step(), 1)
    fail(breakers, step(), 50, key=2)
    assert breakers.lets_through(step())
    assert breakers.news() == []
    fail(breakers, step(), key=1)  # it fails for the other one too
    assert not breakers.lets_through(step())


def test_a_rate_of_failures_of_one_key_alone_opens_nothing_either(breakers: Breakers) -> None:
    often = step(failures=1000)
    for _ in range(30):
        breakers.succeeded(often, 1)
        fail(breakers, often, 2, key=2)
    assert breakers.lets_through(often)
    fail(breakers, often, key=1)
    assert not breakers.lets_through(often)


def test_the_only_key_that_is_at_work_opens_it_as_ever(breakers: Breakers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "LATELY_S", 0.2)
    breakers.succeeded(step(), 1)
    time.sleep(0.2)
    fail(breakers, step(), 3, key=2)
    assert not breakers.lets_through(step())


def test_an_outage_opens_it_for_many_keys_as_fast_as_for_one(breakers: Breakers) -> None:
    for key in range(1, 9):
        breakers.succeeded(step(), key)
    for key in (4, 7, 4):
        assert breakers.lets_through(step())
        fail(breakers, step(), key=key)
    assert not breakers.lets_through(step())


def test_what_is_remembered_of_keys_is_bounded(breakers: Breakers) -> None:
    for key in range(5000):
        breakers.succeeded(step(), key)
    fail(breakers, step(), 3, key=7)
    assert breakers.lets_through(step())
    assert len(breakers.uses()) == clients.MOST_TOLD
    assert len(breakers._of(("p", "m")).clients.used) <= 100


def test_the_others_are_told_once_what_does_not_change(breakers: Breakers) -> None:
    breakers.succeeded(step(), 1)
    assert [(name, use.key, use.failed_s) for name, use in breakers.uses()] == [(("p", "m"), 1, None)]
    breakers.succeeded(step(), 1)
    assert breakers.uses() == []
    fail(breakers, step(), key=1)
    ((_, use),) = breakers.uses()
    assert use.failed_s is not None
