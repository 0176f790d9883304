"""Our HTTP client against a provider that behaves in every bad way, and its reader of server-sent events."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import itertools
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.upstreams.base import FailureKind, Timeouts, UpstreamError
from routing.upstreams.http import connections, exchange, media, stock, transport
from routing.upstreams.http.connections import Origin
from routing.upstreams.http.events import MAX_EVENT_BYTES, EventReader, post_stream
from routing.upstreams.http.transport import MAX_BODY_BYTES, Whole, post
from tests.clocks import within
from tests.simulator import Behaviour, Simulator, faults
from tests.wire.upstream_calls import SSE_HEAD, Raw

QUICK = Timeouts(connect_s=1, first_token_s=0.4, idle_s=0.3, total_s=1.0)
PATIENT = Timeouts(connect_s=2, first_token_s=5, idle_s=5, total_s=10)
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
STREAMED = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true}'
HEADERS = {"Authorization": "Bearer sk-test", "Content-Type": "application/json", "Accept-Encoding": "identity"}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def url(sim: Simulator) -> str:
    return sim.base_url("openai") + "/chat/completions"


def ask(sim: Simulator, timeouts: Timeouts = QUICK) -> Whole:
    return post(url(sim), HEADERS, BODY, timeouts)


def ask_stream(sim: Simulator, timeouts: Timeouts = QUICK) -> EventReader:
    reader = post_stream(url(sim), HEADERS, STREAMED, timeouts)
    assert isinstance(reader, EventReader)
    return reader


def failure(call: Callable[[], object]) -> tuple[FailureKind, float]:
    started = time.monotonic()
    with pytest.raises(UpstreamError) as raised:
        call()
    return raised.value.kind, time.monotonic() - started


def drain(reader: EventReader) -> list[bytes]:
    events = []
    while (event := reader.next_event()) is not None:
        events.append(event)
    return events


def events_of(*pieces: bytes) -> list[bytes]:
    with Raw(SSE_HEAD, *pieces) as server:
        reader = post_stream(server.url, HEADERS, STREAMED, PATIENT)
        assert isinstance(reader, EventReader)
        return drain(reader)


# --- limits -----------------------------------------------------------------------------------------------


def test_a_silent_provider_is_left_when_the_total_is_over(sim: Simulator) -> None:
    sim.behave("openai", faults.silent())
    kind, took_s = failure(lambda: ask(sim))
    assert kind is FailureKind.TIMEOUT
    assert within(took_s, 1.3, least_s=0.9)


def test_a_stream_without_a_head_is_left_when_the_first_token_is_late(sim: Simulator) -> None:
    sim.behave("openai", faults.silent())
    kind, took_s = failure(lambda: ask_stream(sim))
    assert kind is FailureKind.TIMEOUT
    assert within(took_s, 0.7, least_s=0.3)


def test_a_body_that_trickles_does_not_outlast_the_total() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with Raw(head, *[b" "] * 100, pause_s=0.05) as server:
        kind, took_s = failure(lambda: post(server.url, HEADERS, BODY, QUICK))
    assert kind is FailureKind.TIMEOUT
    assert within(took_s, 1.3, least_s=0.9)


def test_headers_that_trickle_do_not_outlast_the_first_token_limit() -> None:
    with Raw(b"HTTP/1.1 200 OK\r\nX-Slow: ", *[b"x"] * 100, pause_s=0.05) as server:
        kind, took_s = failure(lambda: post_stream(server.url, HEADERS, STREAMED, QUICK))
    assert kind is FailureKind.TIMEOUT
    assert within(took_s, 0.7, least_s=0.3)


def test_a_provider_that_shows_that_it_lives_is_waited_for_beyond_the_first_token_limit() -> None:
    with Raw(SSE_HEAD, *[b": ping\n\n"] * 20, b"data: x\n\n", pause_s=0.05) as server:
        reader = post_stream(server.url, HEADERS, STREAMED, Timeouts(1, 0.4, 0.3, 10))
        assert isinstance(reader, EventReader)
        assert drain(reader) == [b"x"]


def test_signs_of_life_hold_back_the_first_token_limit_ten_times_its_length_and_no_longer() -> None:
    with Raw(SSE_HEAD, *[b": ping\n\n"] * 100, pause_s=0.05) as server:
        reader = post_stream(server.url, HEADERS, STREAMED, Timeouts(1, 0.1, 0.3, 10))
        assert isinstance(reader, EventReader)
        kind, took_s = failure(reader.next_event)
        reader.close()
    assert kind is FailureKind.TIMEOUT
    assert within(took_s, 1.3, least_s=0.9)


def test_a_provider_that_falls_silent_after_a_ping_is_left_at_the_first_token_limit() -> None:
    with Raw(SSE_HEAD, b": ping\n\n", pause_s=0.2, linger_s=3) as server:
        reader = post_stream(server.url, HEADERS, STREAMED, Timeouts(1, 0.4, 0.3, 10))
        assert isinstance(reader, EventReader)
        kind, took_s = failure(reader.next_event)
        reader.close()
    assert kind is FailureKind.TIMEOUT
    assert within(took_s, 0.8, least_s=0.35)


def test_in_mid_stream_signs_of_life_hold_back_the_idle_limit() -> None:
    with Raw(SSE_HEAD, b"data: x\n\n", *[b": ping\n\n"] * 12, b"data: y\n\n", pause_s=0.05) as server:
        reader = post_stream(server.url, HEADERS, STREAMED, Timeouts(1, 5, 0.3, 10))
        assert isinstance(reader, EventReader)
        reader.limits.content_seen()
        assert drain(reader) == [b"x", b"y"]


def test_after_the_first_content_the_idle_limit_runs_from_event_to_event(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(length=8, token_s=0.1))
    reader = ask_stream(sim, Timeouts(1, 5, 0.3, 5))
    reader.limits.content_seen()
    assert drain(reader)[-1] == b"[DONE]"
    sim.behave("openai", faults.stall_after(2))
    reader = ask_stream(sim, Timeouts(1, 5, 0.3, 5))
    reader.limits.content_seen()
    kind, took_s = failure(lambda: drain(reader))
    assert kind is FailureKind.TIMEOUT
    assert within(took_s, 0.6, least_s=0.25)


def test_a_port_that_nobody_listens_on_is_a_refused_connection(sim: Simulator) -> None:
    sim.stop()
    kind, _ = failure(lambda: ask(sim))
    assert kind is FailureKind.CONNECTION


@pytest.mark.parametrize("base", ["ftp://example.com/v1", "not a url", "http://[::1", "http://host:99999/v1"])
def test_a_base_url_that_is_none_is_our_fault(base: str) -> None:
    assert failure(lambda: post(base, HEADERS, BODY, QUICK))[0] is FailureKind.NOT_FOUND


def test_a_host_that_does_not_exist_is_a_connection_failure() -> None:
    kind, _ = failure(lambda: post("http://nobody.invalid/v1", HEADERS, BODY, QUICK))
    assert kind is FailureKind.CONNECTION


def test_an_address_that_swallows_packets_is_left_after_the_connect_limit() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        time.sleep(0.1)
        timeouts = Timeouts(connect_s=0.3, first_token_s=3, idle_s=3, total_s=3)
        target = f"http://127.0.0.1:{address[1]}/v1"
        kind, took_s = failure(lambda: post(target, HEADERS, BODY, timeouts))
        for filler in fillers:
            filler.close()
    assert kind is FailureKind.TIMEOUT
    assert within(took_s, 0.6, least_s=0.25)


# --- bounds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [faults.endless(), faults.huge_line(), faults.gzip_bomb()])
def test_a_body_without_end_is_cut_off(sim: Simulator, fault: Behaviour) -> None:
    sim.behave("openai", fault)
    with pytest.raises(UpstreamError, match=str(MAX_BODY_BYTES)) as raised:
        ask(sim, PATIENT)
    assert raised.value.kind is FailureKind.MALFORMED
    assert sim.wait_until(lambda requests: requests[0].closed_by_client_at)


@pytest.mark.parametrize("fault", [faults.huge_line(), faults.gzip_bomb()])
def test_an_event_without_end_is_cut_off(sim: Simulator, fault: Behaviour) -> None:
    sim.behave("openai", fault)
    reader = ask_stream(sim, PATIENT)
    with pytest.raises(UpstreamError, match=str(MAX_EVENT_BYTES)) as raised:
        drain(reader)
    assert raised.value.kind is FailureKind.MALFORMED
    assert sim.wait_until(lambda requests: requests[0].closed_by_client_at)


def test_an_event_of_many_lines_is_bounded_as_a_whole() -> None:
    line = b"data: " + b"x" * 1_000_000 + b"\n"
    with pytest.raises(UpstreamError, match=str(MAX_EVENT_BYTES)):
        events_of(*[line] * 70)


def test_headers_without_end_are_cut_off(sim: Simulator) -> None:
    sim.behave("openai", faults.endless_headers())
    kind, took_s = failure(lambda: ask(sim, PATIENT))
    assert kind is FailureKind.CONNECTION
    assert within(took_s, 2)


@pytest.mark.parametrize(
    ("head", "body", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2", b"hi, and more", b"hi"),
        (b"HTTP/1.1 200\r\nTRANSFER-ENCODING: Chunked", b"2\r\nhi\r\n0\r\n\r\n", b"hi"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", b"2\r\nhi\r\n0\r\n\r\n", b"hi"),
        (b"HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2", b"hi", b"hi"),
        (b"HTTP/1.0 200 OK", b"until the end", b"until the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many", b"until the end", b"until the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5", b"until the end", b"until the end"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 9", b"", b""),
    ],
)
def test_the_end_of_an_answer_is_where_http_says(head: bytes, body: bytes, answer: bytes) -> None:
    """https://www.rfc-editor.org/rfc/rfc9112#section-6.3"""
    with Raw(head + b"\r\n\r\n" + body) as server:
        assert post(server.url, HEADERS, BODY, QUICK).body == answer


def test_headers_are_read_leniently() -> None:
    fields = b"X-Plain:  a: b \r\nx-folded: one\r\n\t two\r\nno field\r\nX-Latin: \xe9\nX-Empty:\r\n"
    with Raw(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n") as server:
        headers = post(server.url, HEADERS, BODY, QUICK).headers
    found = {name: headers[name] for name in ("x-plain", "x-folded", "x-latin", "x-empty")}
    assert found == {"x-plain": "a: b", "x-folded": "one two", "x-latin": "\xe9", "x-empty": ""}


def test_a_redirect_is_not_followed(sim: Simulator) -> None:
    with Simulator() as elsewhere:
        sim.behave("openai", faults.redirect(url(elsewhere)))
        assert ask(sim).status == 307
        assert elsewhere.requests == []


def test_a_compressed_answer_is_read(sim: Simulator) -> None:
    sim.behave("openai", faults.gzip_bomb(size=1000))
    assert ask(sim).body == b'{"id": "' + b"x" * 1000 + b'"}\n\n'


# --- connections ------------------------------------------------------------------------------------------


def test_a_connection_is_used_again(sim: Simulator) -> None:
    for _ in range(5):
        assert ask(sim).status == 200
        reader = ask_stream(sim)
        while reader.next_event() != b"[DONE]":
            pass
        reader.finish()
    assert len(sim.requests) == 10
    assert len(sim._connections) == 1


def test_a_connection_that_the_provider_closed_while_idle_costs_no_attempt(sim: Simulator) -> None:
    assert ask(sim).status == 200
    sim.stop()
    sim.start()
    assert ask(sim).status == 200
    assert len(sim.requests) == 2


def test_a_request_is_sent_once_even_when_a_used_connection_is_reset(sim: Simulator) -> None:
    assert ask(sim).status == 200
    sim.behave("openai", faults.reset_before_headers())
    assert failure(lambda: ask(sim))[0] is FailureKind.CONNECTION
    assert len(sim.requests) == 2


def test_a_stream_that_was_not_read_to_its_end_gives_its_connection_up(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(length=100, token_s=0.05))
    reader = ask_stream(sim)
    reader.next_event()
    reader.close()
    reader.close()
    assert sim.wait_until(lambda requests: requests[0].closed_by_client_at)
    assert ask(sim).status == 200


def test_close_wakes_a_reader_in_another_thread(sim: Simulator) -> None:
    sim.behave("openai", faults.stall_after(1))
    reader = ask_stream(sim, PATIENT)
    ended: list[FailureKind] = []

    def read() -> None:
        try:
            drain(reader)
        except UpstreamError as error:
            ended.append(error.kind)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.2)
    started = time.monotonic()
    reader.close()
    thread.join(timeout=2)
    assert ended == [FailureKind.INTERRUPTED]
    assert within(time.monotonic() - started, 0.5)
    assert sim.wait_until(lambda requests: requests[0].closed_by_client_at, timeout_s=1)


_UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time, gevent
from routing.upstreams.base import Timeouts, UpstreamError
from routing.upstreams.http.events import post_stream
from routing.upstreams.http.transport import post
url, timeouts = sys.argv[1], Timeouts(1, 5, 5, 10)
headers = {"Authorization": "Bearer k", "Content-Type": "application/json"}
body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true}'

def read():
    reader = readers[-1]
    try:
        while reader.next_event() is not None:
            pass
    except UpstreamError as error:
        return str(error.kind)

readers = [post_stream(url, headers, body, timeouts)]
reading = gevent.spawn(read)
gevent.sleep(0.2)
started = time.monotonic()
readers[0].close()
print(reading.get(timeout=2), time.monotonic() - started < 0.5)
started = time.monotonic()
many = [gevent.spawn(post, url, headers, body.replace(b"true", b"false"), timeouts) for _ in range(20)]
print(sorted({call.get(timeout=5).status for call in many}), time.monotonic() - started < 1.5)
"""


def test_greenlets_wait_side_by_side_and_close_wakes_one_that_reads(sim: Simulator) -> None:
    sim.behave("openai", faults.stall_after(1), forever=Behaviour(latency_s=0.3))
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_GEVENT, url(sim)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.splitlines() == ["interrupted True", "[200] True"], done.stderr


def test_a_forked_process_gets_connections_of_its_own(sim: Simulator) -> None:
    script = (
        "import os, sys\n"
        "from routing.upstreams.base import Timeouts\n"
        "from routing.upstreams.http.transport import post\n"
        "ask = lambda: post(sys.argv[1], {'Authorization': 'Bearer k'},"
        ' b\'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}\', Timeouts())\n'
        "ask()\n"
        "child = os.fork()\n"
        "status = ask().status\n"
        "if not child: os._exit(0 if status == 200 else 1)\n"
        "print(status, os.waitpid(child, 0)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, url(sim)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.split() == ["200", "0"], done.stderr
    assert len(sim.requests) == 3


def test_a_request_leaves_as_it_is_meant() -> None:
    with Raw(OK, address="::1") as server:
        assert (
            post(f"http://[::1]:{server.host.rpartition(':')[2]}/v1/x?a=b#c", {"X-A": "\xe9"}, b"{}", PATIENT).status
            == 200
        )
    expected = f"POST /v1/x?a=b HTTP/1.1\r\nHost: {server.host}\r\nX-A: \xe9\r\nContent-Length: 2\r\n\r\n{{}}"
    assert server.requests == [expected.encode("latin-1")]


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\rb", "\u20ac"])
def test_a_header_that_would_be_another_one_is_sent_to_nobody(value: str) -> None:
    with Raw(OK) as server:
        kind, _ = failure(lambda: post(server.url, {"Authorization": value}, BODY, QUICK))
        assert (kind, server.connections) == (FailureKind.AUTHENTICATION, 0)


def test_who_closes_late_does_not_touch_the_connections_next_user(sim: Simulator) -> None:
    late = ask_stream(sim, PATIENT)
    while late.next_event() != b"[DONE]":
        pass
    assert late.next_event() is None
    sim.behave("openai", Behaviour(length=5, token_s=0.02))
    following = ask_stream(sim, PATIENT)
    following.next_event()
    late._answer.shut()
    late.close()
    late._answer.close()
    assert drain(following)[-1] == b"[DONE]"
    assert len(sim._connections) == 1


def test_a_kept_connection_that_takes_no_byte_is_replaced_and_the_request_is_sent_once() -> None:
    with Raw(OK) as server:
        host, _, port = server.host.rpartition(":")
        origin = Origin("http", host, int(port))
        half_closed, theirs = socket.socketpair()
        half_closed.shutdown(socket.SHUT_WR)  # sending fails, and nothing is there to read that would say so before
        origin.keep(half_closed)
        request = exchange.request_bytes("POST / HTTP/1.1\r\n", {}, b"{}")
        answer = exchange.exchange(origin, request, 1, time.monotonic() + 1)
        assert (answer.status, answer.read_some(), server.requests) == (200, b"{}", [request])
        assert half_closed.fileno() == -1
        theirs.close()


@pytest.mark.parametrize(
    ("answer", "is_kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n{", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n", False),
    ],
)
def test_a_connection_on_which_more_came_than_the_answer_or_may_come_is_not_used_again(
    answer: bytes, is_kept: bool
) -> None:
    with Raw(answer, linger_s=0.3) as server:
        host, _, port = server.host.rpartition(":")
        origin = Origin("http", host, int(port))
        request = exchange.request_bytes("POST / HTTP/1.1\r\n", {}, b"{}")
        made = exchange.exchange(origin, request, 1, time.monotonic() + 1)
        while made.read_some():
            pass
        assert (origin.take() is not None) is is_kept


def test_the_idle_connections_of_an_origin_are_bounded() -> None:
    origin = Origin("http", "127.0.0.1", 1, most_idle=2)
    pairs = [socket.socketpair() for _ in range(3)]
    for ours, _ in pairs:
        origin.keep(ours)
    assert [ours.fileno() == -1 for ours, _ in pairs] == [True, False, False]
    pairs[2][1].close()  # the provider ends the newest one
    assert origin.take() is pairs[1][0]
    assert origin.take() is None
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


#: Answers that providers send, and answers that nobody should.
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\nX-T: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"hi"),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nhi",
    b"not HTTP",
    b"",
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_way_back_to_urllib3_hears_the_same(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    for way in (exchange.ask, stock.ask):
        monkeypatch.setattr(transport, "_ask", way)
        with Raw(answer) as server:
            try:
                whole = post(server.url, HEADERS, BODY, PATIENT)
            except UpstreamError as error:
                heard.append((error.kind, error.message, error.consumed))
            else:
                heard.append((whole.status, {n.lower(): v for n, v in whole.headers.items()}, whole.body))
    assert heard[0] == heard[1]


def test_the_way_back_to_urllib3_streams_the_same(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = drain(ask_stream(sim, PATIENT))
    monkeypatch.setattr(transport, "_ask", stock.ask)
    for _ in range(2):
        reader = ask_stream(sim, PATIENT)
        assert len(drain(reader)) == len(expected)
    assert len(sim.requests) == 3


# --- TLS ------------------------------------------------------------------------------------------------------

#: A certificate for `localhost` that signed itself, and its key: nobody trusts it, and nobody should.
CERTIFICATE = Path(__file__).with_name("localhost.pem")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def tls() -> Iterator[Raw]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with Raw(OK, tls=context) as server:
        server.url = server.url.replace("http://127.0.0.1", "https://localhost")
        yield server


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tls: Raw) -> None:
    with pytest.raises(UpstreamError, match="trusted TLS") as raised:
        post(tls.url, HEADERS, BODY, PATIENT)
    assert raised.value.kind is FailureKind.CONNECTION


def test_a_provider_that_hangs_up_before_tls_is_agreed_has_read_nothing_and_bills_nothing() -> None:
    def hang_up() -> None:
        ours, _ = listener.accept()
        ours.recv(65536)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the end is a reset
        ours.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(UpstreamError) as raised:
            post(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", HEADERS, BODY, PATIENT)
    assert (raised.value.kind, raised.value.consumed) == (FailureKind.CONNECTION, False)


@pytest.mark.parametrize(("host", "outcome"), [("localhost", "200 b'{}'"), ("127.0.0.1", "connection")])
def test_an_authority_of_ones_own_is_named_by_the_environment(tls: Raw, host: str, outcome: str) -> None:
    script = (
        "import sys\n"
        "from routing.upstreams.base import Timeouts, UpstreamError\n"
        "from routing.upstreams.http.transport import post\n"
        "try:\n"
        "    answer = post(sys.argv[1], {}, b'{}', Timeouts())\n"
        "    print(answer.status, answer.body)\n"
        "except UpstreamError as error:\n"
        "    print(error.kind)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tls.url.replace("localhost", host)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "SSL_CERT_FILE": str(CERTIFICATE)},
    )
    assert done.stdout.strip() == outcome, done.stderr


class _Kept(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    accepted = 0

    def setup(self) -> None:
        type(self).accepted += 1
        super().setup()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def test_a_tls_connection_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    connections.tls_context.cache_clear()
    _Kept.accepted = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Kept) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for _ in range(3):
            assert post(f"https://localhost:{server.server_port}/", HEADERS, BODY, PATIENT).body == b"{}"
        connections.origin_of("https", "localhost", server.server_port).close()
        server.shutdown()
    connections.tls_context.cache_clear()
    assert _Kept.accepted == 1


# --- server-sent events -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_may_end_in_any_way(end: bytes) -> None:
    stream = end.join(
        [b"event: a", b"data: one", b"", b": comment", b"data:two", b"data:  three", b"", b"data: [DONE]", b"", b""]
    )
    expected = [b"one", b"two\n three", b"[DONE]"]
    assert events_of(stream) == expected
    assert events_of(*[stream[i : i + 1] for i in range(len(stream))]) == expected


def test_a_last_event_without_its_blank_line_counts() -> None:
    assert events_of(b"data: one\n\ndata: two") == [b"one", b"two"]


def test_an_event_without_data_is_none_and_its_name_does_not_stick() -> None:
    with Raw(SSE_HEAD, b"event: ping\n\nid: 7\nretry: 5\n\ndata: x\n\nevent: error\ndata: y\n\n") as server:
        reader = post_stream(server.url, HEADERS, STREAMED, PATIENT)
        assert isinstance(reader, EventReader)
        named = [(reader.next_event(), reader.event_name) for _ in range(2)]
        reader.close()
    assert named == [(b"x", ""), (b"y", "error")]


def test_characters_that_only_unicode_calls_line_ends_stay_inside_an_event() -> None:
    data = '{"content": "a\u2028b\u2029c\u0085d\x0be"}'.encode()
    assert events_of(b"data: " + data + b"\n\n") == [data]


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json"])
def test_an_answer_that_is_no_stream_comes_back_whole(kind: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 2\r\n\r\n".encode()
    with Raw(head, b"{}") as server:
        answer = post_stream(server.url, HEADERS, STREAMED, PATIENT)
    assert isinstance(answer, Whole)
    assert (answer.status, answer.body) == (200, b"{}")


# --- pictures by URL ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("168.63.129.16", False),  # Azure's hosts
        ("64:ff9b::a83f:8110", False),
        ("2002:a83f:8110::", False),
        ("::ffff:168.63.129.16", False),
        ("192.0.0.192", False),  # Oracle's
        ("100.100.100.200", False),  # Alibaba's
        ("fd00:ec2::254", False),  # AWS's
        ("fd20:ce::254", False),  # Google's
        ("64:ff9b:1::a9fe:a9fe", False),
        ("::a9fe:a9fe", False),
        ("64:ff9b::5db8:d822", True),
    ],
)
def test_only_public_addresses_are_public(address: str, public: bool) -> None:
    assert media.is_public(address) is public


PICTURE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\n\x89PNG\r\n\x1a\n"  # by its bytes


def soon() -> float:
    return time.monotonic() + 5


def test_a_picture_is_fetched_as_a_data_url() -> None:
    with Raw(PICTURE) as server:
        assert media.fetch(server.url, soon(), allowed=lambda _: True) == "data:image/png;base64,iVBORw0KGgo="


def test_a_picture_named_twice_is_fetched_once_and_put_in_its_place() -> None:
    with Raw(PICTURE) as server:
        parts: list[dict[str, object]] = [
            {"type": "text", "text": server.url},
            {"type": "image_url", "image_url": {"url": server.url, "detail": "low"}},
            {"type": "image_url", "image_url": server.url},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]
        messages = [{"role": "user", "content": parts}, {"role": "user", "content": "hi"}]
        media.inlined(messages, lambda _: True, soon(), allowed=lambda _: True)
        assert server.connections == 1
    assert parts == [
        {"type": "text", "text": server.url},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]


def test_more_than_ten_pictures_by_url_are_refused() -> None:
    with Raw(PICTURE) as server:
        parts = [{"type": "image_url", "image_url": {"url": f"{server.url}?{i}"}} for i in range(11)]
        with pytest.raises(UpstreamError, match="more than 10"):
            media.inlined([{"role": "user", "content": parts}], lambda _: True, soon(), allowed=lambda _: True)


def test_a_picture_at_an_address_of_ours_is_refused_without_a_connection() -> None:
    with Raw(PICTURE) as server:
        for host in ("127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433"):
            with pytest.raises(UpstreamError, match="cannot be used") as raised:
                media.fetch(server.url.replace("127.0.0.1", host), soon())
            assert raised.value.kind is FailureKind.BAD_REQUEST
            assert (raised.value.http_status, raised.value.param) == (400, "messages")
        assert server.connections == 0


def test_a_redirect_to_an_address_of_ours_is_refused() -> None:
    with Raw(PICTURE) as inside:
        port = inside.url.split(":")[2].split("/")[0]
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2:{port}/\r\nContent-Length: 0\r\n\r\n".encode()
        with Raw(moved) as outside, pytest.raises(UpstreamError, match="not a public one"):
            media.fetch(outside.url, soon(), allowed=lambda address: address == "127.0.0.1")
        assert inside.connections == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 2\r\n\r\nhi", "not a PNG"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 8\r\n\r\n%PDF-1.4", "not a PNG"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nGIF89a\x0b\0\x01\0", "longer than ten times its width"),
        (b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n", "redirects too often"),
        (b"", "could not be fetched"),
    ],
)
def test_what_is_no_picture_is_refused(answer: bytes, reason: str) -> None:
    with Raw(answer) as server, pytest.raises(UpstreamError, match=reason):
        media.fetch(server.url, soon(), allowed=lambda _: True)


def test_a_picture_that_is_too_large_is_refused() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"
    with Raw(head, *[b"x" * 1_000_000] * 25) as server, pytest.raises(UpstreamError, match="could not be fetched"):
        media.fetch(server.url, soon(), allowed=lambda _: True)


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


CHUNKED_HEAD = SSE_HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")


def test_events_that_come_at_once_are_read_at_once_whether_chunked_or_not() -> None:
    events = [f"data: {number}\n\n".encode() for number in range(20)]
    for head, body in ((SSE_HEAD, b"".join(events)), (CHUNKED_HEAD, chunked(*events, b"data: last\n\n"))):
        with Raw(head + body, linger_s=5) as server:
            reader = post_stream(server.url, HEADERS, STREAMED, PATIENT)
            assert isinstance(reader, EventReader)
            assert [reader.has_event, reader.next_event()] == [False, b"0"]
            for number in range(1, 20):
                assert [reader.has_event, reader.next_event()] == [True, str(number).encode()]
            reader.close()


@pytest.mark.parametrize(
    "following",
    [
        b"",
        b"5",
        b"5\r\n",
        b"5;ext=1\r\n",
        b"zz\r\nx",
        b"0\r\n",
        b"0000000c\r\ndata: b",
        b"c\r\ndata: b\n\n: x\r\n",
    ],
)
def test_events_that_came_whole_are_not_lost_for_what_comes_with_them(following: bytes) -> None:
    with Raw(CHUNKED_HEAD + chunked(b"data: a\n\n", b"data: aa\n\n") + following) as server:
        reader = post_stream(server.url, HEADERS, STREAMED, PATIENT)
        assert isinstance(reader, EventReader)
        assert [reader.next_event(), reader.next_event()] == [b"a", b"aa"]
        with contextlib.suppress(UpstreamError):
            while reader.next_event() is not None:
                pass


@settings(max_examples=100, deadline=None)
@given(text=st.binary(max_size=60), cuts=st.lists(st.integers(0, 200), max_size=12))
def test_however_a_stream_is_chunked_its_events_are_the_same(text: bytes, cuts: list[int]) -> None:
    body = b"data: a\n\ndata: \r\n1f\r\nb\n\n" + text.replace(b"\x00", b"data: c\n\n") + b"\n\ndata: end\n\n"
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    parts = [body[start:end] for start, end in itertools.pairwise(places)]
    with Raw(CHUNKED_HEAD + chunked(*parts) + b"0\r\n\r\n") as server:
        reader = post_stream(server.url, HEADERS, STREAMED, PATIENT)
        assert isinstance(reader, EventReader)
        assert drain(reader) == events_of(body)
