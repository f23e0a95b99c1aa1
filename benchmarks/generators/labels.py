"""Draw label names, and say in words which is which."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from random import Random

from paw_mlx.benchmarks.generators.bank import fill, line, lines
from paw_mlx.benchmarks.generators.core import Case, Draft
from paw_mlx.benchmarks.generators.values import coined

Source = Callable[[], str]


def names(rng: Random, meanings: list[str]) -> list[str]:
    """Draw one label for each meaning: its own name, a code, or an invented word."""
    count = len(meanings)
    kind = rng.choice(["own", "own", "own", "letters", "numbers", "coined", "upper", "odd"])
    if kind == "own":
        return list(meanings)
    if kind == "upper":
        return [meaning.upper().replace(" ", "_") for meaning in meanings]
    if kind == "coined":
        return distinct(rng, count)
    pools = {"letters": "ABCDEFG", "numbers": "123456789"}
    pool = list(pools.get(kind, "")) or rng.choice(lines("labels", "odd")).split(", ")
    return rng.sample(pool[:count] if kind in pools else pool, count)


def distinct(rng: Random, count: int) -> list[str]:
    """Draw invented words that all differ."""
    found: list[str] = []
    while len(found) < count:
        name = coined(rng)
        if name not in found:
            found.append(name)
    return found


def pair(rng: Random) -> tuple[str, str]:
    """Draw two label names for a yes and a no, either way round now and then."""
    if rng.random() < 0.15:
        first, second = distinct(rng, 2)
        return first, second
    first, second = line(rng, "labels", "pairs").split(", ")
    return (first, second) if rng.random() < 0.6 else (second, first)


def round_robin(rng: Random, labels: list[str], sources: list[Source]) -> Callable[[], Case]:
    """Give cases label by label, so that each label comes as often as the others."""
    turn = cycle(rng.sample(range(len(labels)), len(labels)))

    def case() -> Case:
        at = next(turn)
        return sources[at](), labels[at]

    return case


def two_way(rng: Random, yes: str, no: str, sources: tuple[Source, Source]) -> Draft:
    """Draw a two-class function from a clause that holds for the one class.

    `yes` and `no` are clauses without their capital ("the text is about cooking").
    """
    a, b = pair(rng)
    slots = {"a": a, "b": b, "yes": yes, "no": no, "Yes": yes[0].upper() + yes[1:]}
    order = rng.sample(["a", "b"], 2)
    labels = [slots[at] for at in order]
    given = [sources[0] if at == "a" else sources[1] for at in order]
    texts = [fill(text, **slots) for text in lines("labels", "two-way")]
    return Draft(texts, round_robin(rng, labels, given), labels)


def many_way(
    rng: Random, ask: str, classes: dict[str, tuple[str, Source]], keep: bool = False
) -> Draft:
    """Draw a function of several classes: each has a name, a description and a source.

    `ask` is the section of data/asks.txt with the ways to put the question. `keep` makes the
    classes' own names the labels.
    """
    meanings = list(classes)
    labels = meanings if keep else names(rng, meanings)
    texts = [describe(rng, question, labels, classes) for question in lines("asks", ask)]
    sources = [source for _, source in classes.values()]
    return Draft(texts, round_robin(rng, labels, sources), labels)


def describe(
    rng: Random, question: str, labels: list[str], classes: dict[str, tuple[str, Source]]
) -> str:
    """Write a question and what each label stands for, in one of several layouts."""
    meant = [text for text, _ in classes.values()]
    pairs = list(zip(labels, meant, strict=True))
    rng.shuffle(pairs)
    form, mark = rng.choice(
        [
            ("{0} = {1}", "; "),
            ("{0}: {1}", "; "),
            ("{0} means {1}", ", "),
            ("{0} ({1})", ", "),
            ("Use {0} for {1}", ". "),
            ("{1} -> {0}", "; "),
            ("\n- {0}: {1}", ""),
        ]
    )
    return f"{question} {mark.join(form.format(*p) for p in pairs)}".replace(" \n", "\n") + (
        "\n" if not mark else "."
    )
