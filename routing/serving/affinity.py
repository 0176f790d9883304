"""Keeps a conversation at the deployment and the provider key whose prompt cache knows it.

Weighted rendezvous hashing: each candidate's chance is a hash of the conversation and the candidate's name, where a
request of no conversation draws at random. So every process, today and after a restart, comes to the same order without
a store, each candidate is first in its weight's share of all conversations, and one that is left out or comes back
moves only the conversations that it serves (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable


class Affinity:
    __slots__ = ("_conversation", "_hash")

    def __init__(self, conversation: Callable[[], str]) -> None:
        """``conversation`` says what it is known by. With one deployment and one key, which is the usual, nobody asks,
        and reading a whole prompt for it would be a twelfth of a request's work. Only its hash is kept."""
        self._conversation = conversation
        self._hash: bytes | None = None

    def chance(self, name: str) -> float:
        """At least 0 and below 1, the same whenever it is asked, and spread as if by chance over conversations."""
        if self._hash is None:
            self._hash = hashlib.blake2b(_bytes(self._conversation()), digest_size=32).digest()
        drawn = hashlib.blake2b(_bytes(name), digest_size=8, key=self._hash).digest()
        return (int.from_bytes(drawn) >> 11) / 2**53  # a float has 53 bits: with more, it could be 1


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
