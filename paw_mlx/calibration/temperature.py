"""The temperature of labels: fitted, and judged on cases that it was not fitted on.

Cases stand in the order of a hash of their inputs: nothing depends on the order of a file, and
equal inputs are never on both sides of a split.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..evaluation import Bin, Report, calibration_error, reliability

NUM_FOLDS = 5
MIN_CASES = 10
LOWEST, HIGHEST = 0.1, 10.0  # temperatures
_HALVINGS = 50  # of what a bisection begins with
LEAST = 5e-324  # a float's least

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Rows:
    """Calls on cases, N of L labels.

    `logs` are the labels' log-probabilities at temperature 1 (N, L), in nats; `right` is the right
    label's place (N), -1 for an output that is none; `inputs` numbers the different inputs (N).
    """

    logs: Array
    right: Array
    inputs: Array

    @classmethod
    def of(cls, report: Report) -> Rows:
        """Take the calls of a report that chose among labels, at temperature 1."""
        hashed = {one.input: _hash(one.input) for one in report.judged}
        judged = sorted(report.judged, key=lambda one: hashed[one.input])
        numbers = {text: n for n, text in enumerate(sorted(hashed, key=hashed.__getitem__))}
        logs, right, inputs = [], [], []
        for one in judged:
            if one.decision:
                shares = one.decision.probabilities
                logs.append([math.log(max(share, LEAST)) for share in shares.values()])
                right.append([*shares].index(one.right) if one.right in shares else -1)
                inputs.append(numbers[one.input])
        return cls(np.array(logs), np.array(right), np.array(inputs))

    def __len__(self) -> int:
        return len(self.right)

    def where(self, mask: Array) -> Rows:
        """Return the rows for which `mask` (N) is true."""
        return Rows(self.logs[mask], self.right[mask], self.inputs[mask])

    def split(self, parts: int) -> tuple[Rows, Rows]:
        """Return every so many-th input's rows, and the others'."""
        first = self.inputs % parts == 0
        return self.where(first), self.where(~first)

    def shares(self, temperature: float | Array) -> Array:
        """Return the labels' probabilities (N, L) at one temperature, or at each row's own (N)."""
        scaled = self.logs / np.reshape(temperature, (-1, 1))
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def calls(self, temperature: float | Array) -> tuple[list[float], list[bool]]:
        """Return the probability of the likeliest label (N), and whether it is right (N)."""
        shares = self.shares(temperature)
        return shares.max(axis=1).tolist(), (shares.argmax(axis=1) == self.right).tolist()

    def log_loss(self, temperature: float | Array) -> float:
        """Return the mean of -ln(probability of the right label), where it is one, in nats."""
        known = np.flatnonzero(self.right >= 0)
        shares = self.shares(temperature)[known, self.right[known]]
        return float(-np.log(np.maximum(shares, LEAST)).mean())


@dataclass(frozen=True)
class Fit:
    """A temperature, and how probabilities fare without it and with it.

    With it means: with what was fitted on other cases (`fit_temperature`). Log losses are in nats.
    `reason` says why the temperature stays 1; without `log_loss`, nothing could be fitted.
    """

    temperature: float
    num_cases: int
    log_loss: tuple[float, float] | None = None
    bins: tuple[list[Bin], list[Bin]] | None = None
    reason: str | None = None

    @property
    def calibration_error(self) -> tuple[float, float] | None:
        """The expected calibration errors, 0 to 1."""
        return self.bins and (calibration_error(self.bins[0]), calibration_error(self.bins[1]))


def fit_temperature(rows: Rows) -> Fit:
    """Fit the temperature of least log loss (Guo et al., ICML 2017, arXiv:1706.04599).

    Whether it helps is judged by cross-fitting: each case with what the other four of five folds
    give. It stays 1 where it does not, and where the cases cannot tell; it has four digits.
    """
    known = rows.where(rows.right >= 0)
    if reason := _find_fault(known):
        return Fit(1.0, len(rows), reason=reason)
    crossed = np.ones(len(rows))
    for fold in range(NUM_FOLDS):
        others = known.where(known.inputs % NUM_FOLDS != fold)
        crossed[rows.inputs % NUM_FOLDS == fold] = _solve(others)
    before, after = rows.log_loss(1.0), rows.log_loss(crossed)
    bins = reliability(*rows.calls(1.0)), reliability(*rows.calls(crossed))
    fit = Fit(float(f"{_solve(known):.4g}"), len(rows), (before, after), bins)
    if after < before:
        return fit
    reason = (
        f"one that was fitted on other cases does no good (log loss {before:.4f} → {after:.4f})"
    )
    return replace(fit, temperature=1.0, reason=reason)


def _find_fault(rows: Rows) -> str | None:
    """Return why there is no best temperature, if there is none."""
    num = len(rows)
    if num < MIN_CASES:
        return f"it takes {MIN_CASES} cases whose output is a label, and there are {num}"
    if len(np.unique(rows.right)) == 1:
        return f"all {num} cases have the same output"
    if _slope(rows, math.inf) <= 0:
        return f"all {num} cases are right, so that no probability is too low"
    if _slope(rows, 0.0) >= 0:
        return "wrong labels are no less likely than right ones"
    return None


def _solve(rows: Rows) -> float:
    """Return the temperature of least log loss, by bisection: the loss is convex in 1 / T."""
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _slope(rows, middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)


def _slope(rows: Rows, beta: float) -> float:
    """Return the derivative of the log loss, times N, by beta = 1 / T: sum of E[log p] - log p."""
    logs = rows.logs - rows.logs.max(axis=1, keepdims=True)
    if math.isinf(beta):
        expected = np.zeros(len(rows))
    else:
        weights = np.exp(beta * logs)
        expected = (weights * logs).sum(axis=1) / weights.sum(axis=1)
    return float((expected - logs[np.arange(len(rows)), rows.right]).sum())


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
