"""Keeps requests away from a failing deployment. There is one breaker for each provider and model.

- **Closed**: requests call the deployment. The breaker opens after ``breaker_failures`` failures in a row, or when the
  part ``breaker_failure_rate`` of the last minute's calls has failed and there were at least 20 calls. Where several
  API keys use the deployment, failures of one of them alone open nothing (:mod:`routing.breakers.clients`).
- **Open**, for ``breaker_cooldown_s`` or for as long as the provider's Retry-After asks: requests skip the deployment.
  To skip it costs one look into a dictionary.
- **Half-open**: one request, the probe, calls the deployment, and the others still skip it. The probe's success closes
  the breaker. Its failure opens the breaker again. A request that has nobody else to go to waits for
  the probe's result (:meth:`Breakers.admits`).

Each process counts and decides by itself, in memory. The other processes learn of its decisions within a second through
`routing.breakers.sharing`, and only one process gets the probe. When the processes do not share, or Postgres is away,
each process keeps its own state.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from accounting import facts
from routing.breakers.clients import ANONYMOUS, Clients, Use
from routing.catalog import Step
from routing.upstreams.base import FailureKind, UpstreamError

#: Failures that speak of the deployment's health, not of the request.
COUNTED = frozenset(
    {
        FailureKind.RATE_LIMITED,
        FailureKind.OVERLOADED,
        FailureKind.CONNECTION,
        FailureKind.TIMEOUT,
        FailureKind.AUTHENTICATION,
        FailureKind.NOT_FOUND,
        FailureKind.MALFORMED,
        FailureKind.INTERRUPTED,
    }
)
#: A refusal of the request is an answer: a deployment that refuses is healthy.
REFUSALS = frozenset(
    {FailureKind.BAD_REQUEST, FailureKind.CONTEXT_WINDOW, FailureKind.CONTENT_POLICY, FailureKind.CAPABILITY}
)

# A failure rate covers the last minute, counted in slots of 5 s. Below 20 calls a rate means nothing: of two calls, one
# fails easily.
RATE_OVER_S = 60
RATE_SLOT_S = 5
RATE_CALLS = 20
MAX_PATIENCE_S = 3600.0  # a longer Retry-After is a mistake, and nobody would call the deployment and find out
MAX_PROBE_S = 60.0  # after this time without a result, another request may probe
MAX_WAITING = 1000  # requests that wait for the probe of one deployment, in one process
LOOK_AGAIN_S = 0.02  # a waiting request looks no sooner again, unless it is woken
LATER_S = (
    0.25  # a probe has failed when `open_until` moved by more than this; the database's time comes with some delay
)

Name = tuple[str, str]  # provider, model


@dataclass(eq=False, slots=True)
class Probe:
    """The one request that may call a half-open deployment."""

    thread: int  # the thread or greenlet that runs the request
    until: float  # monotonic: when another request may take the probe
    is_granted: bool = False
    generation: int | None = None  # of the shared state when the probe was claimed; None: this process granted it alone


@dataclass(frozen=True, slots=True)
class Opened:
    """News for the other processes: this process has opened a breaker, or keeps it open for longer."""

    open_until: float  # monotonic
    failures: int
    kind: FailureKind


@dataclass(frozen=True, slots=True)
class ProbeEnded:
    """News for the other processes: a probe of this process has ended.

    ``kind`` says how the probe failed. When it is None, the probe succeeded (``is_closed``), or its request ended
    without a result.
    """

    generation: int | None
    is_closed: bool
    open_until: float = 0.0  # monotonic
    kind: FailureKind | None = None


News = Opened | ProbeEnded


@dataclass(frozen=True, slots=True)
class Shared:
    """An open breaker as the database has it. Times count from now and are negative when they have passed."""

    name: Name
    generation: int
    open_s: float
    probe_s: float


class _LastMinute:
    """How many calls there were in the last minute, and how many of them failed."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: deque[list[int]] = deque()  # [number of the slot, calls, failures]

    def note(self, now: float, *, failed: bool) -> None:
        number = int(now / RATE_SLOT_S)
        if not self._slots or self._slots[-1][0] != number:
            self._slots.append([number, 0, 0])
            while self._slots[0][0] <= number - RATE_OVER_S // RATE_SLOT_S:
                self._slots.popleft()
        slot = self._slots[-1]
        slot[1] += 1
        slot[2] += failed

    def failures_at(self, rate: float) -> int:
        """The number of failures if there were enough calls and the rate is reached; else 0."""
        calls, failures = (sum(slot[which] for slot in self._slots) for which in (1, 2))
        return failures if calls >= RATE_CALLS and failures >= rate * calls else 0


@dataclass(slots=True)
class _Breaker:
    failures: int = 0  # in a row
    clients: Clients = field(default_factory=Clients)
    last_minute: _LastMinute = field(default_factory=_LastMinute)
    asked_until: float = 0.0  # monotonic: how long the provider asked for patience
    open_until: float | None = None  # monotonic; None: closed
    probed_until: float = 0.0  # monotonic: until then another process has the probe
    probe: Probe | None = None  # set when this process has the probe, or asks for it
    waiting: int = 0  # requests that have nobody else to go to
    changed: threading.Condition | None = None  # what they wait for; made by the first of them

    def close(self) -> None:
        self.failures, self.last_minute, self.asked_until = 0, _LastMinute(), 0.0
        self.open_until, self.probed_until, self.probe = None, 0.0, None
        self.wake()

    def wake(self) -> None:
        """Those that wait look again. With the lock held."""
        if self.waiting and self.changed is not None:
            self.changed.notify_all()

    def is_closed(self) -> bool:
        """Without the lock the answer may change at once, so callers ask again when they hold the lock."""
        return self.open_until is None

    def is_passed_by(self, now: float) -> bool:
        """Whether requests skip the deployment: the breaker is open, or half-open and a probe is running."""
        open_until, probe = self.open_until, self.probe  # each is read only once, because the lock may not be held
        if open_until is None:
            return False
        return now < open_until or now < self.probed_until or (probe is not None and now < probe.until)

    def passed_by_until(self) -> float:
        """Monotonic: when that ends, if nothing is heard until then."""
        return max(self.open_until or 0.0, self.probed_until, 0.0 if self.probe is None else self.probe.until)

    def own_probe(self) -> Probe | None:
        """The probe, if the caller runs it. Other callers report calls that began before the breaker opened."""
        probe = self.probe
        return probe if probe is not None and probe.is_granted and probe.thread == threading.get_ident() else None


class Breakers:
    """The breakers of one process."""

    def __init__(self) -> None:
        # `Sharing` sets both. `ask_for` waits, for a bounded time, until the probe is granted or refused.
        self.ask_for: Callable[[Name, Probe], None] | None = None
        self.when_news: Callable[[], None] | None = None
        self._table: dict[Name, _Breaker] = {}
        self._called: set[Name] = set()  # since the other processes were told
        self._news: dict[Name, News] = {}  # only the latest news of each breaker, which replaces the older
        self._lock = threading.Lock()

    # --- the requests' side ---------------------------------------------------------------------------------

    def lets_through(self, step: Step) -> bool:
        """Whether the caller may call the deployment now. With a half-open breaker, True makes the caller the probe."""
        name = _name(step)
        breaker = self._table.get(name)
        if breaker is None or breaker.is_closed():
            return True
        now = time.monotonic()
        if breaker.is_passed_by(now):
            return False
        with self._lock:
            if breaker.is_closed() or breaker.is_passed_by(now):
                return breaker.is_closed()
            until = now + max(MAX_PROBE_S, step.provider.breaker_cooldown_s)
            probe = breaker.probe = Probe(threading.get_ident(), until, is_granted=self.ask_for is None)
        if self.ask_for is not None:
            self.ask_for(name, probe)
        with self._lock:
            if breaker.probe is not probe:
                return breaker.is_closed()  # another process or an operator may have closed it meanwhile
            if not probe.is_granted:
                breaker.probe = None
                breaker.wake()
            return probe.is_granted

    def admits(self, step: Step, wait_s: float) -> bool:
        """`lets_through` for a request that has nobody else to go to: it waits, within the time, for what becomes of
        the next probe, or is the probe. False: the probe has failed, or will not come or report in time."""
        ends_at = time.monotonic() + wait_s
        fails_at: float | None = None  # when `open_until` is later than that, a probe has failed since we wait
        while not self.lets_through(step):
            with self._lock:
                breaker, now = self._of(_name(step)), time.monotonic()
                if breaker.open_until is None:
                    continue
                fails_at = fails_at or breaker.open_until + LATER_S
                if max(now, breaker.open_until) >= ends_at or breaker.open_until > fails_at:
                    return False
                if breaker.waiting >= MAX_WAITING:
                    return False
                breaker.changed = breaker.changed or threading.Condition(self._lock)
                breaker.waiting += 1
                try:
                    breaker.changed.wait(max(LOOK_AGAIN_S, min(ends_at, breaker.passed_by_until()) - now))
                finally:
                    breaker.waiting -= 1
        return True

    def open_s(self, step: Step) -> float:
        """For how long it is not asked at all; 0 when it is closed or half-open."""
        breaker = self._table.get(_name(step))
        return 0.0 if breaker is None else max(0.0, (breaker.open_until or 0.0) - time.monotonic())

    def state_of(self, step: Step) -> str:
        """``closed``, ``open`` or ``half_open``, for whoever only looks."""
        breaker = self._table.get(_name(step))
        open_until = None if breaker is None else breaker.open_until
        if open_until is None:
            return "closed"
        return "open" if time.monotonic() < open_until else "half_open"

    def is_open(self, step: Step) -> bool:
        """Whether requests skip the deployment now. Unlike `lets_through`, it never makes the caller the probe."""
        breaker = self._table.get(_name(step))
        return breaker is not None and breaker.is_passed_by(time.monotonic())

    def succeeded(self, step: Step, key: int | None = None) -> None:
        """``key``: the id of the client's API key."""
        name, now = _name(step), time.monotonic()
        with self._lock:
            breaker = self._of(name)
            breaker.clients.note(key or ANONYMOUS, now, failed=False)
            self._called.add(name)
            if breaker.open_until is None:
                breaker.failures, breaker.asked_until = 0, 0.0
                breaker.last_minute.note(now, failed=False)
                return
            probe = breaker.own_probe()
            if probe is None:
                return  # the call began before the breaker opened
            breaker.close()
            self._tell(name, ProbeEnded(probe.generation, is_closed=True))
        facts.breaker_closed(*name)

    def failed(self, step: Step, error: UpstreamError, key: int | None = None) -> None:
        if error.kind in REFUSALS:
            self.succeeded(step, key)
        elif error.kind in COUNTED:
            self._count(step, error, key or ANONYMOUS)
        else:
            self.probe_ended(step)

    def probe_ended(self, step: Step) -> None:
        """The request ended without a result. If it was the probe, another request may be the probe now."""
        name = _name(step)
        breaker = self._table.get(name)
        if breaker is None or breaker.probe is None:  # nearly always
            return
        with self._lock:
            probe = breaker.own_probe()
            if probe is None:
                return
            breaker.probe = None
            breaker.wake()
            if probe.generation is not None:
                self._tell(name, ProbeEnded(probe.generation, is_closed=False))

    def _count(self, step: Step, error: UpstreamError, key: int) -> None:
        name, now, provider = _name(step), time.monotonic(), step.provider
        with self._lock:
            breaker = self._of(name)
            is_new = key not in breaker.clients.failed
            breaker.clients.note(key, now, failed=True)
            self._called.add(name)
            if is_new and self.when_news is not None:
                self.when_news()  # another process may wait for a second key's failure
            breaker.asked_until = max(breaker.asked_until, now + min(error.retry_after_s or 0.0, MAX_PATIENCE_S))
            if breaker.open_until is not None and breaker.own_probe() is None:
                # The call began before the breaker opened, but its Retry-After may last longer.
                if breaker.asked_until > breaker.open_until:
                    breaker.open_until = breaker.asked_until
                    breaker.wake()
                    self._tell(name, Opened(breaker.open_until, breaker.failures, error.kind))
                return
            was_open, probe = breaker.open_until is not None, breaker.probe
            breaker.failures += 1
            breaker.last_minute.note(now, failed=True)
            too_often = breaker.last_minute.failures_at(provider.breaker_failure_rate)
            if not was_open and breaker.failures < provider.breaker_failures and not too_often:
                return
            if not was_open and breaker.clients.is_one_alone(now):
                return
            open_until = breaker.open_until = max(now + provider.breaker_cooldown_s, breaker.asked_until)
            breaker.probe = None
            breaker.wake()
            failures = max(breaker.failures, too_often)
            if was_open and probe is not None and probe.generation is not None:
                self._tell(name, ProbeEnded(probe.generation, False, open_until, error.kind))
            else:
                self._tell(name, Opened(open_until, failures, error.kind))
        facts.breaker_opened(facts.BreakerOpened(*name, error.kind.value, failures, round(open_until - now, 3)))

    def _of(self, name: Name) -> _Breaker:
        breaker = self._table.get(name)
        if breaker is None:
            breaker = self._table[name] = _Breaker()
        return breaker

    def _tell(self, name: Name, news: News) -> None:
        self._news[name] = news
        if self.when_news is not None:
            self.when_news()

    # --- the sharing's side ---------------------------------------------------------------------------------

    def news(self) -> list[tuple[Name, News]]:
        """The news that the other processes have not been told yet."""
        with self._lock:
            return list(self._news.items())

    def uses(self) -> list[tuple[Name, Use]]:
        """Which keys have called and failed since the other processes were told. They count as told from now on."""
        now = time.monotonic()
        with self._lock:
            called, self._called = self._called, set()
            return [(name, use) for name in sorted(called) for use in self._of(name).clients.news(now)]

    def learn_uses(self, uses: Iterable[tuple[Name, Use]]) -> None:
        """Which keys have called and failed in any process."""
        now = time.monotonic()
        with self._lock:
            for name, use in uses:
                breaker = self._table.get(name)
                if breaker is not None:  # else this process does not call it
                    breaker.clients.learn(use, now)

    def told(self, name: Name, news: News) -> None:
        with self._lock:
            if self._news.get(name) is news:
                del self._news[name]

    def grant(self, name: Name, probe: Probe, generation: int | None) -> bool:
        """Note that this process has the probe. False: the request no longer waits for it."""
        with self._lock:
            if self._of(name).probe is not probe:
                return False
            probe.is_granted, probe.generation = True, generation
            return True

    def running_probes(self) -> list[tuple[Name, int]]:
        """The probes that this process has claimed and that are still running, with their generations."""
        now = time.monotonic()
        with self._lock:
            return [
                (name, probe.generation)
                for name, breaker in self._table.items()
                if (probe := breaker.probe) is not None and probe.generation is not None and now < probe.until
            ]

    def learn(self, shared: Iterable[Shared]) -> None:
        """Take over the shared state: the breakers in ``shared`` are open and all others are closed.

        A breaker with untold news keeps its state: this process decided after the database was read.
        """
        now = time.monotonic()
        with self._lock:
            found = {state.name: state for state in shared}
            for name, breaker in self._table.items():
                if breaker.open_until is not None and name not in found and name not in self._news:
                    breaker.close()
            for name, state in found.items():
                if name in self._news:
                    continue
                breaker = self._of(name)
                breaker.open_until = now + state.open_s
                probe = breaker.probe
                if probe is not None and probe.generation not in (None, state.generation):
                    probe = breaker.probe = None  # the probe took too long, and another request has been let through
                is_own = probe is not None and probe.generation == state.generation
                breaker.probed_until = 0.0 if is_own else now + state.probe_s
                breaker.wake()


def _name(step: Step) -> Name:
    return step.provider.name, step.deployment.model


#: The breakers of this process.
breakers = Breakers()
lets_through = breakers.lets_through
admits = breakers.admits
open_s = breakers.open_s
state_of = breakers.state_of
is_open = breakers.is_open
succeeded = breakers.succeeded
failed = breakers.failed
probe_ended = breakers.probe_ended
