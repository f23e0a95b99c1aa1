"""Draw a fuzzy function: a family's draft becomes its specs and cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from paw_mlx.benchmarks.generators import specs

Case = tuple[str, str]
INPUT_LIMIT, OUTPUT_LIMIT, SPEC_LIMIT = 400, 160, 900
TRIES = 400


@dataclass(frozen=True)
class Draft:
    """Hold one drawn function: phrasings of its spec, and how to draw a case.

    `case` draws an input and its output. A function with labels gives them, and its `case` goes
    round them by itself, so that they come out balanced. `exact` says that the phrasings quote
    words which no spec may shorten.
    """

    phrases: list[str]
    case: Callable[[], Case]
    labels: list[str] | None = None
    exact: bool = False


Maker = Callable[[Random], Draft]


@dataclass(frozen=True)
class Family:
    """Name a generator, and the family of functions that the corpus files its functions under."""

    name: str
    family: str
    make: Maker


REGISTRY: list[Family] = []


def family(group: str, name: str) -> Callable[[Maker], Maker]:
    """Register a generator under the family of its functions and a name of its own."""

    def register(make: Maker) -> Maker:
        REGISTRY.append(Family(name, group, make))
        return make

    return register


def alike(text: str) -> str:
    """Reduce a text to its letters in order, to find those that differ in looks or slips alone."""
    return "".join(sorted(sign for sign in text.casefold() if sign.isalnum())) or text


def draw_cases(draft: Draft, count: int, seen: set[str]) -> list[Case]:
    """Draw distinct cases that keep the limits; give fewer if the draft runs dry.

    A function with labels gets no two inputs that differ only in capitals and signs, and of no
    label more than its share.
    """
    cases: list[Case] = []
    share = count if draft.labels is None else -(-count // len(draft.labels))
    for _ in range(TRIES):
        if len(cases) == count:
            break
        given, wanted = draft.case()
        fits = 0 < len(given) <= INPUT_LIMIT and 0 < len(wanted) <= OUTPUT_LIMIT
        key = given if draft.labels is None else alike(given)
        if sum(label == wanted for _, label in cases) == share and draft.labels:
            continue
        if fits and key not in seen:
            seen.add(key)
            cases.append((given, wanted))
    return cases


def is_sound(draft: Draft, cases: list[Case], count: int) -> bool:
    """Check that there are enough cases, outputs differ, and labels come equally often."""
    outputs = [wanted for _, wanted in cases]
    if draft.labels is None:
        return len(cases) >= 10 and len(set(outputs)) > 2
    return len(cases) == count and len({outputs.count(label) for label in draft.labels}) == 1


def settles(text: str, labels: list[str] | None) -> bool:
    """Check that a spec keeps the limit and names each label."""
    return len(text) <= SPEC_LIMIT and all(label in text for label in labels or [])


def draw_function(rng: Random, source: Family, name: str, kind: str) -> dict[str, object] | None:
    """Draw one function in the corpus's form; None where the draw came out unsound."""
    draft = source.make(rng)
    seen: set[str] = set()
    shown = draw_cases(draft, specs.pair_count(rng, draft.labels), seen)
    count = rng.randint(10, 12)
    if draft.labels is not None:
        count = max(10, 12 // len(draft.labels) * len(draft.labels))
    cases = draw_cases(draft, count, seen)
    if not is_sound(draft, cases, count):
        return None
    rng.shuffle(cases)
    texts = specs.write(rng, draft.phrases, draft.labels, shown, draft.exact)
    leaked = any(len(given) > 12 and given in text for given, _ in cases for text in texts)
    if leaked or not all(settles(text, draft.labels) for text in texts):
        return None
    return {
        "function": name,
        "kind": kind,
        "family": source.family,
        "labels": draft.labels,
        "specs": texts,
        "cases": [{"input": given, "output": wanted} for given, wanted in cases],
    }
