"""Write a function's specs: terse, chatty, with inline pairs, and as a hasty colleague types."""

from __future__ import annotations

import re
from random import Random

from paw_mlx.benchmarks.generators.bank import fill, line, lines


def pair_count(rng: Random, labels: list[str] | None) -> int:
    """Draw how many inline pairs the spec with examples has; every label once if that is few."""
    if labels is None:
        return rng.randint(2, 4)
    return min(len(labels) * rng.choice([1, 1, 2]), 5)


def closing(rng: Random, labels: list[str] | None) -> str:
    """Say that only the answer is wanted, and name the labels where there are some."""
    if labels is None:
        return line(rng, "specs", "closing")
    order = rng.sample(labels, len(labels))
    both = f"{', '.join(order[:-1])} or {order[-1]}"
    return line(rng, "specs", "label-closing", labels=", ".join(order), either=both)


def terse(rng: Random, phrase: str, labels: list[str] | None) -> str:
    """Write the phrasing, and what to return."""
    return f"{phrase} {closing(rng, labels)}".replace("\n ", "\n").strip()


def chatty(rng: Random, phrase: str, labels: list[str] | None) -> str:
    """Write the phrasing between the reason for it and what happens with the answer."""
    lead, tail = line(rng, "specs", "lead"), line(rng, "specs", "tail")
    end = tail if labels is None and rng.random() < 0.5 else closing(rng, labels)
    return f"{lead} {phrase} {end}".replace("\n ", "\n")


def with_pairs(
    rng: Random, phrase: str, labels: list[str] | None, pairs: list[tuple[str, str]]
) -> str:
    """Write the phrasing and worked examples below it."""
    text = terse(rng, phrase, labels)
    shown = list(pairs)
    rng.shuffle(shown)
    for given, wanted in shown:
        longer = f"{text}\nInput: {given}\nOutput: {wanted}"
        if len(longer) < 880:
            text = longer
    return text


def hasty(rng: Random, phrase: str, labels: list[str] | None, exact: bool) -> str:
    """Write the phrasing in a hurry: short forms and small letters, names and labels kept.

    `exact` leaves out the short forms, for phrasings that quote such words.
    """
    text = terse(rng, phrase, labels)
    for entry in lines("specs", "short-forms"):
        long, short = entry.split(" = ")
        if not exact and long not in (labels or []) and rng.random() < 0.6:
            text = re.sub(rf"\b{long}\b", short, text)
    parts = [part for part in re.split(r"(?<=[.!?] )", text) if part]
    kept = [part if exact or _starts_with_label(part, labels) else _small(part) for part in parts]
    return fill(rng.choice(lines("specs", "hasty")), text="".join(kept))


def _small(text: str) -> str:
    """Make a sentence start with a small letter, unless it starts with a name in capitals."""
    return text[0].lower() + text[1:] if re.match(r"[A-Z][a-z]+ ", text) else text


def _starts_with_label(text: str, labels: list[str] | None) -> bool:
    """Tell whether a sentence begins with a label, whose letters must stay as they are."""
    return any(text.startswith(label) for label in labels or [])


def write(
    rng: Random,
    phrases: list[str],
    labels: list[str] | None,
    pairs: list[tuple[str, str]],
    exact: bool,
) -> list[str]:
    """Write three or four specs from as many phrasings."""
    drawn = rng.sample(phrases, 4)
    texts = [
        terse(rng, drawn[0], labels),
        chatty(rng, drawn[1], labels),
        with_pairs(rng, drawn[2], labels, pairs),
    ]
    if rng.random() < 0.5:
        texts.append(hasty(rng, drawn[3], labels, exact))
    return texts
