"""Draw functions that pull parts out of mails, log lines and orders."""

from __future__ import annotations

import re
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import fill, lines, phrases, word, words
from paw_mlx.benchmarks.generators.core import Case, Draft, family
from paw_mlx.benchmarks.generators.extract_values import pulling
from paw_mlx.benchmarks.generators.judgements import filled
from paw_mlx.benchmarks.generators.messages import noisy

ABSENT = ["NONE", "none", "nobody", "n/a", "null", "0", "?"]


@family("extract", "extract-order")
def order(rng: Random) -> Draft:
    """Draw a function that pulls an order number of a form that the spec shows."""
    letters = "".join(rng.sample("ABCDEFGHKLMNPRSTWXZ", rng.choice([1, 2, 3])))
    mark, size = rng.choice(["-", "-", "", "/", "#"]), rng.choice([4, 5, 6])
    start = rng.choice([letters, "#", "No. "]) if mark == "-" else letters
    mark = mark if start == letters else ""

    def draw(rng: Random) -> str:
        return f"{start}{mark}{values.digits(rng, size)}"

    drawn = pulling(rng, "order", draw)
    shown = [fill(text, shape=draw(rng)) for text in drawn.phrases]
    return Draft(shown, drawn.case)


@family("extract", "extract-person")
def person(rng: Random) -> Draft:
    """Draw a function that pulls the name after "from"."""
    return pulling(rng, "person", lambda rng: word(rng, "first"))


@family("extract", "mail-header")
def mail_header(rng: Random) -> Draft:
    """Draw a function that reads a line of a mail's head."""
    field, absent = rng.choice(["from", "to", "subject", "date", "cc"]), rng.choice(ABSENT)

    def case() -> Case:
        head = {
            "from": rng.choice([values.email(rng), values.person(rng)]),
            "to": values.email(rng),
            "cc": values.email(rng),
            "date": values.written_day(rng),
            "subject": values.headline(rng, 2, 5).capitalize(),
        }
        kept = [key for key in head if key == field or rng.random() < 0.7]
        if rng.random() < 0.2 and len(kept) > 1:
            kept.remove(field)
        text = "\n".join(f"{key.capitalize()}: {head[key]}" for key in kept)
        body = noisy(rng, rng.choice(lines("messages", "filler")))
        return f"{text}\n\n{body}", head[field] if field in kept else absent

    slots = {"field": field, "Field": field.capitalize(), "absent": absent}
    return Draft(phrases("extract", "header", **slots), case)


@family("extract", "log-part")
def log_part(rng: Random) -> Draft:
    """Draw a function that reads a part of a log line."""
    part = rng.choice(["level", "service", "time", "date"])
    forms = {
        "{date} {time} {level} [{service}] {text}": "service (the name in square brackets)",
        "[{level}] {date}T{time} {service}: {text}": "service (the name before the last colon)",
    }
    form = rng.choice(list(forms))
    levels = {"error": ["ERROR", "ERR"], "warning": ["WARNING", "WARN"], "info": ["INFO"]}

    def case() -> Case:
        level = rng.choice(list(levels))
        text = filled(rng, f"log-{level}").replace(": ", " ")
        shown = {
            "level": rng.choice(levels[level]),
            "service": word(rng, "service"),
            "time": f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}",
            "date": values.day(rng).isoformat(),
        }
        return form.format(text=text, **shown), shown[part]

    asked = forms[form] if part == "service" else part
    return Draft(phrases("extract", "log-part", part=asked), case)


def signed_mail(rng: Random, greeted: str, signed: str) -> str:
    """Write a short mail with a greeting and a signature, each of them maybe without a name."""
    start = rng.choice(["Hi", "Dear", "Hello", "hey", "Good morning"])
    opening = f"{start} {greeted}," if greeted else rng.choice([f"{start},", f"{start} all,", ""])
    body = " ".join(rng.sample(lines("messages", "filler"), rng.choice([1, 1, 2])))
    ending = rng.choice(["Best,", "Thanks", "Kind regards", "Cheers,"])
    parts = [opening, body, ending, signed]
    return rng.choice(["\n", "\n", " "]).join(text for text in parts if text)


@family("extract", "greeted-name")
def greeted_name(rng: Random) -> Draft:
    """Draw a function that reads whom a mail greets."""
    absent = rng.choice(ABSENT)

    def case() -> Case:
        name = rng.choice([word(rng, "first"), word(rng, "first"), values.person(rng), ""])
        return signed_mail(rng, name, word(rng, "first")), name or absent

    return Draft(phrases("extract", "greeted", absent=absent), case)


@family("extract", "signed-name")
def signed_name(rng: Random) -> Draft:
    """Draw a function that reads who signed a mail."""
    absent = rng.choice(ABSENT)

    def case() -> Case:
        name = rng.choice([word(rng, "first"), values.person(rng), ""])
        return signed_mail(rng, rng.choice(["", word(rng, "first")]), name), name or absent

    return Draft(phrases("extract", "signed", absent=absent), case)


@family("extract", "amount-of")
def amount_of(rng: Random) -> Draft:
    """Draw a function that reads how many of one thing a text counts."""
    kinds, absent = rng.sample(words("fruit"), 6), rng.choice(ABSENT[:5])
    wanted = kinds[0]
    frames = ["we need $x for the party", "Bought $x.", "$x left in the box", "please order $x"]

    def draw(rng: Random) -> str:
        some = rng.sample(kinds[1:], rng.randint(1, 2)) + ([wanted] if rng.random() < 0.75 else [])
        rng.shuffle(some)
        counts = [f"{rng.randint(2, 40)} {kind}" for kind in some]
        listed = rng.choice([", ", " and ", " + "]).join(counts)
        return fill(rng.choice(frames), x=listed)

    def change(text: str) -> str:
        found = re.search(rf"(\d+) {wanted}", text)
        return found[1] if found else absent

    def case() -> Case:
        text = draw(rng)
        return text, change(text)

    return Draft(phrases("extract", "amount-of", things=wanted, absent=absent), case)
