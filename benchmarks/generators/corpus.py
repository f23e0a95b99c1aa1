"""Draw a corpus: as many functions as wanted, from all generators."""

from __future__ import annotations

import json
from random import Random

from paw_mlx.benchmarks.generators.core import draw_function
from paw_mlx.benchmarks.generators.families import REGISTRY, kind_of

# Of two classes there are generators enough; of several, each is drawn twice as often.
TWICE = {"classify", "rank", "route"}


def draw_corpus(seed: int, count: int) -> list[dict[str, object]]:
    """Draw functions, going round the generators in a new order each time."""
    rng = Random(seed)
    once = REGISTRY + [source for source in REGISTRY if source.family in TWICE]
    drawn: list[dict[str, object]] = []
    numbers: dict[str, int] = {}
    while len(drawn) < count:
        for source in rng.sample(once, len(once)):
            number = numbers.get(source.name, 0) + 1
            name = f"generated/{source.name}-{number}"
            found = draw_function(rng, source, name, kind_of(source.name))
            if found is not None and len(drawn) < count:
                numbers[source.name] = number
                drawn.append(found)
    return drawn


def to_text(rows: list[dict[str, object]]) -> str:
    """Write functions as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
