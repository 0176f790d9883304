"""Four hundred requests over all endpoints at once, four workers and one hard budget with room for a part."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest
from pytest_django.plugin import DjangoDbBlocker

from accounting.models import Budget
from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually
from tests.e2e.gateway import PROVIDER_KEYS, Gateway
from tests.e2e.launcher import RunningGateway
from tests.media import wav
from tests.simulator import Simulator

REQUESTS, AT_ONCE = 400, 100
LIMIT_USD = Decimal("0.012")
HELLO = [{"role": "user", "content": "Say hello"}]


@pytest.fixture
def four_workers(
    tmp_path_factory: pytest.TempPathFactory, sim: Simulator, django_db_blocker: DjangoDbBlocker
) -> Iterator[Gateway]:
    data_dir = tmp_path_factory.mktemp("four-workers") / "data"
    running = RunningGateway.in_tree(data_dir, WEB_CONCURRENCY="4", **PROVIDER_KEYS)
    try:
        running.wait_until_ready()
        sim.reset()
        gateway = Gateway(running, EmbeddedPostgres(data_dir / "postgres").dsn(), sim, django_db_blocker)
        with gateway.orm():
            Budget.objects.filter(name="global").update(limit_usd=LIMIT_USD)
        yield gateway
        gateway.close()
    finally:
        running.close()


def test_one_budget_holds_on_every_endpoint_and_is_used(four_workers: Gateway) -> None:
    asked = _requests(four_workers)
    with (
        httpx.Client(base_url=four_workers.url, timeout=60, limits=httpx.Limits(max_connections=AT_ONCE)) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        codes = list(pool.map(lambda number: _ask(client, asked[number % len(asked)]), range(REQUESTS)))
    assert set(codes) == {"", "budget_exceeded"}
    assert eventually(lambda: not four_workers.rows("SELECT FROM ledger WHERE state = 'held'"), 10)

    served = four_workers.rows("SELECT endpoint, cost_usd FROM ledger WHERE state = 'posted'")
    assert len(served) == codes.count("")
    assert {row["endpoint"] for row in served} == {
        *("chat", "responses", "messages", "gemini", "completions", "embeddings", "images"),
        *("speech", "transcriptions", "translations", "moderations", "rerank"),
    }
    spent = sum((row["cost_usd"] for row in served), Decimal(0))
    (budget,) = four_workers.rows("SELECT posted_usd, held_usd FROM budget_status WHERE budget = 'global'")
    assert (budget["posted_usd"], budget["held_usd"]) == (spent, 0)
    assert Decimal("0.9") * LIMIT_USD <= spent <= LIMIT_USD


def _requests(gateway: Gateway) -> list[dict[str, Any]]:
    """One of each endpoint, whole and streamed, chats in every format of the providers."""
    asked: list[dict[str, Any]] = []
    for wire in ("openai", "anthropic", "gemini"):
        alias = gateway.route(wire).alias
        google = {"contents": [{"parts": [{"text": "Say hello"}]}], "generationConfig": {"maxOutputTokens": 16}}
        asked += [
            {"url": f"/v1beta/models/{alias}:generateContent", "json": google},
            {"url": f"/v1beta/models/{alias}:streamGenerateContent?alt=sse", "json": google},
        ]
        for stream in (False, True):
            common = {"model": alias, "stream": stream}
            asked += [
                {"url": "/v1/chat/completions", "json": {**common, "messages": HELLO, "max_tokens": 16}},
                {"url": "/v1/messages", "json": {**common, "messages": HELLO, "max_tokens": 16}},
                {"url": "/v1/responses", "json": {**common, "input": "Say hello", "max_output_tokens": 16}},
                {"url": "/v1/completions", "json": {**common, "prompt": "Say hello", "max_tokens": 16}},
            ]
    embedding = gateway.route("openai", model="text-embedding-3-small").alias
    picture = gateway.priced("dall-e-3", **{"image:standard/1024x1024": "0.0001"})
    speech = gateway.priced("tts-1", input_character="15")
    transcript = gateway.priced("whisper-1", input_second="0.0001")
    moderation = gateway.priced("omni-moderation-latest", input="2", output="0")
    ranking = gateway.priced("rerank-v3.5", "cohere", search="0.0001", input="0")
    drawn = {"model": picture, "prompt": "a cat", "size": "1024x1024", "quality": "standard"}
    return [
        *asked,
        {"url": "/v1/embeddings", "json": {"model": embedding, "input": ["Say hello"]}},
        {"url": "/v1/images/generations", "json": drawn},
        {"url": "/v1/audio/speech", "json": {"model": speech, "input": "Hi there", "voice": "alloy"}},
        {"url": "/v1/audio/transcriptions", "data": {"model": transcript}, "files": {"file": _SOUND}},
        {"url": "/v1/audio/translations", "data": {"model": transcript}, "files": {"file": _SOUND}},
        {"url": "/v1/moderations", "json": {"model": moderation, "input": "a kind word"}},
        {"url": "/v1/rerank", "json": {"model": ranking, "query": "cats", "documents": ["a cat", "the moon"]}},
    ]


_SOUND = ("speech.wav", wav(1), "audio/wav")


def _ask(client: httpx.Client, request: dict[str, Any]) -> str:
    """The code of the error with which the request ended, or nothing. It waits for room as a patient client does."""
    patience = time.monotonic() + 90
    while True:
        answer = client.post(**request)
        if answer.status_code == 200:
            assert b"stream_interrupted" not in answer.content, answer.text
            return ""
        code = _code(answer.json())
        if code != "budget_in_flight" or time.monotonic() > patience:
            return code
        time.sleep(0.2)


def _code(body: dict[str, Any]) -> str:
    """The error's code in the envelope of any dialect."""
    error = body["error"]
    details = error.get("details") or [{}]
    return str(error.get("code") if isinstance(error.get("code"), str) else details[0].get("reason")).lower()
