"""What goes wrong with labels, and with examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations

from ..errors import listed
from ..spec_output import labels_in_spec
from .finding import Finding, quote, return_only
from .read import Spec

_MIN_SHARED = 5  # letters with which two labels begin
_BOUND = re.compile(r"\bonly one of\b", re.IGNORECASE)  # something else there unbinds it
_UNSURE = re.compile(
    r"\b(?:if|when|where) (?:"
    r"(?:(?:you|it|this|that|the answer)(?:['’]s| are| is)? )?"
    r"(?:unsure|unclear|not (?:sure|clear|certain)|uncertain|in doubt|impossible to (?:say|tell))|"
    r"(?:none|neither)(?: of (?:these|those|them|the labels))? (?:fits?|apply|applies|match(?:es)?)"
    r")\b[^.\n;]*",
    re.IGNORECASE,
)
_SETTLED = re.compile(r"(?i)\b(?:pick|choose|take|prefer|closest|nearest|best|decide|likel\w+)\b")
_NO_IDEA = re.compile(
    r"(?i)unsure|unknown|unclear|uncertain|other|none|neither|null|n/?a|mixed|else|skip|maybe|"
    r"neutral|misc\w*|general"
)


def check_unbound(spec: Spec) -> Iterator[Finding]:
    """Find labels that are named, where nothing says that an output is one of them."""
    if not spec.named or _BOUND.search(spec.task):
        return
    said = return_only(spec.named)
    found = labels_in_spec(f"{spec.task}\n{said}")
    if found and found.labels == spec.named:
        where = ", above the examples" if spec.pairs else ""
        yield Finding(
            "labels-open",
            f"{listed(spec.named, 12)} look like labels, and nothing binds the output to them",
            f"End the task{where}: {said}",
        )


def check_alike(spec: Spec) -> Iterator[Finding]:
    """Find labels that a small model, or who compares outputs, takes for one another."""
    for a, b in combinations(spec.labels or spec.named, 2):
        if found := _likeness(*sorted((a, b), key=len)):
            yield Finding("labels-alike", f"the labels {a} and {b} {found[0]}", found[1])
            return  # one pair shows it


def check_unsure(spec: Spec) -> Iterator[Finding]:
    """Find a case that no label is for: the spec speaks of it, and names none there."""
    labels = spec.labels or spec.named
    if not labels or any(map(_NO_IDEA.fullmatch, labels)):
        return
    for match in _UNSURE.finditer(spec.task):
        if _SETTLED.search(match[0]):
            continue
        told = {word.casefold() for word in re.findall(r"[\w-]+", match[0])}
        if not any(label.casefold() in told for label in labels):
            other = "UNSURE" if labels[0].isupper() else "unsure"
            yield Finding(
                "no-unsure-label",
                f"{quote(match[0])} gets no label",
                f"Give it one: {return_only((*labels, other))}",
            )
            return


def check_contradiction(spec: Spec) -> Iterator[Finding]:
    """Find two examples of one input with two outputs."""
    known: dict[str, str] = {}
    for text, output in spec.pairs:
        before = known.setdefault(text, output)
        if before != output:
            yield Finding(
                "examples-contradict",
                f"the example {quote(text)} has two outputs: {quote(before, 30)} and "
                f"{quote(output, 30)}",
                "Keep the one that is right",
            )
            return


def check_outside(spec: Spec) -> Iterator[Finding]:
    """Find examples whose output is none of the labels."""
    wrong = {said: None for said in spec.first_lines if said not in spec.labels}
    if spec.labels and wrong:
        outputs = [quote(output, 30) for output in wrong]
        yield Finding(
            "example-not-a-label",
            f"examples have the output {listed(outputs, 3)}, which is none of "
            f"{listed(spec.labels, 12)}",
            _mend(list(wrong), spec.labels),
        )


def _likeness(short: str, long: str) -> tuple[str, str] | None:
    """Say how two labels are alike, and what to call them instead; None if they are not."""
    a, b = short.casefold(), long.casefold()
    if a == b:
        return "differ by capitals alone", "Give one of them another name"
    if re.fullmatch(rf"(?:not|no|non)[ _-]{re.escape(a)}", b):
        names = "YES and NO" if short.isupper() else "yes and no"
        return "stand one in the other", f"Call them {names}, or give the second a word of its own"
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if shared >= _MIN_SHARED and shared >= 0.5 * len(a):
        rests = [label[shared:].lstrip(" _-/") for label in (short, long)]
        told = "Let them differ from the first letter on"
        if (
            all(len(rest) > 1 for rest in rests)
            and rests[0][0].casefold() != rests[1][0].casefold()
        ):
            told += f": {rests[0]} and {rests[1]}"
        return "begin alike", told
    return None


def _mend(wrong: list[str], labels: tuple[str, ...]) -> str:
    """Say what to do about outputs that are no labels."""
    folded = {label.casefold(): label for label in labels}
    meant = [folded.get(output.casefold().strip(" .")) for output in wrong]
    if all(meant):
        return f"Write them as the labels are: {listed([str(label) for label in meant])}"
    return f"Correct them, or name them, too: {return_only((*labels, *(o for o in wrong if o)))}"
