"""Chooses a provider's key for a call: a conversation keeps its key, other calls take the keys in turn, and keys that
rest or are out are skipped.

A key that the provider answers with 429 rests for as long as the provider asks. A key that it answers with 401 or 403
is out until its secret changes or :data:`OUT_S` has passed. When no better key is left, such a key is used all the
same. So a provider with a single key behaves as if this module did not exist. Each process remembers for itself.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection
from typing import Protocol

from accounting.record import record
from routing.secrets import references
from routing.upstreams.base import FailureKind, UpstreamError

REST_S = 5.0  # after a 429 without a Retry-After
MAX_REST_S = 300.0
OUT_S = 600.0

#: By provider, reference and hash of the secret: until when (monotonic) to avoid the key, and whether it is out.
_avoided: dict[tuple[str, str, bytes], tuple[float, bool]] = {}
_turns: dict[str, int] = {}
_lock = threading.Lock()


class Provider(Protocol):
    """What this module needs of `routing.catalog.Provider`."""

    @property
    def name(self) -> str: ...

    @property
    def key_references(self) -> tuple[str, ...]: ...


@record(frozen=True, slots=True)
class ProviderKey:
    reference: str
    secret: str  # empty when the provider needs no key

    def of(self, provider: Provider) -> tuple[str, str, bytes]:
        return provider.name, self.reference, hashlib.sha256(self.secret.encode("utf-8", "replace")).digest()


def choose(
    provider: Provider,
    tried: Collection[str] = (),
    chance: Callable[[str], float] | None = None,
    *,
    takes_turn: bool = True,
    prefers: Callable[[str], bool] | None = None,
) -> ProviderKey | None:
    """The key for the next call; None when no reference leads to a key. Prefers, in this order:

    - a key whose secret the call ``prefers``, also once it was tried
    - a key whose reference is not in ``tried``
    - a key that nothing speaks against: the conversation's, else in turn
    - of the resting keys, the key whose rest ends first
    - a key that is out

    ``chance`` gives each key, by its name, the conversation's number; None: the call is no part of a conversation.
    Without ``takes_turn`` the turn is only looked at. Raises UnknownStore or NotAllowed when the only reference does.
    """
    if len(provider.key_references) == 1:  # nearly always
        secret = references.read(provider.key_references[0])
        return None if secret is None else ProviderKey(provider.key_references[0], secret)
    keys = _present(provider)
    if not keys:
        return None
    if prefers is not None:
        keys = [key for key in keys if prefers(key.secret)] or keys
    keys = [key for key in keys if key.reference not in tried] or keys
    now = time.monotonic()
    with _lock:
        if chance is None:
            turn = _turns.get(provider.name, -1) + 1
            if takes_turn:
                _turns[provider.name] = turn
            order = keys[turn % len(keys) :] + keys[: turn % len(keys)]
        else:
            order = sorted(keys, key=lambda key: chance(f"{provider.name}\0{key.reference}"))
        return min(order, key=lambda key: _badness(provider, key, now))  # of equal keys, min takes the first


def failed(provider: Provider, key: ProviderKey, error: UpstreamError) -> None:
    """Remember what the failure says of the key."""
    if error.kind is FailureKind.RATE_LIMITED:
        rest_s = REST_S if error.retry_after_s is None else min(error.retry_after_s, MAX_REST_S)
        avoided = (time.monotonic() + rest_s, False)
    elif error.kind is FailureKind.AUTHENTICATION:
        avoided = (time.monotonic() + OUT_S, True)
    else:
        return
    with _lock:
        _avoided[key.of(provider)] = avoided


def another_is_well(provider: Provider, tried: Collection[str]) -> bool:
    """Whether there is a key that was not tried, does not rest and is not out."""
    if len(provider.key_references) == 1:
        return False
    now = time.monotonic()
    with _lock:
        return any(
            key.reference not in tried and _badness(provider, key, now) == (False, 0.0) for key in _present(provider)
        )


def _present(provider: Provider) -> list[ProviderKey]:
    found = ((reference, references.find(reference)) for reference in provider.key_references)
    return [ProviderKey(reference, secret) for reference, secret in found if secret]


def _badness(provider: Provider, key: ProviderKey, now: float) -> tuple[bool, float]:
    """Sorts good keys first, then resting keys by the end of their rest, then keys that are out."""
    identity = key.of(provider)
    until, is_out = _avoided.get(identity, (0.0, False))
    if until <= now:
        _avoided.pop(identity, None)
        return False, 0.0
    return is_out, until
