"""Which of a provider's keys a call takes: in turn, past those that rest or are out. This process's own memory.

A key that the provider answers with 429 rests for as long as it asks, and one that it answers with 401 or 403 is out
until its secret changes or :data:`OUT_S` has passed. Both are preferences, not bans: when no key is left that is
better, one of them is tried all the same, so that a provider with a single key behaves as if this did not exist.
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

REST_S = 5.0  # of a 429 that does not say for how long
MAX_REST_S = 300.0
OUT_S = 600.0

#: By provider, reference and a hash of the secret: until when (monotonic), and whether it is out, not only at rest.
_avoided: dict[tuple[str, str, bytes], tuple[float, bool]] = {}
_turns: dict[str, int] = {}
_lock = threading.Lock()


class Provider(Protocol):
    """What has keys: `routing.catalog.Provider`."""

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
    """The key for the next call: the next in turn that is well, else the one that is well soonest, and one that is out
    only when there is no other. Not one whose reference was tried, unless all were; None: no reference leads to a
    key. Raises UnknownStore when the only reference cannot be read at all."""
    if len(provider.key_references) == 1:  # nearly always
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
        return min(order, key=lambda key: _badness(provider, key, now))  # the first of equals


def failed(provider: Provider, key: ProviderKey, error: UpstreamError) -> None:
    """Note what the provider said of the key."""
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
    """Whether a key is left that was not tried and that nothing speaks against."""
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
    """Sorts well keys first, then resting ones by when they are well again, then those that are out."""
    identity = key.of(provider)
    until, is_out = _avoided.get(identity, (0.0, False))
    if until <= now:
        _avoided.pop(identity, None)
        return False, 0.0
    return is_out, until
