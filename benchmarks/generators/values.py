"""Draw the values that texts carry: names, addresses, numbers, dates and the like."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from paw_mlx.benchmarks.generators.bank import lines, word, words


def digits(rng: Random, count: int) -> str:
    """Draw a run of digits that does not start with 0."""
    return str(rng.randint(10 ** (count - 1), 10**count - 1))


def person(rng: Random) -> str:
    """Draw a first and a last name."""
    return f"{word(rng, 'first')} {word(rng, 'last')}"


def email(rng: Random) -> str:
    """Draw an e-mail address."""
    first, last = word(rng, "first").lower(), word(rng, "last").lower()
    forms = [f"{first}.{last}", f"{first[0]}{last}", f"{first}{digits(rng, 2)}", f"{last}_{first}"]
    name = rng.choice([*forms, "info", "office", "no-reply", f"{first}+news"])
    return f"{name}@{word(rng, 'domain')}"


def phone(rng: Random) -> str:
    """Draw a phone number in one of several ways to write it."""
    a, b, c = digits(rng, 3), digits(rng, 3), digits(rng, 4)
    forms = [f"+44 20 {c} {digits(rng, 4)}", f"({a}) {b}-{c}", f"{a}-{b}-{c}"]
    return rng.choice([*forms, f"0{a} {b}{c}", f"+49 {a} {b}{c}", f"+1 {a} {b} {c}"])


def url(rng: Random) -> str:
    """Draw a web address."""
    host = rng.choice(["", "www.", "shop.", "docs."]) + word(rng, "domain")
    path = "/".join(rng.sample(words("path"), rng.randint(0, 2)))
    query = rng.choice(["", "", f"?id={digits(rng, 3)}", "?ref=mail&lang=en"])
    return f"{rng.choice(['https', 'https', 'http'])}://{host}/{path}{query}"


def price(rng: Random) -> str:
    """Draw a price with its currency."""
    amount = f"{rng.randint(1, 900)}{rng.choice(['', '.50', '.99', '.00', '.25'])}"
    return rng.choice([f"${amount}", f"€{amount}", f"£{amount}", f"{amount} EUR", f"{amount} USD"])


def day(rng: Random) -> date:
    """Draw a calendar day."""
    return date(1985, 1, 1) + timedelta(days=rng.randint(0, 17000))


def month(value: date) -> str:
    """Return the English name of a day's month."""
    return words("month")[value.month - 1]


def long_day(value: date) -> str:
    """Write a day as 3 March 2024."""
    return f"{value.day} {month(value)} {value.year}"


def american_day(value: date) -> str:
    """Write a day as March 3, 2024."""
    return f"{month(value)} {value.day}, {value.year}"


def written_day(rng: Random) -> str:
    """Draw a day, written in one of several ways."""
    value = day(rng)
    forms = [value.isoformat(), long_day(value), american_day(value)]
    return rng.choice([*forms, f"{value.day:02}.{value.month:02}.{value.year}"])


def clock(rng: Random) -> str:
    """Draw a time of day with its minutes."""
    hour, minute = rng.randint(1, 12), rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 55])
    half = rng.choice([" am", " pm", "am", "pm"])
    return rng.choice([f"{rng.randint(0, 23):02}:{minute:02}", f"{hour}:{minute:02}{half}"])


def hashtag(rng: Random) -> str:
    """Draw a hashtag."""
    return "#" + word(rng, "tag").replace(" ", "")


def mention(rng: Random) -> str:
    """Draw an @name."""
    first = word(rng, "first").lower()
    return "@" + rng.choice([first, f"{first}_{digits(rng, 2)}", f"the{first}", f"{first}.k"])


def file_name(rng: Random) -> str:
    """Draw a file name."""
    return f"{word(rng, 'stem').replace(' ', '_')}.{word(rng, 'extension')}"


def quantity(rng: Random) -> str:
    """Draw a number and a unit."""
    return f"{rng.choice([rng.randint(2, 60), 1.5, 2.5, 0.75, 250])} {word(rng, 'unit')}"


def address(rng: Random) -> str:
    """Draw an IPv4 address."""
    return ".".join(str(rng.randint(1, 254)) for _ in range(4))


def percent(rng: Random) -> str:
    """Draw a percentage."""
    return f"{rng.choice([rng.randint(1, 99), round(rng.uniform(0.5, 20), 1)])}%"


def coined(rng: Random) -> str:
    """Draw an invented word."""
    return "".join(rng.sample(words("syllable"), rng.choice([2, 2, 3])))


def headline(rng: Random, low: int = 2, high: int = 6) -> str:
    """Draw a small-letter phrase of low to high words."""
    known = [text for text in lines("phrases", "phrases") if low <= len(text.split()) <= high]
    if known and rng.random() < 0.6:
        return rng.choice(known)
    return goods(rng, rng.randint(low, high))


def goods(rng: Random, count: int) -> str:
    """Name things in that many words."""
    if count <= 2:
        return " ".join([word(rng, "adjective"), word(rng, "thing")][2 - count :])
    if count == 3:
        return f"{word(rng, 'thing')} and {word(rng, 'thing')}"
    return f"{goods(rng, count - 3)} and {word(rng, 'adjective')} {word(rng, 'thing')}"


def sentence(rng: Random) -> str:
    """Draw a plain sentence without its full stop."""
    if rng.random() < 0.5:
        return rng.choice(lines("phrases", "sentences"))
    who = f"{rng.choice(['The', 'That', 'My', 'Our'])} {word(rng, 'nature')} {word(rng, 'agent')}"
    what = f"the {rng.choice(['', word(rng, 'adjective') + ' '])}{word(rng, 'thing')}"
    tail = rng.choice(["", f" {word(rng, 'adverb')}", f" near the {word(rng, 'place')}"])
    return f"{who} {word(rng, 'verb')} {what}{tail}"
