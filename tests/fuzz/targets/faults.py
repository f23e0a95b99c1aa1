"""What a server logs of its own bugs, and its clients are not told."""

from __future__ import annotations

import logging


class Faults(logging.Handler):
    """Hears of what raised: a client is told 500, and an agent that its tool failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.raised = list[BaseException]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.raised.append(record.exc_info[1])
