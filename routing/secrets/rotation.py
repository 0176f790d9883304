"""Chooses which of a provider's keys a call takes. Keys take turns, and keys that rest or are out are passed over.

- A key whose call is answered with 429 rests for as long as the provider asks.
- A key whose call is answered with 401 or 403 is out until its secret changes or :data:`OUT_S` has passed.
- Both are preferences. When no better key is left, such a key is used all the same, so that a provider with a single
  key behaves as if there were no rotation.

Each process remembers this for itself.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from routing.secrets import references
from routing.upstreams.base import FailureKind, UpstreamError

REST_S = 5.0  # after a 429 that does not say how long to wait
MAX_REST_S = 300.0
OUT_S = 600.0

#: By provider, reference and hash of the secret: until when the key is avoided (monotonic), and whether it is out.
_avoided: dict[tuple[str, str, bytes], tuple[float, bool]] = {}
_turns: dict[str, int] = {}
_lock = threading.Lock()


class Provider(Protocol):
    """A provider, as far as its keys are concerned: `routing.catalog.Provider`."""

    @property
    def name(self) -> str: ...

    @property
    def key_references(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class ProviderKey:
    reference: str
    secret: str  # empty when the provider needs none

    def of(self, provider: Provider) -> tuple[str, str, bytes]:
        return provider.name, self.reference, hashlib.sha256(self.secret.encode("utf-8", "replace")).digest()


def choose(provider: Provider, tried: Collection[str] = ()) -> ProviderKey | None:
    """The key for the next call; None when no reference leads to a key.

    It is the next key in turn that is well, else the resting key that is well soonest, else a key that is out. Keys
    whose references are in ``tried`` are left out, unless all were tried. Raises UnknownStore when the provider has one
    reference and that names no known store."""
    if len(provider.key_references) == 1:  # nearly all providers have one key
        secret = references.read(provider.key_references[0])
        return None if secret is None else ProviderKey(provider.key_references[0], secret)
    keys = _present(provider)
    if not keys:
        return None
    keys = [key for key in keys if key.reference not in tried] or keys
    now = time.monotonic()
    with _lock:
        turn = _turns[provider.name] = _turns.get(provider.name, -1) + 1
        order = keys[turn % len(keys) :] + keys[: turn % len(keys)]
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
    """Whether a key is left that was not tried, does not rest and is not out."""
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
    """The sort order: well keys first, then resting keys by when they are well again, then keys that are out."""
    identity = key.of(provider)
    until, is_out = _avoided.get(identity, (0.0, False))
    if until <= now:
        _avoided.pop(identity, None)
        return False, 0.0
    return is_out, until
