"""How a gate is written: METRIC OP NUMBER, parted by commas.

METRIC is a name of `metrics.METRICS`, OP one of >= > <= <, NUMBER a decimal, of shares also with %.
A label stands in brackets, in quotes if it holds commas, brackets or quotes; blanks mean nothing.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple, NoReturn

from ..errors import OptionError
from .metrics import KNOWN, METRICS

_BARE = r"[^\[\],\"'\s](?:[^\[\],\"'\n]*[^\[\],\"'\s])?"
_QUOTED = r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'"


class Written(NamedTuple):
    """A condition as it was written; without a label, `label` is empty."""

    metric: str
    label: str
    operator: str
    number: float


def read_gate(text: str) -> list[Written]:
    """Read the conditions of a gate; OptionError says where the text is none."""
    scanner = _Scanner(text)
    conditions = [scanner.read_condition()]
    while scanner.take(","):
        conditions.append(scanner.read_condition())
    if scanner.rest:
        scanner.fail("expected is a comma or the end")
    return conditions


def write_label(label: str) -> str:
    """Return a label as it stands in brackets, in quotes where it needs them."""
    if re.fullmatch(_BARE, label):
        return label
    return '"' + re.sub(r'(["\\])', r"\\\1", label) + '"'


class _Scanner:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.take("")  # the blanks before it

    @property
    def rest(self) -> str:
        """What is not read yet."""
        return self._text[self._at :]

    def take(self, pattern: str) -> str:
        """Read what matches here, and the blanks behind it; "" if nothing does."""
        found = re.match(rf"({pattern})\s*", self.rest, re.DOTALL)
        self._at += found.end() if found else 0
        return found[1] if found else ""

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """Raise OptionError: what is wrong from a place on, or here."""
        at = self._at if at is None else at
        rest = self._text[at : at + 24]
        where = f"at character {at + 1}, {rest!r}" if rest else "at its end"
        raise OptionError(
            f"the gate cannot be read {where}: {reason}",
            hint='One is written like this: --gate "accuracy>=95%, recall[ALERT]>=0.98".',
        )

    def read_condition(self) -> Written:
        """Read METRIC OP NUMBER."""
        at = self._at
        metric = self.take(r"[\w.]+")
        if metric not in METRICS:
            self.fail(f"expected is a metric, and known are {KNOWN}", at)
        label = self._read_label(metric)
        operator = self.take(">=|<=|>|<")
        if not operator:
            self.fail("expected is one of >=, >, <= and <")
        return Written(metric, label, operator, self._read_number(metric))

    def _read_label(self, metric: str) -> str:
        at, is_there = self._at, bool(self.take(r"\["))
        if is_there != METRICS[metric].of_label:
            wish = f"{metric} is of all cases" if is_there else f"{metric}[LABEL] is of a label"
            self.fail(wish, at)
        if not is_there:
            return ""
        label = self.take(f"{_QUOTED}|{_BARE}")
        if not label:
            self.fail("expected is a label, in quotes if it holds commas, brackets or quotes")
        if not self.take(r"\]"):
            self.fail("expected is ]; a label with commas, brackets or quotes needs quotes")
        return re.sub(r"\\(.)", r"\1", label[1:-1]) if label[0] in "\"'" else label

    def _read_number(self, metric: str) -> float:
        at, is_share = self._at, METRICS[metric].is_share
        digits = self.take(r"[0-9]{1,9}(?:\.[0-9]{0,12})?|\.[0-9]{1,12}")
        if not digits:
            self.fail("expected is a number, such as 0.95" + (" or 95%" if is_share else ""))
        is_percent = bool(is_share and self.take("%"))
        number = Fraction(digits) / (100 if is_percent else 1)
        if is_share and number > 1:
            self.fail(f"{metric} is a share, from 0 to 1 or 0% to 100%", at)
        return float(number)
