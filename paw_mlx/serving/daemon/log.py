"""The daemon's log: a JSON object a line, with what happened and never what was asked or said."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

_MAX_BYTES = 2 << 20  # and the same for the file before it


class _Handler(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Lose the line, where the disk is full: the daemon goes on."""


class Log:
    """Lines in a file that is begun anew when it is long; the one before is kept as `.1`."""

    def __init__(self, path: Path) -> None:
        self._handler = _Handler(path, maxBytes=_MAX_BYTES, backupCount=1)

    def __call__(self, event: str, **facts: Any) -> None:
        """Write what happened, with the time (UTC)."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, "event": event, **facts}, default=str)
        self._handler.emit(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        with suppress(OSError):  # a full disk
            self._handler.close()
