"""How many requests, and how many bytes of them, a process serves at once."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from pytest_django import Settings

from accounting.keys import ANONYMOUS_KEY, Key
from accounting.rates import RateLimits
from routing.api.places import LARGE_BYTES, MOST_REST_S, SMALL_BYTES, Place, Places
from routing.exceptions import GatewayBusy, RateLimited
from tests.clocks import within

MANY = 10**9


def key(number: int, concurrent_requests: int | None = None) -> Key:
    limits = RateLimits(concurrent_requests=concurrent_requests)
    return Key(number, f"key {number}", "", True, None, frozenset(), limits)


@pytest.fixture(autouse=True)
def three_a_key(settings: Settings) -> None:
    settings.GATEWAY_KEY_CONCURRENCY = 3


def of(places: Places, key: Key, count: int) -> list[Place]:
    return [places.take(key) for _ in range(count)]


def test_a_key_without_a_limit_of_its_own_has_the_default_share() -> None:
    places = Places(10, most_left=0, most_bytes=MANY)
    taken = of(places, key(1), 3)
    with pytest.raises(RateLimited, match="limited to 3 requests at once and has used 3") as refusal:
        places.take(key(1))
    assert (refusal.value.status, refusal.value.headers) == (429, {"Retry-After": "1"})
    of(places, key(2), 3)  # nobody else is concerned
    taken[0].free()
    of(places, key(1), 1)


def test_the_limit_of_a_key_takes_the_place_of_the_default() -> None:
    places = Places(10, most_left=0, most_bytes=MANY)
    of(places, key(1, concurrent_requests=5), 5)
    with pytest.raises(RateLimited):
        places.take(key(1, concurrent_requests=5))
    of(places, key(2, concurrent_requests=1), 1)
    with pytest.raises(RateLimited):
        places.take(key(2, concurrent_requests=1))


def test_over_all_places_everybody_is_asked_to_come_again() -> None:
    places = Places(4, most_left=0, most_bytes=MANY)
    taken = of(places, ANONYMOUS_KEY, 4)  # whoever needs no key has no share, only the whole
    with pytest.raises(GatewayBusy, match="4 requests") as refusal:
        places.take(key(1))
    assert (refusal.value.status, refusal.value.code, refusal.value.headers) == (
        503,
        "gateway_busy",
        {"Retry-After": "1"},
    )
    taken.pop().free()
    places.take(key(1))


def test_a_client_that_leaves_frees_its_place_once() -> None:
    places = Places(3, most_left=10, most_bytes=MANY)
    first, *_ = of(places, key(1), 3)
    first.leave()
    first.leave()
    of(places, key(1), 1)
    with pytest.raises(RateLimited):
        places.take(key(1))
    first.free()  # its answer has come at last: that frees nothing more
    first.free()
    with pytest.raises(RateLimited):
        places.take(key(1))


def test_so_many_answers_at_most_go_on_without_their_clients() -> None:
    places = Places(100, most_left=4, most_bytes=MANY)
    for _ in range(3):
        places.take(key(1)).leave()
    ours = of(places, key(1), 3)
    ours[0].leave()  # the key has its share of those too, so this one keeps its place
    with pytest.raises(RateLimited):
        places.take(key(1))
    others = of(places, key(2), 3)
    others[0].leave()
    others[1].leave()  # and all keys together
    of(places, key(2), 1)
    with pytest.raises(RateLimited):
        places.take(key(2))


def test_large_bodies_are_bounded_together_and_small_ones_pass() -> None:
    places = Places(100, most_left=0, most_bytes=10 * SMALL_BYTES)
    large = [places.take(replace(ANONYMOUS_KEY)) for _ in range(2)]
    for place in large:
        place.add_bytes(5 * SMALL_BYTES)
    with pytest.raises(GatewayBusy, match="large"):
        places.take(ANONYMOUS_KEY).add_bytes(SMALL_BYTES + 1)
    places.take(key(1)).add_bytes(SMALL_BYTES)
    large[0].free()
    places.take(key(1)).add_bytes(2 * SMALL_BYTES)


def test_one_key_has_half_of_the_bytes_at_most() -> None:
    places = Places(100, most_left=0, most_bytes=10 * SMALL_BYTES)
    place = places.take(key(1))
    place.add_bytes(5 * SMALL_BYTES)
    with pytest.raises(GatewayBusy):
        place.add_bytes(1)
    places.take(key(2)).add_bytes(4 * SMALL_BYTES)
    place.free()
    places.take(key(1)).add_bytes(5 * SMALL_BYTES)


@pytest.mark.parametrize(("size", "least_s"), [(LARGE_BYTES, 0.0), (LARGE_BYTES + 1, 0.02)], ids=["small", "large"])
def test_the_work_on_a_large_body_rests_as_long_as_it_took(size: int, least_s: float) -> None:
    place = Places(10, most_left=0, most_bytes=MANY).take(key(1))
    place.add_bytes(size)
    place.rest()
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass
    began = time.perf_counter()
    place.rest()
    took_s = time.perf_counter() - began
    assert took_s >= least_s
    assert within(took_s, MOST_REST_S if least_s else 0.01)
