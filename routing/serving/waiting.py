"""A call that is waited for in pieces, so that whoever waits for it can say meanwhile that it does."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Waited(Generic[T]):
    """The call runs in a thread of its own, a greenlet under gevent."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._is_over = threading.Event()
        self._result: T | None = None
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="waited", daemon=True).start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001  it is raised where the call is waited for
            self._error = error
        finally:
            self._is_over.set()

    def is_over(self, within_s: float) -> bool:
        """Waits so long at most."""
        return self._is_over.wait(within_s)

    def result(self) -> T:
        """Waits as long as it takes. Raises what the call raised."""
        self._is_over.wait()
        if self._error is not None:
            raise self._error
        return cast(T, self._result)
