"""Draw transforms of lists: sorting, joining, counting, dropping repeats."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import phrases, word, words
from paw_mlx.benchmarks.generators.core import Case, Draft, family

MARKS = {", ": "commas", "; ": "semicolons", " | ": "bars", " ": "blanks", " / ": "slashes"}
KINDS = ["fruit", "city", "thing", "noun", "first", "colour", "adjective"]


def items(rng: Random, low: int = 3, high: int = 6, repeats: bool = False) -> list[str]:
    """Draw the items of a list, all of one kind."""
    found = rng.sample(words(rng.choice(KINDS)), rng.randint(low, high))
    if repeats:
        found = [*found[:4], *rng.choices(found[:4], k=rng.randint(1, 3))]
        rng.shuffle(found)
    return found


def numbers(rng: Random) -> list[str]:
    """Draw some different numbers."""
    top = rng.choice([20, 100, 1000])
    return [str(value) for value in rng.sample(range(1, top), rng.randint(3, 6))]


def listing(
    rng: Random,
    section: str,
    draw: Callable[[], list[str]],
    change: Callable[[list[str]], list[str]],
) -> Draft:
    """Draw a function from a list to a list, with a mark between items that the spec states."""
    given = rng.choice(list(MARKS))
    wanted = rng.choice([given, rng.choice(list(MARKS))])
    say = f', with "{wanted}" between items'

    def case() -> Case:
        drawn = draw()
        return given.join(drawn), wanted.join(change(drawn))

    return Draft(phrases("transform", section, mark=say), case)


@family("transform", "sort-numbers")
def sort_numbers(rng: Random) -> Draft:
    """Draw a function that sorts numbers."""
    down = rng.random() < 0.5
    section = "sort-numbers-down" if down else "sort-numbers"
    return listing(
        rng, section, lambda: numbers(rng), lambda all_: sorted(all_, key=int, reverse=down)
    )


@family("transform", "dedupe")
def dedupe(rng: Random) -> Draft:
    """Draw a function that drops repeated items."""
    return listing(
        rng, "dedupe", lambda: items(rng, 3, 5, True), lambda all_: list(dict.fromkeys(all_))
    )


def rejoining(
    rng: Random, section: str, given: str, change: Callable[[list[str]], str], **slots: str
) -> Draft:
    """Draw a function from a list, written with a mark, to a text."""

    def case() -> Case:
        drawn = items(rng, 2, 6)
        return given.join(drawn), change(drawn)

    return Draft(phrases("transform", section, **slots), case, exact=section == "and-list")


@family("transform", "join-lines")
def join_lines(rng: Random) -> Draft:
    """Draw a function that joins lines."""
    glue = rng.choice([", ", "; ", " | ", " + ", " > ", " & "])
    return rejoining(rng, "join", "\n", glue.join, glue=glue)


@family("transform", "split-lines")
def split_lines(rng: Random) -> Draft:
    """Draw a function that puts items on lines."""
    glue = rng.choice([", ", "; ", " | ", " / "])
    return rejoining(rng, "split", glue, "\n".join, glue=glue)


@family("transform", "change-separator")
def change_separator(rng: Random) -> Draft:
    """Draw a function that changes the mark between items."""
    old, new = rng.sample([", ", "; ", " | ", " / ", " + ", " - ", " & "], 2)
    return rejoining(rng, "separator", old, new.join, old=old, new=new)


@family("transform", "and-list")
def and_list(rng: Random) -> Draft:
    """Draw a function that writes a list in English."""
    given = rng.choice([", ", "; ", "\n", " / ", " | "])

    def change(all_: list[str]) -> str:
        return f"{', '.join(all_[:-1])} and {all_[-1]}"

    return rejoining(rng, "and-list", given, change)


@family("transform", "count-items")
def count_items(rng: Random) -> Draft:
    """Draw a function that counts items."""
    glue = rng.choice([", ", "; ", " | ", " / "])

    def case() -> Case:
        kind = rng.choice(KINDS)
        drawn = [word(rng, kind) for _ in range(rng.randint(2, 9))]
        return glue.join(drawn), str(len(drawn))

    return Draft(phrases("transform", "count-items", glue=glue), case)


@family("transform", "largest-number")
def largest_number(rng: Random) -> Draft:
    """Draw a function that finds the largest or the smallest number."""
    top = rng.random() < 0.5
    glue = rng.choice([" ", ", ", " / "])
    which = "largest" if top else "smallest"

    def case() -> Case:
        drawn = numbers(rng)
        picked = (max if top else min)(drawn, key=int)
        text = glue.join(drawn)
        return (text, picked) if rng.random() < 0.7 else (f"{values.coined(rng)}: {text}", picked)

    return Draft(phrases("transform", "extreme", which=which), case)


@family("transform", "number-lines")
def number_lines(rng: Random) -> Draft:
    """Draw a function that numbers lines."""

    def change(all_: list[str]) -> str:
        return "\n".join(f"{at}. {item}" for at, item in enumerate(all_, 1))

    return rejoining(rng, "number-lines", "\n", change)
