"""What a teacher is to teach: a spec, and the type of its outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..compiler.writer import split_examples
from ..errors import OptionError
from ..output import Labels, Output
from .questions import SHOWN
from .sieve import Sieve

_LABEL_SHARE = 1.5  # of an equal share, that a label may have at most


@dataclass(frozen=True)
class Function:
    """What is to be taught: a spec, and the type of its outputs."""

    spec: str
    output: Output

    def __post_init__(self) -> None:
        if not self.spec.strip():
            raise OptionError("the spec is empty")

    def sieve(self, num_pairs: float) -> Sieve:
        """Return what tells the pairs that are kept, of so many in all."""
        examples = [text for text, _ in split_examples(self.spec)[1]]
        per_label = num_pairs
        if isinstance(self.output, Labels):
            per_label = math.ceil(_LABEL_SHARE * num_pairs / len(self.output.labels))
        return Sieve(self.output, [SHOWN, *examples], per_label)

    def record(self) -> dict[str, Any]:
        """Return what tells it from others."""
        return {"spec": self.spec, "output": self.output.record()}
