"""kill -9 of any process at any moment: afterwards every admitted request is on the books exactly once."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence

from tests.clocks import eventually
from tests.ledger.cluster import Answer, Cluster, Load, ask, slow_and_various

#: How long holds may stay held after a death. The other writers look once a second, and expire at the second look.
NOTICED_WITHIN_S = 5.0
_numbers = itertools.count(1)


def violence(cluster: Cluster) -> list[Callable[[], None]]:
    return [cluster.kill_a_worker, cluster.kill_a_session, cluster.kill_postgres, cluster.kill_a_gateway]


def survive(cluster: Cluster, kills: Sequence[Callable[[], None]], *, clients: int = 12) -> dict[str, int]:
    """One round: load, a kill during the load, and the books compared with what clients and provider saw."""
    user = f"round-{next(_numbers)}"
    cluster.sim.reset()
    cluster.sim.behave("openai", forever=slow_and_various())
    cluster.limit(user, "1000")
    load = Load(cluster, clients, user)
    for kill in kills:
        time.sleep(random.uniform(0.3, 1.0))
        kill()
    died_at, answered = time.monotonic(), len(load.answers)
    assert eventually(lambda: any(a.status == 200 for a in load.answers[answered:]), 15), load.statuses()
    answers = load.stop()
    # Living workers notice the holds of dead workers within seconds, without help.
    assert eventually(lambda: cluster.held() == 0, NOTICED_WITHIN_S + max(0, died_at + 1 - time.monotonic()))
    assert_on_the_books_once(cluster, user, answers)
    # They block no budget.
    after = ask(cluster.urls[0], user, f"{user}-after", 5)
    assert (after.status, after.code) == (200, "")
    states = [row[0] for rows in cluster.entries(user).values() for row in rows]
    return {state: states.count(state) for state in sorted(set(states))}


def assert_on_the_books_once(cluster: Cluster, user: str, answers: list[Answer]) -> None:
    entries = cluster.entries(user)
    assert {request_id: len(rows) for request_id, rows in entries.items()} == dict.fromkeys(entries, 1)
    # An answered request is posted at exactly the cost that the client was told.
    for answer in answers:
        if answer.status == 200:
            assert entries[answer.request_id][0][:2] == ("posted", answer.cost_usd)
        elif answer.status == 503:
            # Nothing was spent: the request was not admitted, or was voided before any provider was called.
            assert (answer.code, entries.get(answer.request_id, [("voided",)])[0][0]) == (
                "ledger_unavailable",
                "voided",
            )
        else:
            assert answer.status == 0, answer
    # Each request that reached the provider has a row and is charged: posted, or unknown at its hold.
    reached = {str(request.body["messages"][0]["content"]) for request in cluster.sim.requests if request.body}
    assert {request_id: entries[request_id][0][0] in ("posted", "unknown") for request_id in reached} == dict.fromkeys(
        reached, True
    )
    for state, cost_usd, hold_usd in (rows[0] for rows in entries.values()):
        if state == "unknown":
            assert cost_usd == hold_usd
        elif state == "posted":
            assert cost_usd is not None
            assert cost_usd <= hold_usd
    cluster.assert_reconciles()


def test_a_killed_worker_loses_and_doubles_nothing(cluster: Cluster) -> None:
    states = survive(cluster, [cluster.kill_a_worker])
    assert states["posted"] > 10
    assert len(cluster.workers()) == 4


def test_a_killed_session_loses_and_doubles_nothing(cluster: Cluster) -> None:
    assert survive(cluster, [cluster.kill_a_session])["posted"] > 10


def test_a_killed_postgres_loses_and_doubles_nothing(cluster: Cluster) -> None:
    assert survive(cluster, [cluster.kill_postgres])["posted"] > 10


def test_a_killed_gateway_loses_and_doubles_nothing(cluster: Cluster) -> None:
    assert survive(cluster, [cluster.kill_a_gateway])["posted"] > 10
