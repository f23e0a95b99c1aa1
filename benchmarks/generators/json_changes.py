"""Draw functions that change JSON objects, and that turn them into text or arrays."""

from __future__ import annotations

from random import Random

from paw_mlx.benchmarks.generators.bank import phrases, word, words
from paw_mlx.benchmarks.generators.core import Case, Draft, family
from paw_mlx.benchmarks.generators.json_objects import (
    MARKS,
    Object,
    objects,
    plain,
    record,
    tight,
    value,
    written,
)


@family("json", "json-filter")
def filter_keys(rng: Random) -> Draft:
    """Draw a function that keeps a few keys."""
    kept = rng.sample(words("key"), rng.randint(2, 3))

    def case() -> Case:
        pairs = {**record(rng, 1, 3), **{key: value(rng, key) for key in kept}}
        for key in rng.sample(kept, rng.choice([0, 0, 1])):
            del pairs[key]
        drawn = dict(rng.sample([*pairs.items()], len(pairs)))
        return written(rng, drawn), tight({key: drawn[key] for key in drawn if key in kept})

    listed = f"{', '.join(kept[:-1])} and {kept[-1]}"
    return Draft(phrases("json", "filter", list=listed), case)


@family("json", "json-drop")
def drop_key(rng: Random) -> Draft:
    """Draw a function that removes a key."""
    key = word(rng, "key")

    def change(drawn: Object) -> str:
        return tight({name: drawn[name] for name in drawn if name != key})

    return objects(rng, "drop", change, key, key=key)


@family("json", "json-rename")
def rename(rng: Random) -> Draft:
    """Draw a function that renames a key."""
    old = word(rng, "key")
    new = rng.choice([f"{old}_new", f"user_{old}", old.upper(), f"{old}Value", f"x-{old}"])

    def change(drawn: Object) -> str:
        return tight({new if name == old else name: thing for name, thing in drawn.items()})

    return objects(rng, "rename", change, old, old=old, new=new)


@family("json", "json-set")
def set_key(rng: Random) -> Draft:
    """Draw a function that sets a key."""
    key = word(rng, "key")
    new = rng.choice([value(rng, key), None, "unknown", 0])

    def change(drawn: Object) -> str:
        return tight({**drawn, key: new})

    return objects(rng, "set", change, key, key=key, value=tight(new))


@family("json", "json-pretty")
def pretty(rng: Random) -> Draft:
    """Draw a function that writes an object as lines."""
    sep = rng.choice([" = ", ": ", "=", " -> ", " - "])

    def change(drawn: Object) -> str:
        return "\n".join(f"{key}{sep}{plain(thing)}" for key, thing in drawn.items())

    return objects(rng, "pretty", change, sep=sep)


@family("json", "json-flatten")
def flatten(rng: Random) -> Draft:
    """Draw a function that flattens an object."""
    sep = rng.choice([".", "_", "/", "-", "__"])

    def case() -> Case:
        outer = rng.choice(["user", "order", "address", "meta", "item"])
        inner, rest = record(rng, 1, 2), record(rng, 1, 2)
        flat = {f"{outer}{sep}{key}": thing for key, thing in inner.items()}
        if rng.random() < 0.5:
            return written(rng, {outer: inner, **rest}), tight({**flat, **rest})
        return written(rng, {**rest, outer: inner}), tight({**rest, **flat})

    return Draft(phrases("json", "flatten", sep=sep), case)


@family("json", "json-pluck")
def pluck(rng: Random) -> Draft:
    """Draw a function that takes one key of each object of an array."""
    key, mark = word(rng, "key"), rng.choice(MARKS[:3])

    def case() -> Case:
        other = word(rng, "key")
        kinds = [other, key] if other != key else [key]
        drawn = [{name: value(rng, name) for name in kinds} for _ in range(rng.randint(1, 4))]
        return written(rng, drawn), mark.join(plain(each[key]) for each in drawn)

    return Draft(phrases("json", "pluck", key=key, mark=mark), case)
