"""How an attempt ended: every value that the column ``outcome`` may have. ``docs/sql-views.md`` explains each."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    ANSWERED = "answered"

    # The provider was called, and its answer did not come to its end.
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    AUTHENTICATION = "authentication"
    NOT_FOUND = "not_found"
    BAD_REQUEST = "bad_request"
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"
    CAPABILITY = "capability"
    MALFORMED = "malformed"
    EMPTY = "empty"
    INTERRUPTED = "interrupted"
    CLIENT_CLOSED = "client_closed"
    GATEWAY_FAILED = "gateway_failed"

    # The provider was not called.
    NO_KEY = "no_key"
    BREAKER_OPEN = "breaker_open"
    UNPRICED = "unpriced"
    UNBOUNDED = "unbounded_cost"
    NO_ROOM = "no_room"
    HOLD_LOST = "hold_lost"
