"""Keeps a conversation at the deployment and the provider key whose prompt cache knows it.

Weighted rendezvous hashing: each candidate's chance is a hash of the conversation and the candidate's name, where a
request of no conversation draws at random. So every process, today and after a restart, comes to the same order without
a store, each candidate is first in its weight's share of all conversations, and one that is left out or comes back
moves only the conversations that it serves (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
"""

from __future__ import annotations

import hashlib


class Affinity:
    __slots__ = ("_conversation",)

    def __init__(self, conversation: str) -> None:
        """What a conversation is known by. Only its hash is kept."""
        self._conversation = hashlib.blake2b(conversation.encode("utf-8", "surrogatepass"), digest_size=32).digest()

    def chance(self, name: str) -> float:
        """At least 0 and below 1, the same whenever it is asked, and spread as if by chance over conversations."""
        key = self._conversation
        drawn = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
        return (int.from_bytes(drawn) >> 11) / 2**53  # a float has 53 bits: with more, it could be 1
