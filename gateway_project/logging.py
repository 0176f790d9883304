"""One JSON object a line on stdout: ``ts``, ``level``, ``logger``, ``event``, then the fields of ``extra``.

    logger.info("request", extra={"alias": alias, "cost_usd": cost})

A line holds only what its caller names: never headers, never bodies. An exception adds its traceback as
``exception``.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TextIO

# The attributes of every LogRecord, which stand before all others. The others came in as ``extra``, but for those that
# some formatter has added.
_STANDARD = frozenset(vars(logging.makeLogRecord({})))
# Django's own extras are among them. Their text is useless, or shows the request's headers.
_DROPPED = _STANDARD | {"message", "asctime", "request", "server_time", "ts", "level", "logger", "event"}
# No line says which thread wrote it, so no record need know. (gunicorn's own say which process did.)
logging.logThreads = logging.logMultiprocessing = False
# Decimals, UUIDs and times become text, so a cost keeps every digit.
_encoder = json.JSONEncoder(default=str, ensure_ascii=False)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        extra = dict(islice(vars(record).items(), len(_STANDARD), None))
        if not _DROPPED.isdisjoint(extra):
            extra = {name: value for name, value in extra.items() if name not in _DROPPED}
        line |= extra
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encoder.encode(line)


class LineHandler(logging.StreamHandler[TextIO]):
    """logging's own would take its lock a second time to flush."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(f"{self.format(record)}\n")
            self.stream.flush()
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001  as logging does it: a line that cannot be written ends no request
            self.handleError(record)


def configuration(level: str) -> dict[str, Any]:
    """Django's ``LOGGING``. ``level`` applies to the gateway's own loggers; all others log from WARNING."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {
            "stdout": {
                "class": "gateway_project.logging.LineHandler",
                "formatter": "json",
                "stream": "ext://sys.stdout",
            }
        },
        "root": {"handlers": ["stdout"], "level": "WARNING"},
        "loggers": {
            "gateway": {"level": level},
            # Django's handlers print for developers and mail administrators. Only the root's handler is kept.
            "django": {"handlers": [], "level": "WARNING", "propagate": True},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
            # Django would write a line for each 4xx answer, and the gateway's request line says that already.
            "django.request": {"level": "ERROR"},
            # Django would write a traceback for each request with a wrong Host: internet scanners would fill the log.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
        },
    }
