"""What a program's output may be: any text, one of some labels, JSON of a schema, a regex's match.

A program carries its output's type (`Program.output`), as `meta.json` does under `output`. Of
labels the interpreter gives log-probabilities, and what is chosen of them, and whether anything
is, is said here once.
"""

from __future__ import annotations

import json
import math
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, TypeGuard

from .errors import FormatError, OptionError, OutputError

Build = Callable[[Any], Any]
MAX_LABELS = 65_536
MAX_LABEL_CHARS = 1000
# What is kept of labels besides themselves, and what of it says nothing.
_LABELS_KEEP = {"temperature": 1.0, "threshold": None, "otherwise": None, "priors": None}


@dataclass(frozen=True)
class Output:
    """The type of an output; this one is any text.

    `build` makes the value of a Python type (an enum's member, a dataclass); no file has it.
    """

    kind: ClassVar[str] = "text"

    build: Build | None = field(default=None, compare=False, repr=False, kw_only=True)

    def parse(self, text: str) -> Any:
        """Return the value of an output's text; OutputError for one that has none."""
        return self.build(text) if self.build else text

    def record(self) -> dict[str, Any]:
        """Return what files keep of it."""
        return {"type": self.kind}


TEXT = Output()


class Probabilities(Mapping[str, float]):
    """The probability of each label, in the labels' order; `shares` has them as floats."""

    def __init__(self, labels: Labels, shares: Sequence[float]) -> None:
        self._labels, self.shares = labels, array("d", shares)

    def __getitem__(self, label: str) -> float:
        return self.shares[self._labels.places[label]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels.labels)

    def __len__(self) -> int:
        return len(self._labels.labels)

    def __repr__(self) -> str:
        return repr(dict(self))


@dataclass(frozen=True)
class Decision:
    """Which label an input gets, and how sure that is.

    `value` is the label, or its Python value; `otherwise` (or None) if it `abstained`, because
    its `probability` is below the threshold. `text` is the output's. `probabilities` are
    normalised over the labels. `in_scope` is the probability, 0 to 1, that the program says one
    of them if it may say anything: low for inputs that it was not made for.
    """

    value: Any
    label: str
    text: str
    probability: float
    probabilities: Mapping[str, float]
    in_scope: float
    abstained: bool

    @property
    def score(self) -> float:
        """Where in the order of the labels it is expected: 1 surely the first, 0 the last."""
        weighted = sum(place * share for place, share in enumerate(self.probabilities.values()))
        return 1 - weighted / (len(self.probabilities) - 1)

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        told = {"label": self.label, "probability": self.probability, "in_scope": self.in_scope}
        return told | {"abstained": self.abstained, "probabilities": dict(self.probabilities)}


@dataclass(frozen=True)
class Labels(Output):
    """One of these labels, in this order: a ranking takes the first for the best.

    `temperature` divides their log-probabilities (`paw-mlx calibrate` fits it, 1 changes
    nothing); a label whose probability is below `threshold` is not said, but `otherwise`.
    `priors` are their log-probabilities on inputs that say nothing, in nats: what a program says
    of anything is no evidence, and is subtracted first (contextual calibration, arXiv 2102.09690).
    OptionError for labels that are empty, alike, too long or too many.
    """

    kind: ClassVar[str] = "labels"

    labels: tuple[str, ...]
    temperature: float = 1.0
    threshold: float | None = None
    otherwise: str | None = None
    priors: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        object.__setattr__(self, "labels", tuple(self.labels))
        if not (_is_number(self.temperature) and 1e-6 <= self.temperature <= 1e6):
            raise OptionError(
                f"the labels' temperature is a number from 1e-6 to 1e6, not "
                f"{_shown(self.temperature)}"
            )
        check_threshold(self.threshold)
        check_otherwise(self.otherwise)
        if self.priors is not None:
            object.__setattr__(self, "priors", _checked_priors(self.priors, len(self.labels)))

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Where each label stands, from 0."""
        return {label: place for place, label in enumerate(self.labels)}

    def shares(self, log_probabilities: Sequence[float]) -> list[float]:
        """Return the labels' probabilities (N), as calibrated, of their log-probabilities (N)."""
        if self.priors:
            log_probabilities = [
                log_p - prior for log_p, prior in zip(log_probabilities, self.priors, strict=True)
            ]
        most = max(log_probabilities)
        weights = [math.exp((each - most) / self.temperature) for each in log_probabilities]
        total = sum(weights)
        if not math.isfinite(total):
            raise OutputError("the labels have no probabilities: the program's numbers overflowed")
        return [weight / total for weight in weights]

    def decide(
        self,
        log_probabilities: Sequence[float],
        *,
        threshold: float | None = None,
        otherwise: str | None = None,
        choice: int | None = None,
    ) -> Decision:
        """Decide by the log-probabilities (N) of the labels under the program, in nats.

        It is for the most likely one, or for `choice` if that was drawn. `threshold` and
        `otherwise` go before the labels' own.
        """
        shares = self.shares(log_probabilities)
        chosen = shares.index(max(shares)) if choice is None else choice
        label, probability = self.labels[chosen], shares[chosen]
        least = self.threshold if threshold is None else threshold
        abstained = least is not None and probability < least
        instead = self.otherwise if otherwise is None else otherwise
        said = instead if abstained else label
        return Decision(
            value=self.parse(said) if said is not None and said in self.places else said,
            label=label,
            text=said or "",
            probability=probability,
            probabilities=Probabilities(self, shares),
            in_scope=min(1.0, sum(map(math.exp, log_probabilities))),
            abstained=abstained,
        )

    def record(self) -> dict[str, Any]:
        """Return what files keep of it."""
        record: dict[str, Any] = {"type": self.kind, "labels": list(self.labels)}
        kept = {key: getattr(self, key) for key in _LABELS_KEEP}
        if self.priors:
            kept["priors"] = list(self.priors)
        return record | {key: kept[key] for key in kept if kept[key] != _LABELS_KEEP[key]}


@dataclass(frozen=True)
class Schema(Output):
    """JSON that a schema allows; `text` is the schema, as JSON."""

    kind: ClassVar[str] = "schema"

    text: str

    @classmethod
    def of(cls, schema: Mapping[str, Any], build: Build | None = None) -> Schema:
        """Take a schema; OptionError for one that is no JSON."""
        try:
            text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
            text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise OptionError(f"the schema is no JSON: {error}") from error
        return cls(text, build=build)

    def parse(self, text: str) -> Any:
        """Return the value that the JSON says; OutputError for JSON that has no end."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise OutputError(f"the output is no whole JSON ({error}): {text[:80]!r}") from error
        return self.build(value) if self.build else value

    def record(self) -> dict[str, Any]:
        """Return what files keep of it."""
        return {"type": self.kind, "schema": json.loads(self.text)}


@dataclass(frozen=True)
class Regex(Output):
    """Text that a regular expression matches as a whole."""

    kind: ClassVar[str] = "regex"

    pattern: str

    def record(self) -> dict[str, Any]:
        """Return what files keep of it."""
        return {"type": self.kind, "regex": self.pattern}


def read_record(record: object) -> Output:
    """Make an output's type of what a file keeps; FormatError for what is none."""
    if record is None:
        return TEXT
    if not isinstance(record, Mapping):
        raise FormatError(f"the output's type is {_shown(record)}, and no object")
    try:
        match record:
            case {"type": "text"}:
                return TEXT
            case {"type": "labels", "labels": [*labels]}:
                kept = {key: record[key] for key in _LABELS_KEEP if key in record}
                return Labels(tuple(labels), **kept)
            case {"type": "schema", "schema": dict(schema)}:
                return Schema.of(schema)
            case {"type": "regex", "regex": str(pattern)}:
                return Regex(pattern)
    except OptionError as error:
        raise FormatError(f"the output's type is wrong: {error}") from error
    kind = record.get("type")
    if kind in ("labels", "schema", "regex"):
        raise FormatError(f"the output's type is {kind}, and its {kind} {_shown(record.get(kind))}")
    raise FormatError(
        f"the output's type {_shown(kind)} is not known",
        hint="Known are text, labels, schema and regex.",
    )


def override(own: Output, other: Output) -> Output:
    """Return the type that takes the place of a program's own.

    Labels that are the program's, in any order, and bring no calibration, keep what it has.
    """
    if not (isinstance(own, Labels) and isinstance(other, Labels)):
        return other
    if {*own.labels} != {*other.labels} or other != Labels(other.labels):
        return other
    priors = own.priors and tuple(own.priors[own.places[label]] for label in other.labels)
    return replace(own, labels=other.labels, priors=priors, build=other.build or own.build)


def check_threshold(threshold: object) -> None:
    """Raise OptionError for a threshold that is no probability."""
    if threshold is not None and not (_is_number(threshold) and 0 <= threshold <= 1):
        raise OptionError(f"a threshold is a probability from 0 to 1, not {_shown(threshold)}")


def check_otherwise(otherwise: object) -> None:
    """Raise OptionError for what cannot be said in a label's place."""
    if not isinstance(otherwise, str | None):
        raise OptionError(f"what is said otherwise is text, not {_shown(otherwise)}")


def _check_labels(labels: object) -> None:
    if not isinstance(labels, Sequence) or isinstance(labels, str | bytes):
        raise OptionError(f"labels are a sequence of texts, and not {_shown(labels)}")
    if not 2 <= len(labels) <= MAX_LABELS:
        raise OptionError(f"labels are 2 to {MAX_LABELS:,}, and there are {len(labels):,}")
    seen: dict[str, str] = {}
    for number, label in enumerate(labels, 1):
        if not isinstance(label, str):
            raise OptionError(f"label {number} is {_shown(label)}, and no text")
        if not label.strip():
            raise OptionError(f"label {number} of {len(labels)} is empty")
        if len(label) > MAX_LABEL_CHARS:
            raise OptionError(
                f"label {number} has {len(label):,} characters (limit {MAX_LABEL_CHARS:,})"
            )
        if label != label.strip():
            raise OptionError(
                f"label {_shown(label)} begins or ends with a blank; outputs are stripped"
            )
        if any("\ud800" <= letter <= "\udfff" for letter in label):
            raise OptionError(f"label {_shown(label)} holds half of a character (a surrogate)")
        key = unicodedata.normalize("NFC", label)
        if key in seen:
            raise OptionError(f"the label {_shown(label)} is there twice")
        seen[key] = label


def _checked_priors(priors: object, num_labels: int) -> tuple[float, ...]:
    """Return priors as a tuple; OptionError unless they are log-probabilities, one for a label."""
    if not isinstance(priors, Sequence) or len(priors) != num_labels:
        raise OptionError(f"the {num_labels} labels' priors are one number for each")
    if odd := [each for each in priors if not (_is_number(each) and -1e4 <= each <= 0)]:
        raise OptionError(f"a prior is a log-probability from -1e4 to 0, not {_shown(odd[0])}")
    return tuple(map(float, priors))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """Return the `repr` of what may be anything, in 80 characters or so."""
    text = repr(value[:81] if isinstance(value, str | bytes) else value)
    return text if len(text) <= 82 else f"{text[:80]}…"
