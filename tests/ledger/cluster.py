"""Several gateways under load, on one Postgres, with a simulated provider. The harder tests use them."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually
from tests.e2e.launcher import ROOT, RunningGateway
from tests.simulator import Behaviour, Simulator

ALIAS = "gpt-4o"
# An output token costs a tenth of a cent, and input nearly nothing, so that a dollar pays a hundred small answers.
OUTPUT_USD_PER_MTOK = 1000
INPUT_USD_PER_MTOK = 1


@dataclass(frozen=True)
class Answer:
    """What a client saw of one request. ``status`` is 0 when the connection broke."""

    request_id: str
    status: int
    code: str
    cost_usd: Decimal | None


def ask(url: str, user: str, request_id: str, max_tokens: int, timeout_s: float = 30) -> Answer:
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    message = {"role": "user", "content": request_id}
    body = {"model": ALIAS, "user": user, "max_tokens": max_tokens, "messages": [message]}
    headers = {"content-type": "application/json", "authorization": "Bearer any", "x-request-id": request_id}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        said = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return Answer(request_id, 0, "", None)
    finally:
        connection.close()
    cost = response.getheader("x-gateway-cost-usd")
    code = said["error"]["code"] if response.status != 200 else ""
    return Answer(request_id, response.status, code, None if cost is None else Decimal(cost))


class Cluster:
    """``gateways`` launchers with two workers each. Postgres belongs to the test, which may kill it."""

    def __init__(self, directory: Path, sim: Simulator, gateways: int = 2) -> None:
        self.sim = sim
        self.postgres = EmbeddedPostgres(directory / "postgres")
        self.postgres.start()
        self._directory = directory
        self.gateways = [self._launch(str(number)) for number in range(gateways)]
        for gateway in self.gateways:
            gateway.wait_until_ready()
        self.execute("UPDATE routing_provider SET base_url = %s WHERE name = 'openai'", sim.base_url("openai"))
        self.execute("DELETE FROM routing_fallbackstep")
        self.execute("UPDATE accounting_budget SET limit_usd = 1000000")
        for meter, usd in (("input", INPUT_USD_PER_MTOK), ("output", OUTPUT_USD_PER_MTOK)):
            self.execute(
                "UPDATE accounting_pricerate SET usd_per_unit = %s FROM accounting_price p WHERE p.id = price_id"
                " AND p.model = 'gpt-4o' AND tier = 'standard' AND meter = %s",
                usd, meter,
            )  # fmt: skip

    def _launch(self, name: str, **variables: str) -> RunningGateway:
        return RunningGateway.in_tree(
            self._directory / name, DATABASE_URL=self.postgres.url(), WEB_CONCURRENCY="2",
            OPENAI_API_KEY="sk-simulated", **variables,
        )  # fmt: skip

    def close(self) -> None:
        for _ in range(2):  # the second signal says not to wait for idle connections
            for gateway in self.gateways:
                gateway.process.terminate()
            time.sleep(0.2)
        for gateway in self.gateways:
            gateway.close()
        self.postgres.stop()

    @property
    def urls(self) -> list[str]:
        return [gateway.url for gateway in self.gateways]

    # --- violence -----------------------------------------------------------------------------------------

    def workers(self) -> list[psutil.Process]:
        """gunicorn's workers, of all gateways."""
        return [child for g in self.gateways for child in g.descendants() if child.parent().ppid() == g.process.pid]

    def kill_a_worker(self) -> None:
        random.choice(self.workers()).kill()

    def kill_a_gateway(self) -> None:
        """Kill the launcher, gunicorn and the workers at once. Then start them again at the same address."""
        number = random.randrange(len(self.gateways))
        gateway = self.gateways[number]
        processes = gateway.descendants()
        gateway.process.kill()
        for process in processes:
            process.kill()
        gateway.close()
        self.gateways[number] = self._launch(str(number), PORT=gateway.environment["PORT"])
        self.gateways[number].wait_until_ready()

    def kill_a_session(self) -> None:
        """Kill one of Postgres's own processes. Postgres then ends all sessions and recovers from its log."""
        sessions = self.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'gateway ledger writer'")
        psutil.Process(random.choice(sessions)[0]).kill()

    def kill_postgres(self) -> None:
        psutil.Process(int((self.postgres.data_dir / "postmaster.pid").read_text().split()[0])).kill()
        assert eventually(self.postgres.died)
        self.postgres.restart()

    # --- the books ----------------------------------------------------------------------------------------

    def execute(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def limit(self, user: str, usd: str) -> None:
        """A hard budget for what one end user spends: each test has its own, with nothing spent in it yet."""
        self.execute(
            "INSERT INTO accounting_budget (name, scope, scope_value, mode, limit_usd, period, time_zone, enabled,"
            " created_at) VALUES (%s, 'user', %s, 'hard', %s, 'total', 'UTC', true, now())",
            user, user, Decimal(usd),
        )  # fmt: skip

    def balance(self, user: str) -> tuple[Decimal, Decimal]:
        """Posted and held of the user's budget."""
        rows = self.execute("SELECT posted_usd, held_usd FROM budget_status WHERE budget = %s", user)
        return rows[0] if rows else (Decimal(0), Decimal(0))

    def held(self) -> int | None:
        """How many requests hold money; None while Postgres recovers."""
        try:
            return int(self.execute("SELECT count(*) FROM open_holds")[0][0])
        except psycopg.OperationalError:
            return None

    def entries(self, user: str) -> dict[str, list[tuple[str, Decimal | None, Decimal]]]:
        """The state, cost and hold of each entry of the user, by request id."""
        found: dict[str, list[tuple[str, Decimal | None, Decimal]]] = {}
        rows = self.execute("SELECT request_id, state, cost_usd, hold_usd FROM ledger WHERE end_user = %s", user)
        for request_id, *rest in rows:
            found.setdefault(request_id, []).append((rest[0], rest[1], rest[2]))
        return found

    def assert_reconciles(self) -> None:
        """Balances are the sums of their charges, and charges are what the entries cost.

        Checked by the test's own SQL, and by the command that an operator would run.
        """
        off = self.execute(
            "SELECT p.id, p.posted_usd, p.held_usd, sum(c.posted_usd), sum(c.held_usd), sum(l.cost_usd)"
            " FROM accounting_budgetperiod p LEFT JOIN accounting_charge c ON c.period_id = p.id"
            " LEFT JOIN ledger l ON l.entry_id = c.entry_id GROUP BY p.id"
            " HAVING p.posted_usd <> coalesce(sum(c.posted_usd), 0) OR p.held_usd <> coalesce(sum(c.held_usd), 0)"
            " OR p.posted_usd <> coalesce(sum(l.cost_usd), 0)"
        )
        assert off == []
        command = [sys.executable, str(ROOT / "manage.py"), "reconcile"]
        told = subprocess.run(
            command, env=self.gateways[0].environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (told.returncode, told.stdout[:20]) == (0, "the books are right:"), told.stdout + told.stderr


class Load:
    """Clients that send one request after another, each to a random gateway, until they are told to stop."""

    def __init__(self, cluster: Cluster, clients: int, user: str) -> None:
        self.answers: list[Answer] = []
        self._cluster = cluster
        self._user = user
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, client: int) -> None:
        chance = random.Random(f"{self._user} {client}")
        number = 0
        while not self._stopping.is_set():
            number += 1
            request_id = f"{self._user}-{client}-{number}"
            answer = ask(chance.choice(self._cluster.urls), self._user, request_id, chance.randint(5, 40))
            self.answers.append(answer)
            if answer.status != 200:
                self._stopping.wait(chance.uniform(0.05, 0.2))

    def stop(self) -> list[Answer]:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        return self.answers

    def statuses(self) -> Counter[tuple[int, str]]:
        return Counter((answer.status, answer.code) for answer in self.answers)


def slow_and_various() -> Behaviour:
    """Answers of random length after random times, as providers give them."""
    return Behaviour(latency_s=(0.02, 0.4), length=(1, 60))
