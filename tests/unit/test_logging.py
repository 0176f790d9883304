"""The lines on stdout: one JSON object each, with what the caller named and nothing else."""

from __future__ import annotations

import json
import logging
import sys
from decimal import Decimal
from typing import Any

from gateway_project.logging import JsonFormatter


def line_of(message: str, *, exc_info: Any = None, **extra: Any) -> dict[str, Any]:
    logger = logging.getLogger("gateway.test")
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 1, message, (), exc_info, extra=extra)
    record.created = 1_800_000_000.25
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert isinstance(line, dict)
    return line


def test_a_line_has_its_event_and_the_fields_of_extra() -> None:
    assert line_of("request", alias="gpt-4o", cost_usd=Decimal("0.000012500000"), status=200) == {
        "ts": "2027-01-15T08:00:00.250+00:00",
        "level": "info",
        "logger": "gateway.test",
        "event": "request",
        "alias": "gpt-4o",
        "cost_usd": "0.000012500000",
        "status": 200,
    }


def test_djangos_request_object_is_not_written() -> None:
    assert "request" not in line_of("Internal Server Error", request=object(), status_code=500)


def test_an_exception_is_in_its_own_field_on_the_same_line() -> None:
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        line = line_of("failed", exc_info=sys.exc_info())
    assert line["event"] == "failed"
    assert line["exception"].endswith("ValueError: broken\nin two")


def test_what_stands_on_every_line_is_not_replaced_by_a_field_and_no_other_formatters_text_is_a_field() -> None:
    line = line_of("request", level="loud", ts="never", request=object(), alias="a")
    assert (line["level"], line["alias"]) == ("info", "a")
    assert line["ts"].startswith("2027-01-15")
    record = logging.makeLogRecord({"msg": "request", "alias": "a"})
    logging.Formatter("%(asctime)s %(message)s").format(record)  # writes `message` and `asctime` into the record
    assert json.loads(JsonFormatter().format(record)).keys() == {"ts", "level", "logger", "event", "alias"}
