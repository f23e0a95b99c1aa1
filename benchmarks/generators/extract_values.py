"""Draw functions that pull a value of a known form out of a message."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import line, lines, phrases, word
from paw_mlx.benchmarks.generators.core import Case, Draft, family
from paw_mlx.benchmarks.generators.messages import message

Value = Callable[[Random], str]


def asking(rng: Random, kind: str, mode: str, absent: str, mark: str) -> list[str]:
    """Return the phrasings that ask for a kind of value."""
    thing, things, note = line(rng, "extract", kind).split(" | ")
    note = "" if note == "-" else note
    slots = {"thing": thing, "Thing": thing[0].upper() + thing[1:], "things": things}
    source = line(rng, "extract", "sources")
    return phrases("extract", mode, note=note, absent=absent, mark=mark, source=source, **slots)


def pulling(rng: Random, kind: str, value: Value) -> Draft:
    """Draw which of the values is asked for, what stands for none, and the cases."""
    mode = rng.choice(["first", "only", "only", "last", "all"])
    absent = rng.choice(lines("extract", "absent"))
    mark = rng.choice([", ", ", ", "; ", " | ", " / "])
    counts = {"only": [0, 1, 1, 1], "all": [0, 1, 2, 2, 3]}.get(mode, [0, 1, 2, 2, 3])

    def case() -> Case:
        wanted = rng.choice(counts)
        found = list(dict.fromkeys(value(rng) for _ in range(wanted)))
        text = message(rng, kind, found)
        if not found:
            return text, absent
        outputs = {"all": mark.join(found), "last": found[-1]}
        return text, outputs.get(mode, found[0])

    return Draft(asking(rng, kind, mode, absent, mark), case)


SIMPLE: dict[str, Value] = {
    "email": values.email,
    "phone": values.phone,
    "url": values.url,
    "price": values.price,
    "date": values.written_day,
    "time": values.clock,
    "hashtag": values.hashtag,
    "file": values.file_name,
    "quantity": values.quantity,
    "mention": values.mention,
    "ip": values.address,
    "percent": values.percent,
    "quoted": lambda rng: values.headline(rng, 1, 4),
    "city": lambda rng: word(rng, "city"),
    "colour": lambda rng: word(rng, "colour"),
    "weekday": lambda rng: word(rng, "weekday"),
}


def _register(kind: str, value: Value) -> None:
    """Register the family that pulls one kind of value."""
    family("extract", f"extract-{kind}")(lambda rng: pulling(rng, kind, value))


for _kind, _value in SIMPLE.items():
    _register(_kind, _value)
