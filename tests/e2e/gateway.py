"""A running gateway whose providers are simulated, and the ways in which its users look at it: HTTP, SQL, the log.

The tests share one gateway and one simulator. To keep apart, each test makes its own providers, aliases, keys and
budgets (`route`) with names that no other test has. They are removed afterwards.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
import openai
import psutil
import psycopg
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg.rows import dict_row
from pytest_django.plugin import DjangoDbBlocker

from accounting import keys
from accounting.models import ApiKey, Budget
from routing.models import Fallback, ModelAlias, Provider
from tests.clocks import eventually
from tests.e2e.launcher import RunningGateway
from tests.prices import LONG_AGO, add_price
from tests.simulator import Simulator

Row = dict[str, Any]

#: The providers' keys, in the gateway's environment. Only the providers may ever see them.
PROVIDER_KEYS = {
    "OPENAI_API_KEY": "sk-provider-openai-5e3a1c77",
    "ANTHROPIC_API_KEY": "sk-ant-provider-anthropic-5e3a1c77",
    "GEMINI_API_KEY": "AIzaProviderGemini5e3a1c77xxxxxxxxxxxx",
}
#: By wire format: the variable with the key, and the model that a route asks for unless told otherwise.
WIRES = {
    "openai": ("env:OPENAI_API_KEY", "gpt-4o"),
    "anthropic": ("env:ANTHROPIC_API_KEY", "claude-sonnet-4-6"),
    "gemini": ("env:GEMINI_API_KEY", "gemini-2.5-pro"),
}
#: The rates of every route, in USD per million tokens. They are odd on purpose: a wrong rate changes the sum.
INPUT_USD, CACHED_USD, CACHE_WRITE_USD, CACHE_WRITE_1H_USD, OUTPUT_USD = map(
    Decimal, ("2.51", "0.253", "3.137", "5.021", "10.07")
)
#: Shared, because loading certificates, which these tests do not need, takes longer than a test. `http` makes a new
#: connection each time, so that all workers are reached. The official clients keep connections, as they always do.
_TLS = ssl.create_default_context()
http = httpx.Client(verify=_TLS, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))
sdk_http = openai.DefaultHttpxClient(verify=_TLS)
_MILLION = Decimal(1_000_000)
_numbers = itertools.count(1)


def unique(word: str) -> str:
    """A name that nothing else in this test run has."""
    return f"{word}-{next(_numbers)}"


def cost(
    input_tokens: int, output_tokens: int, *, cached: int = 0, cache_write: int = 0, cache_write_1h: int = 0
) -> Decimal:
    """What a route's provider charges. The first number is the total, the cache's are parts of it."""
    plain = input_tokens - cached - cache_write - cache_write_1h
    return (
        plain * INPUT_USD
        + cached * CACHED_USD
        + cache_write * CACHE_WRITE_USD
        + cache_write_1h * CACHE_WRITE_1H_USD
        + output_tokens * OUTPUT_USD
    ) / _MILLION


@dataclass(frozen=True)
class Route:
    """The alias of one test, and the providers of its steps. They have the same names at the simulator."""

    alias: str
    aliases: tuple[str, ...]  # the alias itself, then its fallbacks
    providers: tuple[str, ...]


class Gateway:
    """One gateway under test. SQL and ORM go to its own database."""

    def __init__(self, running: RunningGateway, dsn: str, sim: Simulator, blocker: DjangoDbBlocker) -> None:
        self.running = running
        self.url = running.url
        self.sim = sim
        self._blocker = blocker
        self._dsn = dsn
        self._orm = DatabaseWrapper({**connections.databases["default"], **_orm_address(dsn)}, "default")
        self.reconnect()

    def reconnect(self) -> None:
        """Start Postgres again, for a test that stopped it."""
        self._orm.close()
        self._sql: psycopg.Connection[Row] = psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row)

    def close(self) -> None:
        self._orm.close()
        self._sql.close()
        for process in self.running.descendants():  # a graceful stop takes seconds, and test_run tests it
            with contextlib.suppress(psutil.NoSuchProcess):
                if "gunicorn" in process.cmdline():
                    process.kill()
        self.running.close()

    # --- configuration ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def orm(self) -> Iterator[None]:
        """The models mean this gateway's database for the length of the block, as they do in its admin."""
        before = connections["default"]
        with self._blocker.unblock():
            connections["default"] = self._orm
            try:
                yield
            finally:
                connections["default"] = before

    def point_defaults_at_simulator(self) -> None:
        """Point the first start's providers at the simulator, and set a budget that all tests together do not spend."""
        with self.orm():
            for provider in Provider.objects.all():
                provider.base_url = self.sim.base_url(provider.litellm_provider)
                provider.save()
            Budget.objects.filter(name="global").update(limit_usd=1000)

    def route(
        self, *wires: str, model: str = "", cap: int | None = 1024, priced: bool = True, **provider: Any
    ) -> Route:
        """An alias at a new provider of the first wire format, which falls back to a provider of the second, and so on.

        `provider`: fields of every provider made, such as timeouts. Providers are named alike here and at the
        simulator, so that `sim.behave(route.providers[0], …)` and `sim.requests_to(…)` speak of one of them.
        """
        names = [unique(wire) for wire in wires]
        aliases: list[ModelAlias] = []
        with self.orm():
            for name, wire in zip(names, wires, strict=True):
                reference, default_model = WIRES[wire]
                fields = {"key_reference": reference, "base_url": self.sim.base_url(wire, name), **provider}
                row = Provider.objects.create(name=name, litellm_provider=wire, **fields)
                upstream_model = model or default_model
                if priced:
                    price(name, upstream_model)
                aliases.append(
                    ModelAlias.objects.create(
                        name=f"alias-{name}",
                        provider=row,
                        upstream_model=upstream_model,
                        output_cap_tokens=cap,
                        position=1000,
                    )
                )
            for position, target in enumerate(aliases[1:], start=1):
                Fallback.objects.create(alias=aliases[0], position=position, target=target)
        return Route(aliases[0].name, tuple(alias.name for alias in aliases), tuple(names))

    def priced(self, model: str, litellm_provider: str = "openai", **rates: str) -> str:
        """An alias at a new provider of OpenAI's format, whose price has these rates alone."""
        route = self.route("openai", model=model, cap=None, priced=False)
        with self.orm():
            add_price(route.providers[0], model, LONG_AGO, **rates)
            provider = Provider.objects.get(name=route.providers[0])
            provider.litellm_provider = litellm_provider
            provider.save()  # so that the gateway learns of the price, too
        return route.alias

    def remove_routes(self) -> None:
        """Everything that `route` made."""
        with self.orm():
            if not ModelAlias.objects.filter(position=1000).exists():
                return
            Fallback.objects.filter(alias__position=1000).delete()
            ModelAlias.objects.filter(position=1000).delete()
            Provider.objects.filter(aliases=None, deployments=None).delete()

    def budget(self, route: Route, limit_usd: str, **fields: Any) -> str:
        """A hard daily budget for the route's alias alone; its name."""
        with self.orm():
            return Budget.objects.create(
                **{
                    "name": unique("budget"), "scope": "alias", "scope_value": route.alias, "mode": "hard",
                    "limit_usd": Decimal(limit_usd), "period": "day", **fields,
                }
            ).name  # fmt: skip

    def budget_of_key(self, key: str, limit_usd: str) -> str:
        """A hard daily budget for one key, by the key's name; the budget's name."""
        with self.orm():
            return Budget.objects.create(
                name=unique("budget"), scope="key", api_key=ApiKey.objects.get(name=key), limit_usd=Decimal(limit_usd)
            ).name

    @contextlib.contextmanager
    def no_hard_budget(self) -> Iterator[None]:
        """The global budget warns only, for the length of the block."""
        for mode in ("alert", "hard"):
            with self.orm():
                Budget.objects.filter(name="global").update(mode=mode)
            if mode == "alert":
                yield

    def key(self, **fields: Any) -> str:
        """Make a new API key. Returns the key itself, which the database does not have."""
        secret = keys.new_secret()
        with self.orm():
            ApiKey.objects.create(**{"name": unique("key"), **keys.fields_for(secret), **fields})
        return secret

    # --- clients ------------------------------------------------------------------------------------------

    def client(self, **options: Any) -> openai.OpenAI:
        """The official client, without retries of its own unless asked for."""
        defaults = {"base_url": f"{self.url}/v1", "api_key": "dummy", "max_retries": 0, "http_client": sdk_http}
        return openai.OpenAI(**{**defaults, **options})

    def post(
        self, content: bytes | Iterator[bytes], *, path: str = "/v1/chat/completions", **headers: str
    ) -> httpx.Response:
        """Send a raw body, which no official client would send. An iterator is sent in chunks."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return http.post(self.url + path, content=content, headers={"content-type": "application/json", **names})

    def send(self, data: bytes, timeout_s: float = 10) -> socket.socket:
        """A connection on which these bytes were sent."""
        host, port = self.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=timeout_s)
        connection.sendall(data)
        return connection

    # --- the books and the log ------------------------------------------------------------------------------

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        return self._sql.execute(query, parameters).fetchall()

    def entries(self, alias: str) -> list[Row]:
        """The view `ledger`, of one alias, oldest first."""
        return self.rows("SELECT * FROM ledger WHERE alias = %s ORDER BY created_at", alias)

    def entry(self, alias: str) -> Row:
        """The one settled entry of an alias."""
        self.wait_settled(alias)
        (entry,) = self.entries(alias)
        return entry

    def attempts(self, alias: str) -> list[Row]:
        """The view `attempts`, of the requests for one alias."""
        return self.rows(
            "SELECT a.* FROM attempts a JOIN ledger l USING (entry_id) WHERE l.alias = %s "
            "ORDER BY l.created_at, a.position",
            alias,
        )

    def wait_settled(self, alias: str, requests: int = 1, within_s: float = 10) -> None:
        """Wait until the alias has so many entries and all of them are settled."""

        def settled() -> bool:
            states = [entry["state"] for entry in self.entries(alias)]
            return len(states) >= requests and "held" not in states

        assert eventually(settled, within_s), self.entries(alias)

    def count_written(self) -> tuple[int, ...]:
        """How many rows the ledger has, and what the budgets hold and have spent. A refusal changes none of it."""
        (row,) = self.rows(
            "SELECT (SELECT count(*) FROM accounting_ledgerentry) AS entries,"
            " (SELECT count(*) FROM accounting_attempt) AS attempts,"
            " (SELECT count(*) FROM accounting_charge) AS charges,"
            " (SELECT coalesce(sum(held_usd + posted_usd), 0) FROM accounting_budgetperiod) AS usd"
        )
        return tuple(row.values())

    @contextlib.contextmanager
    def nothing_written(self) -> Iterator[None]:
        """The block leaves the ledger as it was, and reaches no provider."""
        written, received = self.count_written(), len(self.sim.requests)
        yield
        assert self.count_written() == written
        assert len(self.sim.requests) == received

    def log_lines(self, **fields: Any) -> list[Row]:
        """The JSON lines of the log that have these values."""
        lines = [json.loads(line) for line in self.running.output.splitlines() if line.startswith("{")]
        return [line for line in lines if fields.items() <= line.items()]


def price(provider: str, model: str, effective_from: datetime = LONG_AGO, **rates: str) -> None:
    usual = {
        "input": INPUT_USD, "output": OUTPUT_USD, "cached_input": CACHED_USD, "cache_write": CACHE_WRITE_USD,
        "cache_write_1h": CACHE_WRITE_1H_USD,
    }  # fmt: skip
    add_price(provider, model, effective_from, **{name: f"{usd}" for name, usd in (usual | rates).items()})


def text_of(stream: Any) -> str:
    """The text of a stream of chunks."""
    return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


def asks(text: str = "Say hello", **parameters: Any) -> dict[str, Any]:
    """The parameters of a simple chat."""
    return {"messages": [{"role": "user", "content": text}], **parameters}


def _orm_address(dsn: str) -> dict[str, str]:
    found = psycopg.conninfo.conninfo_to_dict(dsn)
    names = {"HOST": "host", "PORT": "port", "USER": "user", "NAME": "dbname"}
    return {ours: str(found[theirs]) for ours, theirs in names.items()}
