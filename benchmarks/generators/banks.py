"""Draw functions that judge whole sentences: what they are for, whom they address, how bad it is.

A bank of data/banks.txt has classes, each with its meaning and its own sentences. Of one bank come
three generators: several of its classes, one class against the rest, and one against another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from paw_mlx.benchmarks.generators.bank import fill, lines
from paw_mlx.benchmarks.generators.core import Draft, Maker, family
from paw_mlx.benchmarks.generators.labels import Source, many_way, two_way
from paw_mlx.benchmarks.generators.messages import dealt, join, noisy

# The bank: the prefix of its sections, the family of its ranking or choice, the asks.
BANKS = {
    "speech-act": ("act", "classify", "act"),
    "emotion": ("emotion", "classify", "emotion"),
    "complaint-cause": ("cause", "classify", "cause"),
    "order-stage": ("order", "classify", "order"),
    "text-type": ("type", "classify", "type"),
    "news-section": ("section", "classify", "section"),
    "app-feedback": ("feedback", "classify", "feedback"),
    "meeting-action": ("meeting", "classify", "meeting"),
    "reply": ("reply", "classify", "reply"),
    "sarcasm": ("praise", "yesno", "praise"),
    "safety": ("risk", "yesno", "risk"),
    "ticket-routing": ("trade", "route", "trade"),
    "bank-desk": ("desk", "route", "desk-of-bank"),
    "audience": ("to", "classify", "to"),
    "moderation": ("comment", "classify", "comment"),
    "condition": ("state", "rank", "state"),
    "fondness": ("fond", "rank", "fond"),
    "difficulty": ("level", "rank", "level"),
    "travel-help": ("trip", "route", "trip"),
}


def meanings(bank: str) -> dict[str, str]:
    """Return a bank's classes and what they mean."""
    found = {}
    for entry in lines("banks", bank):
        name, meant = entry.split(" | ")
        found[name] = meant
    return found


def clauses(bank: str, name: str) -> tuple[str, str]:
    """Return the clause that holds for a class of a bank, and the one that holds for all others."""
    for entry in lines("banks", "frames"):
        about, yes, no = entry.split(" | ")
        if about == bank:
            meant = meanings(bank)[name]
            return fill(yes, m=meant), fill(no, m=meant)
    raise LookupError(f"data/banks.txt has no frames for {bank}")


def source(rng: Random, bank: str, names: list[str]) -> Source:
    """Return a source of sentences of some classes, one or now and then two at a time."""
    decks = [dealt(rng, lines("banks", f"{BANKS[bank][0]}-{name}")) for name in names]

    def draw() -> str:
        deal = rng.choice(decks)
        return noisy(rng, join(rng, [deal(), deal()]) if rng.random() < 0.1 else deal())

    return draw


def several(bank: str, rng: Random) -> Draft:
    """Draw a function that tells three or more classes apart: all of them if they rank."""
    known = meanings(bank)
    _, group, ask = BANKS[bank]
    count = len(known) if group == "rank" else rng.randint(min(3, len(known)), len(known))
    picked = list(known) if count == len(known) else rng.sample(list(known), count)
    classes = {name: (known[name], source(rng, bank, [name])) for name in picked}
    return many_way(rng, ask, classes)


def one_of(bank: str, rng: Random) -> Draft:
    """Draw a function that tells one class from all others."""
    known = meanings(bank)
    one = rng.choice(list(known))
    rest = [name for name in known if name != one]
    sources = (source(rng, bank, [one]), source(rng, bank, rest))
    return two_way(rng, *clauses(bank, one), sources)


def one_or_other(bank: str, rng: Random) -> Draft:
    """Draw a function that tells two classes apart: of grades, the first and the last."""
    known = list(meanings(bank))
    names = rng.sample([known[0], known[-1]] if BANKS[bank][1] == "rank" else known, 2)
    yes, no = (clauses(bank, name)[0] for name in names)
    sources = (source(rng, bank, names[:1]), source(rng, bank, names[1:]))
    return two_way(rng, yes, no, sources)


def _register(bank: str) -> None:
    """Register a bank's generators: only where classes are many, and no grades, one by itself."""
    made: list[tuple[str, str, Callable[[str, Random], Draft]]] = [
        (BANKS[bank][1], bank, several),
        ("yesno", f"{bank}-pair", one_or_other),
    ]
    if len(meanings(bank)) > 2 and BANKS[bank][1] != "rank":
        made.append(("yesno", f"{bank}-yes-no", one_of))
    for group, name, make in made:
        maker: Maker = partial(make, bank)
        family(group, name)(maker)


for _bank in BANKS:
    _register(_bank)
