"""Draw functions that judge a text: its mood, urgency, tone, language, severity, intent."""

from __future__ import annotations

from random import Random

from paw_mlx.benchmarks.generators.bank import fill, lines, word
from paw_mlx.benchmarks.generators.core import Draft, family
from paw_mlx.benchmarks.generators.labels import Source, many_way, two_way
from paw_mlx.benchmarks.generators.messages import dealt, join, noisy

SLOTS = ["thing", "noun", "adjective", "fruit", "city", "weekday", "first", "last", "service"]


def slotted(rng: Random, text: str) -> str:
    """Fill the slots of a sentence."""
    slots = {kind: word(rng, kind) for kind in SLOTS}
    return fill(text, n=str(rng.randint(13, 990)), **slots)


def filled(rng: Random, section: str) -> str:
    """Draw a sentence of a section with its slots filled."""
    return slotted(rng, rng.choice(lines("sentences", section)))


def source(rng: Random, *sections: str, noise: bool = True) -> Source:
    """Return a source of sentences of some sections, one or now and then two at a time."""
    decks = [dealt(rng, lines("sentences", section)) for section in sections]

    def draw() -> str:
        deal = rng.choice(decks)
        text = slotted(rng, deal())
        if noise and rng.random() < 0.15:
            text = join(rng, [text, slotted(rng, deal())])
        return noisy(rng, text) if noise else text

    return draw


TWO_WAY: dict[str, tuple[list[str], list[str], list[tuple[str, str]]]] = {
    "sentiment-pair": (
        ["positive"],
        ["negative"],
        [
            ("the customer is happy", "the customer is unhappy"),
            ("the review is positive", "the review is negative"),
            ("the writer liked it", "the writer did not like it"),
            ("the text is praise", "the text is a complaint"),
        ],
    ),
    "opinion-or-fact": (
        ["positive", "negative"],
        ["neutral"],
        [
            ("the text praises or complains", "the text only states facts"),
            ("the writer gives an opinion", "the writer gives no opinion, just facts"),
            ("there is any judgement in it, good or bad", "it is purely factual"),
        ],
    ),
    "complaint": (
        ["negative"],
        ["positive", "neutral"],
        [
            ("the text is a complaint", "the text is praise or a plain statement"),
            ("the customer is unhappy", "the customer is happy or just states facts"),
        ],
    ),
    "urgency": (
        ["urgent"],
        ["calm"],
        [
            ("the message needs action at once", "the message can wait"),
            ("it is urgent", "it is not urgent"),
            ("somebody must react right now", "nobody needs to hurry"),
            ("this is an emergency or has to be done within hours", "there is plenty of time"),
        ],
    ),
    "spam": (
        ["spam"],
        ["ham"],
        [
            ("the message is spam or a scam", "the message is an ordinary one"),
            ("it is junk", "it is a genuine message from a person or firm we know"),
            ("the mail is advertising or fraud", "the mail is normal private or work mail"),
        ],
    ),
    "formality": (
        ["formal"],
        ["informal"],
        [
            ("the text is formal", "the text is casual"),
            ("it is written in official language", "it is written as friends chat"),
            ("the tone is stiff and polite", "the tone is relaxed, with slang or short forms"),
        ],
    ),
    "english-or-not": (
        ["english"],
        ["german", "french", "spanish", "italian", "dutch", "polish", "swedish"],
        [
            ("the sentence is in English", "the sentence is in another language"),
            ("it is written in English", "it is written in a language other than English"),
        ],
    ),
    "log-trouble": (
        ["log-error"],
        ["log-info"],
        [
            ("the log line reports a failure", "the log line reports normal operation"),
            ("something broke", "all is well"),
            ("the line is about an error", "the line is routine"),
        ],
    ),
}


def _register_two_way(kind: str) -> None:
    """Register one two-class judgement."""
    yes, no, clauses = TWO_WAY[kind]

    def make(rng: Random) -> Draft:
        pair, sources = rng.choice(clauses), [source(rng, *yes), source(rng, *no)]
        if rng.random() < 0.4:
            return two_way(rng, pair[1], pair[0], (sources[1], sources[0]))
        return two_way(rng, pair[0], pair[1], (sources[0], sources[1]))

    family("yesno", kind)(make)


for _kind in TWO_WAY:
    _register_two_way(_kind)


@family("classify", "sentiment")
def sentiment(rng: Random) -> Draft:
    """Draw a function that tells praise, complaint and plain fact apart."""
    named = rng.choice([("positive", "negative", "neutral"), ("good", "bad", "none")])
    meant = ["praise, a happy customer", "a complaint, an unhappy customer", "facts, no opinion"]
    given = zip(named, meant, ("positive", "negative", "neutral"), strict=True)
    return many_way(rng, "sentiment", {n: (m, source(rng, s)) for n, m, s in given})


def _language(rng: Random, count: int) -> Draft:
    """Draw a function that tells languages apart, by name or by code."""
    codes = ["english en", "german de", "french fr", "spanish es", "italian it"]
    codes += ["dutch nl", "polish pl", "swedish sv"]
    short = rng.random() < 0.5
    classes = {}
    for entry in rng.sample(codes, count):
        name, code = entry.split()
        classes[code if short else name] = (name.capitalize(), source(rng, name, noise=False))
    return many_way(rng, "language", classes)


@family("classify", "language-few")
def language_few(rng: Random) -> Draft:
    """Draw a function that tells two or three languages apart."""
    return _language(rng, rng.randint(2, 3))


@family("classify", "language-many")
def language_many(rng: Random) -> Draft:
    """Draw a function that tells four to six languages apart."""
    return _language(rng, rng.randint(4, 5))


@family("rank", "log-severity")
def log_severity(rng: Random) -> Draft:
    """Draw a function that grades log lines."""
    names = rng.choice([("error", "warning", "info"), ("3", "2", "1"), ("bad", "watch", "fine")])
    meant = [
        "something that failed or stopped",
        "a sign of coming trouble, though all still works",
        "normal operation",
    ]
    given = zip(names, meant, ("log-error", "log-warning", "log-info"), strict=True)
    return many_way(rng, "log", {n: (m, source(rng, s, noise=False)) for n, m, s in given})


INTENTS = {
    "weather": "asking about the weather",
    "alarm": "setting or cancelling a wake-up alarm",
    "music": "hearing or controlling music",
    "lights": "changing the lamps",
    "message": "sending a message to somebody",
    "navigation": "finding the way or the distance to a place",
    "shopping": "buying something or the shopping list",
    "timer": "setting, stopping or checking a countdown",
}
TOOLS = {
    "calculator": "arithmetic",
    "calendar": "appointments and free time",
    "weather": "forecasts and temperatures",
    "search": "facts and news from the web",
    "email": "reading, writing and sending mail",
    "files": "files and folders on the computer",
    "camera": "taking pictures and recording video",
    "home": "doors, heating, blinds and household machines",
}


@family("route", "assistant-intent")
def assistant_intent(rng: Random) -> Draft:
    """Draw a function that finds the intent of a request to a voice assistant."""
    picked = rng.sample(list(INTENTS), rng.randint(3, 5))
    classes = {name: (INTENTS[name], source(rng, f"intent-{name}")) for name in picked}
    return many_way(rng, "intent", classes)


@family("yesno", "intent-yes-no")
def intent_yes_no(rng: Random) -> Draft:
    """Draw a function that tells one intent from the others."""
    one = rng.choice(list(INTENTS))
    rest = [f"intent-{name}" for name in INTENTS if name != one]
    sources = (source(rng, f"intent-{one}"), source(rng, *rest))
    return two_way(
        rng, f"the request is about {INTENTS[one]}", "the user wants something else", sources
    )


@family("route", "tool-choice")
def tool_choice(rng: Random) -> Draft:
    """Draw a function that picks a tool for a request."""
    picked = rng.sample(list(TOOLS), rng.randint(3, 5))
    suffix = rng.choice(["", "", "_tool", "()"])
    classes = {n + suffix: (TOOLS[n], source(rng, f"tool-{n}", noise=False)) for n in picked}
    return many_way(rng, "tool", classes, keep=rng.random() < 0.6)


def same_pairs(rng: Random) -> tuple[Source, Source]:
    """Return sources of pairs of sentences that mean the same, and that do not."""
    groups = [entry.split(" || ") for entry in lines("paraphrases", "groups")]
    mark = rng.choice([" || ", "\n", " <> ", " / "])

    def drawn(part: int) -> str:
        alike, unlike = (text.split(" | ") for text in rng.choice(groups))
        first = rng.choice(alike)
        second = rng.choice([text for text in (alike, unlike)[part] if text != first])
        return mark.join(rng.sample([first, second], 2))

    return (lambda: drawn(0)), (lambda: drawn(1))


@family("yesno", "same-meaning")
def same_meaning(rng: Random) -> Draft:
    """Draw a function that tells whether two sentences mean the same."""
    yes, no = rng.choice(
        [
            ("the two sentences mean the same", "the two sentences do not mean the same"),
            ("both sentences say the same thing", "the sentences say different things"),
            ("one sentence is a paraphrase of the other", "their meanings differ"),
        ]
    )
    return two_way(rng, yes, no, same_pairs(rng))


@family("classify", "register")
def register(rng: Random) -> Draft:
    """Draw a function that tells the tone of a text."""
    classes = {
        "formal": ("official, stiff language", source(rng, "formal")),
        "casual": ("the way friends chat, with slang", source(rng, "informal")),
        "advert": ("advertising or a scam", source(rng, "spam")),
    }
    return many_way(rng, "register", classes)
