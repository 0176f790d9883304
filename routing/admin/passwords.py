"""Passwords are hashed beside the thread that serves: a hash takes a third of a second, and every client would wait.

One thread a process hashes, one password after the other, and gives way to all else that wants to compute.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import cache

from django.contrib.auth.hashers import PBKDF2PasswordHasher

MOST_WAITING = 8  # passwords that wait for the thread; each of them holds a connection of the process


class Hasher(PBKDF2PasswordHasher):
    """Django's own hash, so that a stored password stays what it is with either class."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with _queue:
            return _pool(os.getpid()).submit(_encode, super().encode, password, salt, iterations).result()


class _Queue:
    """Counts those who wait for the thread, and who has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.length = 0

    def __enter__(self) -> None:
        with self._lock:
            self.length += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.length -= 1


_queue = _Queue()


def is_busy() -> bool:
    """Whether so many passwords wait that one more should not."""
    return _queue.length >= MOST_WAITING


@cache
def _pool(pid: int) -> Executor:
    """Of this process, because a fork does not take its parent's threads along."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        from gevent.threadpool import ThreadPoolExecutor as NativeThreads

        pool: Executor = NativeThreads(max_workers=1)  # the patched kind would hash in the thread that serves
        return pool
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords")


def _encode(encode: object, *arguments: object) -> str:
    if sys.platform == "linux":  # elsewhere this is the whole process's priority
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 19)  # of this thread
    return str(encode(*arguments))  # type: ignore[operator]
