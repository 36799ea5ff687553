"""How log lines look: an event and its fields, as text or JSON, on standard error.

What must not live here: what is logged. Prompt text never is.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from cluster.config import TelemetrySection

ACCESS_LOGGER = "longreach.access"
"""One line a request, written by services/rest."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def configure_logging(telemetry: TelemetrySection) -> None:
    """Send the process's log to standard error in the configured form; safe to call again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if telemetry.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(telemetry)


def set_level(telemetry: TelemetrySection) -> None:
    """Log from this level up."""
    logging.getLogger().setLevel(telemetry.log_level.upper())


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields a log call gave in `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class TextFormatter(logging.Formatter):
    """`2026-11-03T10:00:00.123Z INFO event key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on lines of its own."""
        pairs = "".join(f" {key}={_quoted(value)}" for key, value in fields(record).items())
        line = f"{_when(record)} {record.levelname} {record.getMessage()}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        data: dict[str, Any] = {"time": _when(record), "level": record.levelname, "event": record.getMessage()}
        data.update(fields(record))
        if record.exc_info:
            data["traceback"] = self.formatException(record.exc_info)
        return json.dumps(data, default=str, ensure_ascii=False)


def _when(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _quoted(value: object) -> str:
    text = str(value)
    # Quoting also keeps a client's text from starting a line of its own.
    return text if text.isprintable() and " " not in text and '"' not in text and text else json.dumps(text)
