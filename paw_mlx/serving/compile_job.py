"""A compile job: what it was asked, how far it is, how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..output import Output


@dataclass(frozen=True)
class Compile:
    """A compile job as it was when somebody looked; `get` looks again.

    `state` is queued, compiling, ready, failed or cancelled; `percent` 0 to 100, of steps and not
    of time; `message` says the step. `revision` grows with every change. Of a ready one
    `reference` is the stored program (`name@vN`), and `created_version` whether it is a new one. Of
    a failed one `error` is the sentence, `code` the class of the error, `hint` the way out. Times
    are in seconds since 1970.
    """

    id: str
    spec: str
    output: Output
    compiler: str
    name: str | None
    created: float
    state: str = "queued"
    percent: float = 0.0
    message: str = "waiting"
    started: float | None = None
    completed: float | None = None
    program_id: str | None = None
    reference: str | None = None
    created_version: bool = False
    error: str | None = None
    code: str | None = None
    hint: str | None = None
    revision: int = 0

    @property
    def is_done(self) -> bool:
        """Whether it has come to its end, good or bad."""
        return self.state in ("ready", "failed", "cancelled")

    @property
    def seconds(self) -> float:
        """Seconds that compiling took, or has taken so far; 0 for one that waits."""
        return (self.completed or time.time()) - self.started if self.started else 0.0

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it; times are ISO 8601, in UTC."""
        plain = ("id", "spec", "compiler", "name", "state", "percent", "message", "program_id")
        told: dict[str, Any] = {key: getattr(self, key) for key in plain}
        told |= {"output": self.output.record(), "reference": self.reference}
        for key in ("created", "started", "completed"):
            told[f"{key}_at"] = iso(getattr(self, key))
        told |= {"seconds": round(self.seconds, 3), "revision": self.revision}
        told["error"] = self.error and {
            "code": self.code,
            "message": self.error,
            "hint": self.hint,
        }
        return told


def iso(seconds: float | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
