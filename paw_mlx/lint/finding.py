"""What a check finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What is known to go wrong: its `code`, a `sentence` on this spec, and `better` wording."""

    code: str
    sentence: str
    better: str

    def record(self) -> dict[str, str]:
        """Return it as JSON has it."""
        return {"code": self.code, "sentence": self.sentence, "better": self.better}


def return_only(labels: Sequence[str]) -> str:
    """Return the sentence that binds outputs to labels, as `spec_output` reads it."""
    return f"Return ONLY one of: {', '.join(labels)}"


def quote(text: str, limit: int = 60) -> str:
    """Return a piece of a spec on one line, in quotes, cut if it is long."""
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= limit else f'"{line[:limit].rstrip()}…"'
