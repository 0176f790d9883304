"""Requests that no official client sends, and clients that leave.

They never get a 500, an HTML page or a traceback, hang no worker, and leave no ledger row unsettled.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import openai
import pytest

from tests.clocks import eventually, within
from tests.e2e.gateway import Gateway, asks, cost, http
from tests.simulator import Behaviour, faults

OK = {"model": "gpt-4o", **asks()}


@pytest.fixture(autouse=True)
def _every_worker_still_answers_and_nothing_is_left_held(gateway: Gateway) -> Iterator[None]:
    yield
    for _ in range(4):  # new connections, so that each of the two workers is asked
        assert http.get(f"{gateway.url}/health/live", timeout=2).status_code == 200
    assert eventually(lambda: not gateway.rows("SELECT * FROM open_holds"), within_s=10)
    assert "Traceback" not in gateway.running.output
    assert gateway.log_lines(event="unexpected error") == []


def body(**changes: Any) -> bytes:
    return json.dumps({**OK, **changes}).encode()


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/json"
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-request-id"]
    for leak in ("Traceback", 'File "', "<html", "Exception"):
        assert leak not in answer.text


# --- bodies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid_json"),
        (b"   \n", "invalid_json"),
        (b"null", "invalid_value"),
        (b"[]", "invalid_value"),
        (b'"gpt-4o"', "invalid_value"),
        (b"7", "invalid_value"),
        (b"{}", "missing_required_parameter"),
        (b"model=gpt-4o&messages=hi", "invalid_json"),
        (b"\x00\x00\x00", "invalid_json"),
        (b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "\xff\xfe"}]}', "invalid_json"),
        ('{"model": "gpt-4o"}'.encode("utf-16"), "invalid_json"),
        (b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}', "invalid_json"),
        (body()[:-1], "invalid_json"),
        (body() + b"}", "invalid_json"),
        (b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "a\x00b"}]}', "invalid_json"),
        (b"[" * 100_000 + b"]" * 100_000, "invalid_json"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "invalid_json"),
        (body(temperature=0).replace(b'"temperature": 0', b'"temperature": NaN'), "invalid_json"),
        (body(temperature=0).replace(b'"temperature": 0', b'"temperature": -Infinity'), "invalid_json"),
        (body(max_tokens=-1), "invalid_value"),
        (body(max_tokens=10**30), "invalid_value"),
        (body(max_tokens=0).replace(b'"max_tokens": 0', b'"max_tokens": ' + b"9" * 5000), "invalid_json"),
        (body(n=10**9), "invalid_value"),
        (body(n=True), "invalid_value"),
        (body(messages=[]), "invalid_value"),
        (body(messages=[[]]), "invalid_value"),
        (body(messages=[None]), "invalid_value"),
        (body(stream="yes"), "invalid_value"),
        (body(stream=1), "invalid_value"),
        (body(messages=[{"role": "wizard", "content": "hi"}]), "invalid_value"),
        (body(messages=[{"role": ["user"], "content": "hi"}]), "invalid_value"),
        (body(metadata={str(number): "x" for number in range(17)}), "invalid_value"),
        (body(model="x" * 100_000), "model_not_found"),
        (body(model="\ud800"), "model_not_found"),
        (body(model="gpt-4o\x00"), "model_not_found"),
        (body(model="gpt-4o' OR 1=1 --"), "model_not_found"),
        (body(model="../admin"), "model_not_found"),
        (body(model="<script>alert(1)</script>"), "model_not_found"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else value,
)
def test_a_body_that_is_not_a_chat_request_is_refused_in_words(gateway: Gateway, raw: bytes, code: str) -> None:
    with gateway.nothing_written():
        answer = gateway.post(raw)
    assert_refused(answer, 404 if code == "model_not_found" else 400, code)
    assert len(answer.content) < 2000  # it does not echo what it was sent


def test_a_byte_order_mark_is_forgiven(gateway: Gateway) -> None:
    assert gateway.post(b"\xef\xbb\xbf" + body()).status_code == 200


def test_depth_that_is_only_in_a_string_is_text(gateway: Gateway) -> None:
    answer = gateway.post(body(**asks("[" * 5000)))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml", "nope"],
)
def test_a_wrong_content_type_does_not_matter_when_the_body_is_json(gateway: Gateway, content_type: str) -> None:
    assert gateway.post(body(), content_type=content_type).status_code == 200
    with gateway.nothing_written():
        assert_refused(gateway.post(b"--x\r\nhello", content_type=content_type), 400, "invalid_json")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate"])
def test_a_compressed_body_is_refused_by_its_name(gateway: Gateway, coding: str) -> None:
    with gateway.nothing_written():
        answer = gateway.post(gzip.compress(body()), content_encoding=coding)
    assert_refused(answer, 415, "unsupported_content_encoding")
    assert f"'{coding}'" in answer.json()["error"]["message"]


def test_a_body_that_is_said_to_be_as_it_is_is_taken(gateway: Gateway) -> None:
    assert gateway.post(body(), content_encoding="identity").status_code == 200


def test_ten_megabytes_are_taken(gateway: Gateway) -> None:
    route = gateway.route("openai")
    text = "a" * 10_000_000
    answer = gateway.post(body(**asks(text), model=route.alias, max_tokens=5))
    assert answer.status_code == 200
    (received,) = gateway.sim.requests
    assert received.body is not None
    assert len(received.body["messages"][0]["content"]) == 10_000_000
    gateway.wait_settled(route.alias)


def test_ten_megabytes_in_chunks_without_a_length_are_taken(gateway: Gateway) -> None:
    route = gateway.route("openai")
    raw = body(**asks("a" * 10_000_000), model=route.alias, max_tokens=5)
    chunks = (raw[at : at + 100_000] for at in range(0, len(raw), 100_000))
    assert gateway.post(chunks).status_code == 200
    gateway.wait_settled(route.alias)


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_more_than_the_limit_is_refused(gateway: Gateway, chunked: bool) -> None:
    raw = body(**asks("a" * 21_000_000))
    with gateway.nothing_written():
        answer = gateway.post((raw[at : at + 500_000] for at in range(0, len(raw), 500_000)) if chunked else raw)
    assert_refused(answer, 413, "request_too_large")


def test_a_body_that_ends_early_is_not_waited_for_and_not_answered_with_a_500(gateway: Gateway) -> None:
    with gateway.nothing_written():
        connection = gateway.send(head(len(body()) + 100) + body())
        connection.shutdown(socket.SHUT_WR)
        said = received(connection)
    assert b" 400 " in said.split(b"\r\n")[0]


def test_a_chunked_body_that_ends_early_is_not_waited_for(gateway: Gateway) -> None:
    """A chunked body whose sender leaves before its last chunk."""
    with gateway.nothing_written():
        connection = gateway.send(
            head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n"
        )
        connection.shutdown(socket.SHUT_WR)
        assert received(connection).split(b" ")[1] == b"400"


@pytest.mark.parametrize("length", [b"-1", b"abc", b"1e3", b"99999999999999999999"])
def test_an_invalid_content_length_is_refused(gateway: Gateway, length: bytes) -> None:
    with gateway.nothing_written():
        said = received(gateway.send(head(0).replace(b"Content-Length: 0", b"Content-Length: " + length) + b"{}"))
    assert said.split(b" ")[1] in (b"400", b"413")
    assert b"Traceback" not in said


def test_invalid_chunks_are_refused(gateway: Gateway) -> None:
    with gateway.nothing_written():
        said = received(
            gateway.send(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"zz\r\nhello\r\n")
        )
    assert said.split(b" ")[1] == b"400"
    assert b"Traceback" not in said


# --- what the books must be able to keep -------------------------------------------------------------------


def test_text_that_postgres_cannot_keep_is_cleaned_for_the_books_and_sent_on_as_it_is(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], Behaviour(text="fine"))
    raw = json.dumps(
        {"model": route.alias, **asks("a\x00b\ud800"), "user": "u\x00\udc00", "metadata": {"k\x00": "v\ud83d", "n": 7}}
    )
    answer = gateway.post(raw.encode())
    assert answer.status_code == 200
    entry = gateway.entry(route.alias)
    assert (entry["end_user"], entry["tags"]) == ("u?", {"k": "v?", "n": "7"})
    (received_,) = gateway.sim.requests
    assert received_.body is not None
    assert received_.body["messages"][0]["content"] == "a\x00b\ud800"
    assert received_.body["user"] == "u\x00\udc00"


@pytest.mark.parametrize("wire", ["anthropic", "gemini"])
def test_odd_text_survives_translation(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    gateway.sim.behave(route.providers[0], Behaviour(text="fine"))
    answer = gateway.post(json.dumps({"model": route.alias, **asks("snow ☃ \ud800 \x00 \u2028 end")}).encode())
    assert answer.status_code == 200
    assert gateway.entry(route.alias)["state"] == "posted"


def test_when_a_field_is_there_twice_the_last_one_counts_everywhere(gateway: Gateway) -> None:
    route = gateway.route("openai")
    first = b'{"model": "nope", "messages": [], "max_tokens": 9000, "max_tokens": 7, '
    assert gateway.post(first + body(model=route.alias)[1:]).status_code == 200
    (received_,) = gateway.sim.requests
    assert received_.body == {"model": "gpt-4o", "max_tokens": 7, **asks()}


@pytest.mark.parametrize(
    "offered", ["x" * 129, "a b", "ü", "<script>", "'; DROP TABLE ledger; --", "{}", '"', "a,b", ""]
)
def test_an_invalid_request_id_is_replaced(gateway: Gateway, offered: str) -> None:
    answer = http.get(f"{gateway.url}/health/live", headers=[(b"x-request-id", offered.encode())])
    assert answer.headers["x-request-id"].startswith("req-")


def test_a_header_cannot_be_smuggled_through_the_request_id(gateway: Gateway) -> None:
    for smuggled in (b"a\r\nx-evil: 1", b"a\nx-evil: 1", b"a\rx-evil: 1", b"a\x00b", b"a\x0bx"):
        said = received(gateway.send(head(0, b"x-request-id: " + smuggled + b"\r\n")))
        answered, _, _ = said.partition(b"\r\n\r\n")
        assert b"x-evil" not in answered.lower()
        assert answered.split(b" ")[1] == b"400"  # of the empty body, or of the header


def test_a_picture_that_the_gateway_would_fetch_from_its_own_network_is_not_fetched(gateway: Gateway) -> None:
    asked: list[str] = []

    class Secret(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with HTTPServer(("127.0.0.1", 0), Secret) as inner:
        thread = threading.Thread(target=inner.serve_forever)
        thread.start()
        route = gateway.route("gemini")
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "169.254.169.254"):
            picture = {"type": "image_url", "image_url": {"url": f"http://{host}:{inner.server_port}/latest/meta-data"}}
            answer = gateway.post(body(model=route.alias, messages=[{"role": "user", "content": [picture]}]))
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"
        inner.shutdown()
        thread.join()
    assert asked == []
    assert gateway.sim.requests == []
    gateway.wait_settled(route.alias, 5)
    assert {entry["cost_usd"] for entry in gateway.entries(route.alias)} == {0}


# --- clients that do not stay ------------------------------------------------------------------------------


def head(length: int, more: bytes = b"") -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" % (length, more)
    )


def chat(alias: str, **parameters: Any) -> bytes:
    raw = json.dumps({"model": alias, **asks(), **parameters}).encode()
    return head(len(raw)) + raw


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    with connection:
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def read_until(connection: socket.socket, text: bytes) -> bytes:
    said = b""
    while text not in said:
        part = connection.recv(65536)
        assert part, said
        said += part
    return said


def vanish(connection: socket.socket) -> None:
    """Leave with a reset, as a killed process does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()


def test_clients_that_leave_before_their_request_is_complete_write_nothing(gateway: Gateway) -> None:
    with gateway.nothing_written():
        for sent in (b"", b"POST", head(100)[:-2], head(100), head(100) + b'{"model": "gpt'):
            gateway.send(sent).close()
            vanish(gateway.send(sent))
        time.sleep(0.2)


def test_a_client_that_leaves_before_the_whole_answer_pays_for_all_of_it(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.slow_answer(0.5))
    connection = gateway.send(chat(route.alias))
    assert gateway.sim.wait_until(lambda requests: requests)
    vanish(connection)
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["usage_source"]) == ("posted", "provider")  # the provider has answered and bills
    assert entry["cost_usd"] == cost(entry["input_tokens"], 4)


@pytest.mark.parametrize("leave", [socket.socket.close, vanish], ids=["closes", "resets"])
@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
def test_a_client_that_leaves_before_the_first_event_of_its_stream_ends_the_provider_s_call(
    gateway: Gateway, leave: Any, wire: str
) -> None:
    route = gateway.route(wire)
    gateway.sim.behave(route.providers[0], faults.slow_first_token(1).but(length=50, token_s=0.02))
    connection = gateway.send(chat(route.alias, stream=True))
    assert gateway.sim.wait_until(lambda requests: requests)
    leave(connection)
    entry = gateway.entry(route.alias)
    assert (entry["http_status"], entry["error_code"]) == (499, "client_closed")
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"])
    assert eventually(lambda: gateway.sim.requests[0].closed_by_client_at is not None, within_s=5)
    assert gateway.sim.requests[0].tokens_sent < 50


@pytest.mark.parametrize("leave", [socket.socket.close, vanish], ids=["closes", "resets"])
@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
def test_a_client_that_leaves_in_the_middle_pays_for_what_it_got(gateway: Gateway, leave: Any, wire: str) -> None:
    route = gateway.route(wire)
    gateway.sim.behave(route.providers[0], faults.endless(token_s=0.02))
    connection = gateway.send(chat(route.alias, stream=True))
    read_until(connection, b'"content"')
    left_at = time.monotonic()
    leave(connection)
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["http_status"], entry["error_code"]) == ("posted", 499, "client_closed")
    assert entry["usage_source"] == "estimated"
    assert entry["output_tokens"] >= 1
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"]) > 0
    assert eventually(lambda: gateway.sim.requests[0].closed_by_client_at is not None)
    closed_at = gateway.sim.requests[0].closed_by_client_at
    assert closed_at is not None
    assert closed_at - left_at < 2  # the provider's meter does not run on


def test_a_client_that_leaves_a_silent_stream_is_noticed(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.stall_after(2, 60).but(length=50))
    connection = gateway.send(chat(route.alias, stream=True))
    read_until(connection, b'"content"')
    left_at = time.monotonic()
    connection.close()
    entry = gateway.entry(route.alias)
    assert (entry["error_code"], entry["state"]) == ("client_closed", "posted")
    assert within(time.monotonic() - left_at, 5)


def test_a_client_that_leaves_after_the_end_has_paid_all(gateway: Gateway) -> None:
    route = gateway.route("openai")
    connection = gateway.send(chat(route.alias, stream=True))
    read_until(connection, b"[DONE]")
    vanish(connection)
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["http_status"], entry["usage_source"]) == ("posted", 200, "provider")


def test_a_client_that_reads_slowly_gets_everything(gateway: Gateway) -> None:
    route = gateway.route("openai", cap=3000)
    gateway.sim.behave(route.providers[0], Behaviour(length=3000))
    connection = gateway.send(chat(route.alias, stream=True))
    said = b""
    while part := connection.recv(4096):
        said += part
        if len(said) < 100_000:
            time.sleep(0.01)
    assert said.count(b'"content":"') >= 3000
    assert b"[DONE]" in said
    assert gateway.entry(route.alias)["output_tokens"] == 3000


def test_many_clients_that_leave_at_once_leave_nothing_behind(gateway: Gateway) -> None:
    route = gateway.route("openai")
    budget = gateway.budget(route, "10")
    gateway.sim.behave(route.providers[0], forever=Behaviour(length=100, token_s=0.01))
    connections = [gateway.send(chat(route.alias, stream=True)) for _ in range(30)]
    assert gateway.sim.wait_until(lambda requests: len(requests) == 30)
    for connection in connections:
        vanish(connection)
    gateway.wait_settled(route.alias, 30)
    (status,) = gateway.rows("SELECT * FROM budget_status WHERE budget = %s", budget)
    spent = sum(entry["cost_usd"] for entry in gateway.entries(route.alias))
    assert (status["held_usd"], status["posted_usd"]) == (0, spent)


def test_a_provider_that_echoes_our_key_in_its_error_is_silenced(gateway: Gateway) -> None:
    route = gateway.route("openai")
    echo = {"error": {"message": "bad key sk-provider-openai-5e3a1c77 at https://internal.example/v1/x", "code": "x"}}
    gateway.sim.behave(route.providers[0], Behaviour(status=400, body=echo))
    with pytest.raises(openai.BadRequestError) as raised:
        gateway.client().chat.completions.create(model=route.alias, **asks())
    assert "sk-provider" not in raised.value.response.text
    assert "internal.example" not in raised.value.response.text
    assert "sk-provider" not in str(gateway.attempts(route.alias))
