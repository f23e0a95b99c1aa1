"""Draw functions that sort words and sentences into kinds, and that compare two values."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import fill, line, lines, word
from paw_mlx.benchmarks.generators.core import Draft, family
from paw_mlx.benchmarks.generators.labels import Source, many_way, two_way
from paw_mlx.benchmarks.generators.messages import noisy

LISTS: dict[str, tuple[str, list[str]]] = {}
for _entry in lines("categories", "categories"):
    _name, _what, _members = _entry.split(" | ")
    LISTS[_name] = (_what, _members.split(", "))


def member(rng: Random, names: list[str]) -> str:
    """Draw a word of one of the categories, bare or in a frame."""
    drawn = rng.choice(LISTS[rng.choice(names)][1])
    return line(rng, "categories", "frames", x=drawn, X=drawn.upper())


@family("yesno", "category-yes-no")
def category_yes_no(rng: Random) -> Draft:
    """Draw a function that tells one category from the others."""
    one = rng.choice([name for name in LISTS if name != "food"])
    rest = [name for name in LISTS if name != one and {name, one} != {"plant", "food"}]
    sources = (partial(member, rng, [one]), partial(member, rng, rest))
    what = LISTS[one][0]
    return two_way(rng, f"the word names {what}", f"the word does not name {what}", sources)


@family("classify", "category-of-several")
def category_of_several(rng: Random) -> Draft:
    """Draw a function that sorts words into three to five categories."""
    picked = rng.sample(list(LISTS), rng.randint(3, 5))
    classes: dict[str, tuple[str, Source]] = {}
    for name in picked:
        classes[name] = (LISTS[name][0], partial(member, rng, [name]))
    return many_way(rng, "category", classes)


def number_pair(rng: Random, form: str, first_wins: bool, lower: bool) -> str:
    """Write two different numbers, of which the first is the lower or the higher one."""
    small, big = sorted(rng.sample(range(2, rng.choice([30, 100, 900])), 2))
    pair = (small, big) if first_wins == lower else (big, small)
    return form.format(*pair, t=word(rng, "thing"))


@family("yesno", "compare-two")
def compare_two(rng: Random) -> Draft:
    """Draw a function that tells which of two numbers is lower or higher."""
    lower = rng.random() < 0.5
    forms = ["{} vs {}", "A: {} B: {}", "{t}: {} EUR / {} EUR", "offer one {}, offer two {}"]
    form, how = rng.choice(forms), "lower" if lower else "higher"
    pairs = (
        partial(number_pair, rng, form, True, lower),
        partial(number_pair, rng, form, False, lower),
    )
    yes, no = f"the first number is the {how} one", f"the second number is the {how} one"
    return two_way(rng, yes, no, pairs)


def due(rng: Random, late: bool) -> str:
    """Write a due day and today, with the due day past or not."""
    today = values.day(rng)
    gap = rng.choice([rng.randint(1, 9), rng.randint(10, 200)])
    deadline = today + timedelta(days=-gap if late else gap)
    forms = ["due: $d\ntoday: $t", "today is $t, deadline $d", "$w, due $d (today $t)"]
    return fill(rng.choice(forms), d=str(deadline), t=str(today), w=word(rng, "noun"))


@family("yesno", "overdue")
def overdue(rng: Random) -> Draft:
    """Draw a function that tells whether a due day has passed."""
    yes, no = rng.choice(
        [
            ("the due day lies before today", "the due day is still to come"),
            ("the deadline has passed", "there is still time until the deadline"),
        ]
    )
    return two_way(rng, yes, no, (partial(due, rng, True), partial(due, rng, False)))


def remark(rng: Random, negated: bool) -> str:
    """Draw a sentence with a negation or without."""
    thing, name, city = word(rng, "thing"), word(rng, "first"), word(rng, "city")
    plain = [f"{name} likes the {thing}", f"We found a {thing} in {city}", f"The {thing} is ready"]
    plain += [f"I have been to {city}", f"{name} answered at once", f"Everybody saw the {thing}"]
    turned = [f"{name} doesn't like the {thing}", f"We found no {thing} in {city}"]
    turned += [f"The {thing} is not ready", f"I have never been to {city}"]
    turned += [f"{name} didn't answer", f"Nobody saw the {thing}"]
    return noisy(rng, rng.choice(turned if negated else plain) + ".")


@family("yesno", "negation")
def negation(rng: Random) -> Draft:
    """Draw a function that tells whether a sentence is negated."""
    yes, no = "the sentence has a negation (not, n't, no, never, nobody)", "it has no negation"
    return two_way(rng, yes, no, (partial(remark, rng, True), partial(remark, rng, False)))


def told_by(rng: Random, who: str) -> str:
    """Draw a sentence in the first, second or third person."""
    verb = rng.choice(["left", "bought", "lost", "painted", "borrowed", "forgot", "found"])
    rest = f"{verb} the {word(rng, 'adjective')} {word(rng, 'thing')}"
    tail = rng.choice(["", " yesterday", f" in {word(rng, 'city')}", " again"])
    third = ["He", "She", "They", word(rng, "first"), f"The {word(rng, 'agent')}"]
    subject = {"first": ["I", "We"], "second": ["You"], "third": third}[who]
    return noisy(rng, f"{rng.choice(subject)} {rest}{tail}.")


@family("classify", "person-of-verb")
def person_of_verb(rng: Random) -> Draft:
    """Draw a function that tells the grammatical person."""
    meant = {"first": "I or we", "second": "you", "third": "anybody else"}
    classes: dict[str, tuple[str, Source]] = {}
    for who, text in meant.items():
        classes[who] = (text, partial(told_by, rng, who))
    return many_way(rng, "person", classes)
