"""The ways in which a provider misbehaves, by name: each returns a `Behaviour` for `Simulator.behave`."""

from __future__ import annotations

from tests.simulator.behaviour import Behaviour, Cut, Problem

__all__ = [
    "bad_gateway",
    "content_filtered",
    "context_length_exceeded",
    "cut_after",
    "down_for",
    "empty_answer",
    "endless",
    "endless_headers",
    "error_after",
    "gateway_timeout",
    "gzip_bomb",
    "huge_line",
    "insufficient_quota",
    "invalid_key",
    "malformed_body",
    "malformed_event_at",
    "model_not_found",
    "overloaded",
    "permission_denied",
    "rate_limited",
    "redirect",
    "refuses_prefill",
    "request_too_large",
    "reset_before_headers",
    "server_error",
    "silent",
    "slow_answer",
    "slow_first_token",
    "stall_after",
    "stopped_by_filter",
    "unavailable",
    "without_done",
    "without_usage",
]


# --- what the provider says ----------------------------------------------------------------------


def rate_limited(retry_after_s: float | None = None) -> Behaviour:
    """429; with a Retry-After header (and Gemini's RetryInfo) when a time is given."""
    return Behaviour(problem="rate_limited", retry_after_s=retry_after_s)


def insufficient_quota() -> Behaviour:
    """The account has no money left: 429 at OpenAI and Gemini, 400 at Anthropic."""
    return Behaviour(problem="insufficient_quota")


def server_error() -> Behaviour:
    """500."""
    return Behaviour(problem="server_error")


def bad_gateway() -> Behaviour:
    """502 with the HTML page of the proxy in front of the provider."""
    return Behaviour(problem="bad_gateway")


def unavailable(retry_after_s: float | None = None) -> Behaviour:
    """503."""
    return Behaviour(problem="unavailable", retry_after_s=retry_after_s)


def gateway_timeout() -> Behaviour:
    """504."""
    return Behaviour(problem="gateway_timeout")


def overloaded() -> Behaviour:
    """529 at Anthropic, 503 at the others."""
    return Behaviour(problem="overloaded")


def context_length_exceeded() -> Behaviour:
    """400: the prompt is longer than the model's context."""
    return Behaviour(problem="context_length_exceeded")


def content_filtered() -> Behaviour:
    """The prompt is refused by a content policy: 400, and at Gemini a 200 with
    `promptFeedback.blockReason`."""
    return Behaviour(problem="content_filtered")


def stopped_by_filter(tokens: int = 0) -> Behaviour:
    """An answer that the content filter ended after so many tokens: content_filter, refusal, SAFETY."""
    return Behaviour(length=tokens, finish="content_filter")


def invalid_key() -> Behaviour:
    """The provider's key is wrong: 401, at Gemini 400."""
    return Behaviour(problem="invalid_key")


def permission_denied() -> Behaviour:
    """403."""
    return Behaviour(problem="permission_denied")


def model_not_found() -> Behaviour:
    """404."""
    return Behaviour(problem="model_not_found")


def request_too_large() -> Behaviour:
    """413 (Gemini: 400)."""
    return Behaviour(problem="request_too_large")


def refuses_prefill() -> Behaviour:
    """400 for a request that ends with an assistant message; any other request is answered."""
    return Behaviour(refuses_prefill=True)


def empty_answer() -> Behaviour:
    """200 without any content."""
    return Behaviour(tokens=())


def without_usage() -> Behaviour:
    """A good answer that does not say what it cost."""
    return Behaviour(report_usage=False)


# --- time ----------------------------------------------------------------------------------------


def silent(seconds: float = 600.0) -> Behaviour:
    """Accepts the request and answers nothing; closes after that time."""
    return Behaviour(instead="silent", seconds=seconds)


def slow_answer(latency_s: float | tuple[float, float], seed: int | None = None) -> Behaviour:
    """A good answer whose head comes after that time, fixed or drawn from a range."""
    return Behaviour(latency_s=latency_s, seed=seed)


def slow_first_token(seconds: float) -> Behaviour:
    """The head comes at once, the first content after that time."""
    return Behaviour(first_token_s=seconds)


def stall_after(tokens: int, seconds: float = 600.0) -> Behaviour:
    """Stops for that long after so many content tokens, then goes on. A whole answer stops in mid-body."""
    return Behaviour(stall_after=tokens, seconds=seconds)


def down_for(seconds: float, fault: Behaviour | None = None) -> Behaviour:
    """Every request fails for that long, counted from when this comes up; then all is well again."""
    return (fault or unavailable()).but(window_s=seconds)


# --- the wire ------------------------------------------------------------------------------------


def reset_before_headers() -> Behaviour:
    """Reads the request, then resets the connection (RST)."""
    return Behaviour(instead="reset")


def cut_after(tokens: int, cut: Cut = "close") -> Behaviour:
    """Ends the stream after so many content tokens: `close` without the last chunk, `reset` with an RST,
    `clean` as if it were complete. A whole answer is cut in mid-body (`clean` makes no sense there: it
    closes)."""
    return Behaviour(cut_after=tokens, cut=cut)


def error_after(tokens: int, problem: Problem = "overloaded") -> Behaviour:
    """An error event in the stream after so many content tokens, then the end. Whole answers fail at once."""
    return Behaviour(problem=problem, problem_after=tokens)


def malformed_event_at(token: int) -> Behaviour:
    """An extra event that is not JSON before that content token (the first is 0). Nothing else is lost."""
    return Behaviour(malformed_event_at=token)


def without_done(open_s: float = 0.0) -> Behaviour:
    """The stream's last marker never comes (`[DONE]`, `message_stop`); the connection stays open that long.

    Gemini has no such marker: there the stream is complete, and only stays open.
    """
    return Behaviour(without_done=True, seconds=open_s)


def malformed_body() -> Behaviour:
    """200 with half a JSON document, correctly framed."""
    return Behaviour(instead="malformed_body")


def endless(token_s: float = 0.0) -> Behaviour:
    """Content without end, until the client leaves."""
    return Behaviour(instead="endless", token_s=token_s)


def huge_line(size: int = 100_000_000) -> Behaviour:
    """One event (or body) of that many bytes without a line break."""
    return Behaviour(instead="huge_line", size=size)


def gzip_bomb(size: int = 1_000_000_000) -> Behaviour:
    """A gzip-encoded answer that unpacks to that many bytes."""
    return Behaviour(instead="gzip_bomb", size=size)


def redirect(to: str, status: int = 307) -> Behaviour:
    """Sends the client elsewhere."""
    return Behaviour(instead="redirect", location=to, status=status)


def endless_headers() -> Behaviour:
    """Header lines without end."""
    return Behaviour(instead="endless_headers")
