"""Every provider's way of refusing → one UpstreamError, without a secret in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from routing.upstreams import errors, scrubbing
from routing.upstreams.base import FailureKind as Kind
from routing.upstreams.base import UpstreamError
from routing.upstreams.registry import upstream_for
from tests.simulator import Behaviour, Simulator, faults
from tests.wire.upstream_calls import KEY, call_to, read


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def failure(sim: Simulator, wire: str, fault: Behaviour, *, streamed: bool) -> UpstreamError:
    sim.reset()
    sim.behave(wire, fault)
    upstream = upstream_for(wire)
    request = call_to(sim, wire)
    with pytest.raises(UpstreamError) as raised:
        read(upstream.stream(request)) if streamed else upstream.whole(request)
    assert len(sim.requests) == 1, "an upstream never tries again"
    return raised.value


EXPECTED: dict[str, dict[str, tuple[Kind, int]]] = {
    "rate_limited": {"*": (Kind.RATE_LIMITED, 429)},
    "insufficient_quota": {
        "openai": (Kind.AUTHENTICATION, 429),
        "anthropic": (Kind.AUTHENTICATION, 400),
        "gemini": (Kind.RATE_LIMITED, 429),  # which says the same of a quota that a minute mends
    },
    "server_error": {"*": (Kind.OVERLOADED, 500)},
    "bad_gateway": {"*": (Kind.OVERLOADED, 502)},
    "unavailable": {"*": (Kind.OVERLOADED, 503)},
    "gateway_timeout": {"*": (Kind.OVERLOADED, 504)},
    "overloaded": {"*": (Kind.OVERLOADED, 503), "anthropic": (Kind.OVERLOADED, 529)},
    "context_length_exceeded": {"*": (Kind.CONTEXT_WINDOW, 400)},
    "content_filtered": {"*": (Kind.CONTENT_POLICY, 400)},
    "invalid_key": {"*": (Kind.AUTHENTICATION, 401), "gemini": (Kind.AUTHENTICATION, 400)},
    "permission_denied": {"*": (Kind.AUTHENTICATION, 403)},
    "model_not_found": {"*": (Kind.NOT_FOUND, 404)},
    "request_too_large": {"*": (Kind.BAD_REQUEST, 413), "gemini": (Kind.BAD_REQUEST, 400)},
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("name", EXPECTED)
def test_each_refusal_is_understood_in_each_format(sim: Simulator, name: str, wire: str, streamed: bool) -> None:
    error = failure(sim, wire, getattr(faults, name)(), streamed=streamed)
    assert (error.kind, error.http_status) == (EXPECTED[name].get(wire) or EXPECTED[name]["*"])
    assert KEY not in error.message
    assert sim.url not in error.message
    if error.kind in (Kind.CONTEXT_WINDOW, Kind.CONTENT_POLICY, Kind.BAD_REQUEST):
        assert error.error_type in ("invalid_request_error", "request_too_large")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("fault", ["rate_limited", "unavailable"])
def test_the_providers_wish_to_wait_is_kept(sim: Simulator, wire: str, fault: str, streamed: bool) -> None:
    error = failure(sim, wire, getattr(faults, fault)(retry_after_s=7), streamed=streamed)
    assert error.retry_after_s == 7.0


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_the_providers_id_of_the_request_is_kept(sim: Simulator, wire: str) -> None:
    assert (failure(sim, wire, faults.server_error(), streamed=False).provider_request_id or "")[:4] == "req_"


def test_openais_own_words_reach_the_client(sim: Simulator) -> None:
    body = {"error": {"message": "Bad n.", "type": "invalid_request_error", "param": "n", "code": "bad_n"}}
    error = failure(sim, "openai", Behaviour(status=400, body=body), streamed=False)
    assert (error.kind, error.message, error.error_type, error.param, error.code) == (
        Kind.BAD_REQUEST,
        "Bad n.",
        "invalid_request_error",
        "n",
        "bad_n",
    )


def read_error(status: int, body: Any, **headers: str) -> UpstreamError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return errors.from_response(status, headers, raw, secret=KEY)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (307, Kind.NOT_FOUND),
        (400, Kind.BAD_REQUEST),
        (402, Kind.AUTHENTICATION),
        (405, Kind.NOT_FOUND),
        (408, Kind.TIMEOUT),
        (409, Kind.OVERLOADED),
        (413, Kind.BAD_REQUEST),
        (418, Kind.BAD_REQUEST),
        (422, Kind.BAD_REQUEST),
        (425, Kind.OVERLOADED),
        (499, Kind.OVERLOADED),
        (520, Kind.OVERLOADED),
        (529, Kind.OVERLOADED),
        (204, Kind.MALFORMED),
    ],
)
def test_a_status_decides_the_kind(status: int, kind: Kind) -> None:
    assert read_error(status, {"error": {"message": "no"}}).kind is kind


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "model is loading"}, "model is loading"),
        ({"message": "Unauthorized"}, "Unauthorized"),
        ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, "too long"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "body: field required"),
        (
            {"detail": [{"loc": ["body", "messages", 0], "msg": "Bad role"}, {"loc": [], "msg": "Bad n"}, {}]},
            "body.messages.0: Bad role; Bad n; {}",
        ),
        ({"detail": {"error": {"message": "no such adapter"}}}, "no such adapter"),
        ({"detail": {"adapter": "x", "n": 1}}, '{"adapter":"x","n":1}'),
        ({"detail": [[[[[[["deep"]]]]]]]}, "The provider answered with status 400"),
        ([{"error": {"code": 400, "message": "in a list", "status": "INVALID_ARGUMENT"}}], "in a list"),
        ({"error": {"code": 400}}, "The provider reported an error without a message"),
        ({"error": {"message": {"deep": 1}}}, '{"deep":1}'),
        ({"error": {"message": ["one", {"msg": "two"}]}}, "one; two"),
        (b"<html><h1>Sorry</h1></html>", "The provider answered with status 400"),
        (b"", "The provider answered with status 400"),
        (b"[" * 100_000, "The provider answered with status 400"),
        ("text", "The provider answered with status 400"),
        (None, "The provider answered with status 400"),
    ],
)
def test_any_body_gives_a_message(body: Any, message: str) -> None:
    assert read_error(400, body).message == message


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens, however you requested 9000 tokens",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Please reduce the length of the messages or completion.",
        "the request exceeds the available context size. try increasing the context size",
    ],
)
def test_a_prompt_that_is_too_long_is_known_by_its_wording(message: str) -> None:
    error = read_error(400, {"error": {"message": message, "type": "invalid_request_error"}})
    assert (error.kind, error.code) == (Kind.CONTEXT_WINDOW, "context_length_exceeded")


@pytest.mark.parametrize(
    ("code", "message", "kept"),
    [
        ("content_filter", "The response was filtered", "content_filter"),
        ("content_policy_violation", "no", "content_policy_violation"),
        (None, "Output blocked by content filtering policy", "content_policy_violation"),
        (None, "triggering Azure OpenAI's content management policy", "content_policy_violation"),
        ("invalid_prompt", "flagged as potentially violating our usage policy", "invalid_prompt"),
    ],
)
def test_a_refusal_by_policy_is_known(code: str | None, message: str, kept: str) -> None:
    error = read_error(400, {"error": {"message": message, "code": code}})
    assert (error.kind, error.code) == (Kind.CONTENT_POLICY, kept)


def test_a_too_long_user_name_is_no_matter_of_context() -> None:
    body = {"error": {"message": "Invalid 'user': string too long.", "code": "string_above_max_length"}}
    assert read_error(400, body).kind is Kind.CAPABILITY


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert errors.retry_after_s(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    seconds = errors.retry_after_s({"retry-after": at})
    assert seconds is not None
    assert 28 < seconds <= 30


def test_geminis_retry_delay_is_in_its_body() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"}
    body = {"error": {"code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED", "details": [info]}}
    error = read_error(429, body)
    assert (error.retry_after_s, error.code) == (37.5, "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize(
    ("message", "scrubbed"),
    [
        (f"Incorrect API key provided: {KEY}.", "Incorrect API key provided: ***."),
        ("key sk-proj-abcdefghijklmnop is bad", "key *** is bad"),
        ("key AIzaSyA1234567890abcdef is bad", "key *** is bad"),
        ("sent Authorization: Bearer abc.def-ghi", "sent Authorization: ***"),
        ("POST https://10.1.2.3:8000/v1/chat failed", "POST [url] failed"),
        ("see https://platform.openai.com/docs/guides", "see https://platform.openai.com/docs/guides"),
        ("GET https://api.openai.com/v1/models?key=abc", "GET [url]"),
        ("calling /v1/models?key=secret123&alt=sse", "calling /v1/models?key=***&alt=sse"),
    ],
)
def test_a_message_loses_its_secrets_and_addresses(message: str, scrubbed: str) -> None:
    assert scrubbing.scrubbed(message, KEY) == scrubbed


def test_a_message_is_not_longer_than_a_client_can_bear() -> None:
    assert len(read_error(400, {"error": {"message": "x" * 1_000_000}}).message) == 2000


@pytest.mark.parametrize("name", ["type", "param", "code", "message"])
def test_no_field_of_an_error_has_our_key_or_what_postgres_cannot_store(name: str) -> None:
    hidden = f"{KEY[:7]}\x00{KEY[7:]}"  # which is the key once it is cleaned
    error = read_error(400, {"error": {"message": "no", name: f"\ud83d{KEY} {hidden}" + "x" * 1000}})
    said = {"type": error.error_type, "param": error.param, "code": error.code, "message": error.message}[name]
    if name == "type":  # it would contradict the status, and is replaced
        assert said == "invalid_request_error"
        error = read_error(500, {"error": {"message": "no", name: f"\ud83d{KEY} {hidden}" + "x" * 1000}})
        said = error.error_type
    assert said is not None
    assert said.startswith("?*** ***xxx")
    assert len(said) == (1008 if name == "message" else 100)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("req_01-Ab.c:d", "req_01-Ab.c:d"),
        ("9f/5+Q==", "9f/5+Q=="),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
        (f"id-{KEY}", None),
        ("sk-proj-abcdefghijklmnop", None),
        ("two words", None),
        ("a\x00b", None),
        ("h\xe9", None),
        ("", None),
    ],
)
def test_an_id_is_plain_and_short_or_none(said: str, kept: str | None) -> None:
    assert errors.request_id({"x-request-id": said}, KEY) == kept
    assert read_error(500, {"error": {"message": "no"}}, **{"x-request-id": said}).provider_request_id == kept


def test_retries_are_for_the_cascade_to_decide_by_the_kind_alone() -> None:
    retryable = {kind for kind in Kind if UpstreamError(kind, "no").retryable}
    assert retryable == {Kind.RATE_LIMITED, Kind.OVERLOADED, Kind.CONNECTION}
