"""What the worker logs of a request that it could not serve, and which requests it counts as pages."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.config import Config

from gateway_project.worker import GatewayWorker


def test_the_log_has_a_requests_path_and_not_its_query_where_a_key_may_be() -> None:
    worker = GatewayWorker.__new__(GatewayWorker)
    worker.log, worker.cfg = Mock(), Config()
    path = "/v1beta/models/a:generateContent"
    request: Any = SimpleNamespace(
        method="POST", path=path, uri=f"{path}?key=sk-1", query="key=sk-1", headers=[], body=None, version=(1, 1)
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker.handle_error(request, ours, ("127.0.0.1", 1), RuntimeError("a defect"))
        assert theirs.recv(65536).startswith(b"HTTP/1.1 500")
    # The line of gunicorn's own access log is not written (gunicorn.conf.py).
    (line,) = worker.log.exception.call_args_list
    assert line.args == ("Error handling request %s %s", "POST", path)


@pytest.mark.parametrize("path", ["/admin/", "/static/a.js", "/%61dmin/", "/%73tatic/a.js", "/static%2fa.js"])
def test_a_page_is_bounded_however_its_path_is_written(path: str) -> None:
    worker = GatewayWorker.__new__(GatewayWorker)
    worker.log, worker._pages, worker.pages = Mock(), 0, 0
    request: Any = SimpleNamespace(path=path)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert worker._answer(Mock(), request, ours, ("127.0.0.1", 1)) is False
        assert theirs.recv(65536).startswith(b"HTTP/1.1 503")
