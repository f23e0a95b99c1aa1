"""Draw functions that tell what a text is about."""

from __future__ import annotations

from random import Random

from paw_mlx.benchmarks.generators.bank import line, lines, word
from paw_mlx.benchmarks.generators.core import Draft, family
from paw_mlx.benchmarks.generators.labels import Source, many_way, two_way
from paw_mlx.benchmarks.generators.messages import dealt, join, noisy

NAMES: dict[str, str] = {}
for _entry in lines("topics", "names"):
    _name, _text = _entry.split(" | ")
    NAMES[_name] = _text


def source(rng: Random, topics: list[str]) -> Source:
    """Return a source of texts about the topics: one or two sentences, plain or with noise."""
    decks = [dealt(rng, lines("topics", topic)) for topic in topics]

    def draw() -> str:
        deal = rng.choice(decks)
        text = join(rng, [deal(), deal()]) if rng.random() < 0.15 else deal()
        if rng.random() < 0.3:
            text = line(rng, "topics", "openers", x=text)
        return noisy(rng, text)

    return draw


@family("yesno", "topic-yes-no")
def topic_or_not(rng: Random) -> Draft:
    """Draw a function that tells one topic from the others."""
    topic = rng.choice(list(NAMES))
    others = [name for name in NAMES if name != topic]
    what = rng.choice(["text", "message", "post", "sentence"])
    verb = rng.choice(["is about", "deals with", "talks about"])
    negative = {"is about": "is about something other than", "deals with": "does not deal with"}
    no = f"the {what} {negative.get(verb, 'does not talk about')} {NAMES[topic]}"
    return two_way(
        rng, f"the {what} {verb} {NAMES[topic]}", no, (source(rng, [topic]), source(rng, others))
    )


@family("yesno", "topic-of-two")
def topic_of_two(rng: Random) -> Draft:
    """Draw a function that tells two topics apart."""
    one, two = rng.sample(list(NAMES), 2)
    sources = (source(rng, [one]), source(rng, [two]))
    return two_way(rng, f"it is about {NAMES[one]}", f"it is about {NAMES[two]}", sources)


@family("yesno", "topic-either")
def topic_either(rng: Random) -> Draft:
    """Draw a function that tells two topics together from all others."""
    picked = rng.sample(list(NAMES), 2)
    others = [name for name in NAMES if name not in picked]
    both = " or ".join(NAMES[name] for name in picked)
    neither = both.replace(" or ", " nor ")
    yes, no = f"the text is about {both}", f"the text is about neither {neither}"
    return two_way(rng, yes, no, (source(rng, picked), source(rng, others)))


@family("classify", "topic-of-several")
def topic_of_several(rng: Random) -> Draft:
    """Draw a function that sorts texts into three to five topics."""
    picked = rng.sample(list(NAMES), rng.randint(3, 5))
    classes = {name: (NAMES[name], source(rng, [name])) for name in picked}
    return many_way(rng, "topic", classes)


@family("classify", "topic-or-other")
def topic_or_other(rng: Random) -> Draft:
    """Draw a function that sorts texts into two or three topics, or none of them."""
    picked = rng.sample(list(NAMES), rng.randint(2, 3))
    others = [name for name in NAMES if name not in picked]
    classes = {name: (NAMES[name], source(rng, [name])) for name in picked}
    classes[word(rng, "other")] = ("anything else", source(rng, others))
    return many_way(rng, "topic", classes)


@family("route", "topic-desk")
def topic_desk(rng: Random) -> Draft:
    """Draw a function that sends texts to the person who looks after the topic."""
    picked = rng.sample(list(NAMES), rng.randint(3, 4))
    people = rng.sample([word(rng, "first") for _ in range(40)], 10)
    names = list(dict.fromkeys(people))[: len(picked)]
    pairs = zip(names, picked, strict=True)
    classes = {who: (NAMES[topic], source(rng, [topic])) for who, topic in pairs}
    return many_way(rng, "desk", classes, keep=True)
