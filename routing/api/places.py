"""Places: how many requests a process serves at once, in all and of one key, and how many bytes they bring along.

All clients of a worker share its thread, its memory and its connections. Without a bound, one key whose provider does
not answer takes all of them, and nobody can even ask for the gateway's health. So a request takes a place before its
body is read, and gives it back when its answer is written, or when its client leaves. A whole answer is waited for all
the same, because only its end says what was billed: a bounded number of such answers goes on beside the places.

The counts are those of one process. docs/adr/0017 has the numbers and the reasons.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.http import HttpRequest

from accounting import refusals
from accounting.keys import Key
from accounting.rates import RETRY_AT_ONCE_S
from routing.api import memory
from routing.exceptions import GatewayBusy, RateLimited

#: A body that is no larger than this is read, however many bytes the others bring.
SMALL_BYTES: Final = 64 * 1024
#: The work on a larger body has rests.
LARGE_BYTES: Final = 256 * 1024
MOST_REST_S: Final = 0.05
#: Where a request has its place, for whoever reads its body.
META: Final = "gateway.place"


@dataclass(slots=True)
class _Use:
    """What is taken, of the process or of one key."""

    taken: int = 0
    left: int = 0  # by requests whose client has gone
    bytes: int = 0


class Place:
    """One request's place. None of its methods raises when it is free already."""

    __slots__ = ("_is_free", "_is_left", "_places", "_worked_since_s", "bytes", "key_id", "most_of_key")

    def __init__(self, places: Places, key_id: int, most_of_key: int | None) -> None:
        self._places = places
        self._is_left = False
        self._is_free = False
        self._worked_since_s: float | None = None  # of the thread's time; None: the body is being read
        self.key_id = key_id
        self.most_of_key = most_of_key
        self.bytes = 0

    def add_bytes(self, more: int) -> None:
        """So much of the body was read. Raises GatewayBusy when it is too much, together with all others'."""
        self._places.weigh(self, more)

    def rest(self) -> None:
        """Between two pieces of the work on a large body. Its neighbours have the thread for as long as the piece took.

        A neighbour needs the thread half a dozen times before it is answered. Without rests it waits for a piece each
        time, and with them for one."""
        if self.bytes > LARGE_BYTES:
            worked_s = 0.0 if self._worked_since_s is None else time.thread_time() - self._worked_since_s
            time.sleep(min(worked_s, MOST_REST_S))
            self._worked_since_s = time.thread_time()

    def leave(self) -> None:
        """The client has gone, while its answer is still waited for."""
        with self._places.lock:
            if not (self._is_left or self._is_free):
                self._is_left = self._places.moved_out(self)

    def free(self) -> None:
        with self._places.lock:
            if self._is_free:
                return
            self._is_free = True
            self._places.given_back(self, is_left=self._is_left)
        if self.bytes > LARGE_BYTES:
            memory.give_back_soon()


class Places:
    def __init__(self, most: int, *, most_left: int, most_bytes: int) -> None:
        self.lock = threading.Lock()
        self._most = most
        self._most_left = most_left
        self._most_bytes = most_bytes
        self._all = _Use()
        self._of_keys: dict[int, _Use] = {}

    def take(self, key: Key) -> Place:
        """Raises RateLimited when the key has its share, GatewayBusy when no place is left for anybody."""
        most_of_key = _most_of(key)
        with self.lock:
            of_key = self._of_keys.setdefault(key.id or 0, _Use())
            if most_of_key is not None and of_key.taken >= most_of_key:
                raise RateLimited(refusals.RateLimited("requests at once", most_of_key, of_key.taken, RETRY_AT_ONCE_S))
            if self._all.taken >= self._most:
                raise GatewayBusy(f"This worker serves {self._most} requests, which is as many as it may.")
            for use in (self._all, of_key):
                use.taken += 1
        return Place(self, key.id or 0, most_of_key)

    def weigh(self, place: Place, more: int) -> None:
        with self.lock:
            of_key = self._of_keys[place.key_id]
            place.bytes += more
            for use in (self._all, of_key):
                use.bytes += more
            if place.bytes <= SMALL_BYTES:
                return
            has_more_than_half = place.most_of_key is not None and of_key.bytes > self._most_bytes / 2
            if has_more_than_half or self._all.bytes > self._most_bytes:
                raise GatewayBusy("This worker has as many bytes of large requests in hand as it may.")

    def moved_out(self, place: Place) -> bool:
        """Whether the place is free for others although its request goes on. The caller holds the lock."""
        of_key = self._of_keys[place.key_id]
        if self._all.left >= self._most_left or (place.most_of_key is not None and of_key.left >= place.most_of_key):
            return False
        for use in (self._all, of_key):
            use.taken -= 1
            use.left += 1
        return True

    def given_back(self, place: Place, *, is_left: bool) -> None:
        """The caller holds the lock."""
        of_key = self._of_keys[place.key_id]
        for use in (self._all, of_key):
            use.taken -= not is_left
            use.left -= is_left
            use.bytes -= place.bytes
        if not (of_key.taken or of_key.left or of_key.bytes):
            del self._of_keys[place.key_id]


def take(request: HttpRequest, key: Key) -> Place:
    """A place for the request. Raises RateLimited, GatewayBusy."""
    place = _places.take(key)
    request.META[META] = place
    return place


def place_of(request: HttpRequest) -> Place | None:
    """None: the request is served without a place, as those that spend nothing are."""
    return request.META.get(META)


def _most_of(key: Key) -> int | None:
    """How many requests of the key this process serves at once. None: whoever needs no key has no share of its own."""
    if key.id is None:
        return None
    own = key.limits.concurrent_requests
    return settings.GATEWAY_KEY_CONCURRENCY if own is None else own


# A forked worker has its own copy, and nothing is taken before the fork.
_places = Places(
    settings.PLACES, most_left=settings.PLACES_OF_CLIENTS_THAT_LEFT, most_bytes=settings.GATEWAY_BODIES_BYTES
)
