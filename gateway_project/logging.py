"""One JSON object a line on stdout: ``ts``, ``level``, ``logger``, ``event``, then the fields of ``extra``.

    logger.info("request", extra={"alias": alias, "cost_usd": cost})

Only what a caller names is written: never headers, never bodies. An exception adds ``exception``, its
traceback.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

# What every LogRecord has; whatever else is on it came in as ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Django's own extras: objects that would print the request's headers, or nothing useful.
_DROPPED = frozenset({"request", "server_time"})


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in _DROPPED and name not in line:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Decimals, UUIDs and times as their text: a cost keeps every digit.
        return json.dumps(line, default=str, ensure_ascii=False)


def configuration(level: str) -> dict[str, Any]:
    """Django's ``LOGGING``. ``level`` is that of the gateway's own lines; all others speak from WARNING."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
        "root": {"handlers": ["stdout"], "level": "WARNING"},
        "loggers": {
            "gateway": {"level": level},
            # Django's own handlers print for developers and mail to administrators; the root's is ours.
            "django": {"handlers": [], "level": "WARNING", "propagate": True},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
            # A line for each 4xx answer: the gateway's request line says it already.
            "django.request": {"level": "ERROR"},
            # A traceback for each request with a made-up Host: whoever scans the internet would fill the log.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
        },
    }
