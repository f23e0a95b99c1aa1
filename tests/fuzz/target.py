"""What is fuzzed: a reader, its seeds, how they are changed, and what a file may end in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from paw_mlx.errors import PawError

from .mutate import Mutation, mutate_bytes

MAX_BYTES = 1 << 17  # of an input; seeds are smaller


@dataclass(frozen=True)
class Target:
    """A reader of bytes that nobody vouches for.

    `read` gets an input; a PawError is what it may raise, and an error of `also`. `rate` is about
    how many inputs a second it takes, by which a short run is shared out.
    """

    name: str
    seeds: Sequence[bytes]
    read: Callable[[bytes], object]
    mutate: Mutation = mutate_bytes
    also: tuple[type[Exception], ...] = field(default=())

    def make(self, number: int, seed: int) -> bytes:
        """Return the input of a number: the same for the same seed."""
        chance = Random(f"{self.name} {seed} {number}")
        return self.change(chance.choice(self.seeds), chance)

    def change(self, data: bytes, chance: Random) -> bytes:
        """Return bytes changed, once or a few times."""
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            data = self.mutate(data, chance)[:MAX_BYTES]
        return data

    def run(self, data: bytes) -> str:
        """Read an input; return how that ended: `ok`, or the name of an error that may be."""
        try:
            self.read(data)
        except PawError as error:
            check_sentence(error)
            return type(error).__name__
        except self.also as error:
            return type(error).__name__
        return "ok"


def check_sentence(error: PawError) -> None:
    """Assert that an error is one sentence, and has nothing in it that a terminal would obey."""
    message = str(error)
    assert message.isprintable(), f"a message of control characters: {message!r:.300}"
    assert len(message) < 4000, f"a long message: {len(message)} characters, {message[:100]!r}"
    for hint in error.hints:
        assert hint.replace("\n", "").isprintable(), f"a hint of control characters: {hint!r:.300}"
    error.record()
