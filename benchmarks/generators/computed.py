"""Draw judgements that code computes: numbers, times, words present, tense, relevance."""

from __future__ import annotations

from functools import partial
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import line, word, words
from paw_mlx.benchmarks.generators.core import Draft, family
from paw_mlx.benchmarks.generators.labels import Source, many_way, two_way
from paw_mlx.benchmarks.generators.messages import message, noisy

FORMS = {
    "past": ["carried", "painted", "opened", "sold", "watched", "repaired", "lost", "wrote about"],
    "present": [
        "carries",
        "paints",
        "opens",
        "sells",
        "watches",
        "repairs",
        "loses",
        "writes about",
    ],
    "future": ["will carry", "will paint", "is going to open", "will sell", "is going to watch"],
}


def tensed(rng: Random, tense: str) -> str:
    """Draw a sentence in a tense."""
    subject = rng.choice([word(rng, "first"), f"The {word(rng, 'agent')}", "My uncle", "She"])
    text = f"{subject} {rng.choice(FORMS[tense])} the {word(rng, 'adjective')} {word(rng, 'thing')}"
    tails = {"past": " yesterday", "present": " every day", "future": " soon"}
    place = f" in {word(rng, 'city')}"
    tail = rng.choice(["", "", tails[tense], place, f" for {word(rng, 'last')}"])
    return noisy(rng, text + tail + ".")


@family("classify", "tense")
def tense(rng: Random) -> Draft:
    """Draw a function that tells past, present and future."""
    classes: dict[str, tuple[str, Source]] = {
        "past": ("something that already happened", lambda: tensed(rng, "past")),
        "present": ("something that happens now or as a habit", lambda: tensed(rng, "present")),
        "future": ("something still to come", lambda: tensed(rng, "future")),
    }
    return many_way(rng, "tense", classes)


@family("yesno", "tense-yes-no")
def tense_yes_no(rng: Random) -> Draft:
    """Draw a function that tells one tense from the others."""
    one = rng.choice(list(FORMS))
    rest = [name for name in FORMS if name != one]
    sources = ((lambda: tensed(rng, one)), (lambda: tensed(rng, rng.choice(rest))))
    yes, no = f"the sentence is in the {one} tense", f"the sentence is not in the {one} tense"
    return two_way(rng, yes, no, sources)


def asked(rng: Random) -> str:
    """Draw a question, with its mark or without."""
    forms = ["where is the $a", "who took my $a", "can you fix this $a", "how much is that $a"]
    forms += ["why does the $a smell", "do you like my $a", "is the $a still for sale"]
    text = rng.choice(forms).replace("$a", word(rng, "thing"))
    return noisy(rng, text[0].upper() + text[1:] + rng.choice(["?", "?", "??", ""]))


def told(rng: Random) -> str:
    """Draw a statement."""
    return noisy(rng, rng.choice([values.sentence(rng) + ".", line(rng, "sentences", "ham")]))


@family("yesno", "question")
def question(rng: Random) -> Draft:
    """Draw a function that tells questions from statements."""

    def statement() -> str:
        while "?" in (text := told(rng)) or "$" in text:
            pass
        return text

    sources = ((lambda: asked(rng)), statement)
    yes, no = rng.choice(
        [
            ("the text asks something, even without a question mark", "the text is a statement"),
            ("it is a question (the mark may be missing)", "it is no question"),
        ]
    )
    return two_way(rng, yes, no, sources)


ENTRIES = [
    "Invoice {w}: {n} EUR",
    "{w} paid {n} euros",
    "{n} EUR for a {t}",
    "claim by {w}, {n} EUR",
]
ENTRIES += ["{t}\t{n} EUR", "total {n} EUR ({w})", "Refund of {n} EUR to {w} please"]


def amount_between(rng: Random, low: int, high: int) -> Source:
    """Return a source of entries whose amount lies in a range, its upper end left out."""

    def draw() -> str:
        number = rng.randrange(low, high)
        entry = rng.choice(ENTRIES)
        return entry.format(n=number, w=word(rng, "last"), t=word(rng, "thing"))

    return draw


@family("yesno", "amount-limit")
def amount_limit(rng: Random) -> Draft:
    """Draw a function that compares an amount with a limit."""
    limit = rng.choice([20, 50, 100, 150, 200, 500])
    sources = (amount_between(rng, limit, 5 * limit), amount_between(rng, 1, limit))
    yes, no = rng.choice(
        [
            (f"the amount is {limit} or more", f"the amount is under {limit}"),
            (f"it is at least {limit} EUR", f"it is less than {limit} EUR"),
        ]
    )
    return two_way(rng, yes, no, sources)


@family("rank", "amount-band")
def amount_band(rng: Random) -> Draft:
    """Draw a function that sorts amounts into three bands."""
    low, high = rng.choice([(10, 100), (50, 200), (100, 1000), (20, 60)])
    called = [("small", "medium", "large"), ("auto", "manager", "board"), ("low", "mid", "top")]
    names = rng.choice(called)
    classes = {
        names[0]: (f"below {low} EUR", amount_between(rng, 1, low)),
        names[1]: (f"from {low} to {high - 1} EUR", amount_between(rng, low, high)),
        names[2]: (f"{high} EUR and more", amount_between(rng, high, 5 * high)),
    }
    return many_way(rng, "bucket", classes)


@family("classify", "day-part")
def day_part(rng: Random) -> Draft:
    """Draw a function that sorts times into parts of the day."""

    def at(low: int, high: int) -> Source:
        def draw() -> str:
            clock = f"{rng.randrange(low, high):02}:{rng.randrange(60):02}"
            return message(rng, "time", [clock])

        return draw

    noon, evening = rng.choice([(12, 18), (11, 17), (13, 19)])
    names = rng.choice([("morning", "afternoon", "evening"), ("early", "middle", "late")])
    classes = {
        names[0]: (f"before {noon}:00", at(5, noon)),
        names[1]: (f"from {noon}:00 to {evening - 1}:59", at(noon, evening)),
        names[2]: (f"{evening}:00 or later", at(evening, 24)),
    }
    return many_way(rng, "daypart", classes)


def naming(rng: Random, kind: str, chosen: list[str]) -> Source:
    """Return a source of messages that name one of the chosen words."""
    return lambda: message(rng, kind, [rng.choice(chosen)])


@family("yesno", "named-in-list")
def named_in_list(rng: Random) -> Draft:
    """Draw a function that tells whether a text names one of a few words."""
    kind, what = rng.choice([("city", "city"), ("weekday", "day"), ("colour", "colour")])
    listed = rng.sample(words(kind), rng.randint(2, 3))
    rest = [name for name in words(kind) if name not in listed]
    either = f"{', '.join(listed[:-1])} or {listed[-1]}"
    yes, no = f"the text mentions {either}", f"the text mentions another {what}"
    return two_way(rng, yes, no, (naming(rng, kind, listed), naming(rng, kind, rest)))


@family("yesno", "weekend")
def weekend(rng: Random) -> Draft:
    """Draw a function that tells weekend days from working days."""
    days = words("weekday")
    sources = (naming(rng, "weekday", days[5:]), naming(rng, "weekday", days[:5]))
    return two_way(rng, "the day is at the weekend", "it is a day from Monday to Friday", sources)


@family("yesno", "carries-value")
def carries_value(rng: Random) -> Draft:
    """Draw a function that tells whether a message carries a value of some kind."""
    draws = {
        "email": ("an e-mail address", values.email),
        "phone": ("a phone number", values.phone),
        "price": ("an amount of money", values.price),
        "url": ("a web address", values.url),
        "file": ("a file name", values.file_name),
        "time": ("a clock time", values.clock),
        "percent": ("a percentage", values.percent),
    }
    kind = rng.choice(list(draws))
    what, draw = draws[kind]
    sources = (
        (lambda: message(rng, kind, [draw(rng)])),
        (lambda: message(rng, kind, [])),
    )
    no = f"the message contains no such thing as {what}"
    return two_way(rng, f"the message contains {what}", no, sources)


def product(rng: Random, thing: str, colour: str) -> str:
    """Draw a product's title."""
    extra = rng.choice(["", f" by {word(rng, 'company')}", " – new", " (set of 2)", ", small"])
    return f"{colour.capitalize()} {word(rng, 'adjective')} {thing}{extra}"


def query_pair(rng: Random, fit: str) -> str:
    """Draw a query and a title that fit fully, in part or not at all."""
    things, colours = rng.sample(words("thing"), 2), rng.sample(words("colour"), 2)
    query = rng.choice([f"{colours[0]} {things[0]}", f"{things[0]} in {colours[0]}"])
    thing = things[1] if fit == "none" else things[0]
    colour = colours[0] if fit == "full" else colours[1]
    if fit == "none" and rng.random() < 0.5:
        colour = colours[0]
    return f"query: {query}\ntitle: {product(rng, thing, colour)}"


@family("rank", "relevance")
def relevance(rng: Random) -> Draft:
    """Draw a function that grades a product for a query."""
    names = rng.choice([("2", "1", "0"), ("exact", "partial", "none"), ("high", "medium", "low")])
    meant = ["same kind of product in the colour asked for", "right product, wrong colour"]
    meant += ["a different kind of product, whatever its colour"]
    classes: dict[str, tuple[str, Source]] = {}
    for name, text, fit in zip(names, meant, ("full", "part", "none"), strict=True):
        classes[name] = (text, partial(query_pair, rng, fit))
    return many_way(rng, "relevance", classes, keep=rng.random() < 0.7)


@family("yesno", "text-length")
def text_length(rng: Random) -> Draft:
    """Draw a function that compares a text's words with a limit."""
    limit = rng.choice([4, 5, 6])
    noun = rng.choice(["text", "title", "name"])

    def draw(low: int, high: int) -> str:
        return values.headline(rng, low, high)

    sources = ((lambda: draw(limit + 1, limit + 5)), (lambda: draw(1, limit)))
    yes, no = f"the {noun} has more than {limit} words", f"the {noun} has {limit} words or fewer"
    return two_way(rng, yes, no, sources)
