"""How a program is trained: the numbers that a user may choose."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import OptionError

_TOKENS, _MOST_STEPS = 120_000, 240


@dataclass(frozen=True)
class Recipe:
    """How to train. `held_out` is the share of the cases that is never trained on.

    `steps` None means as many as 120,000 tokens make, 240 at most: about as long on any cases.
    """

    rank: int = 32
    alpha: float = 16.0
    steps: int | None = None
    learning_rate: float = 1e-3
    batch_size: int = 8
    shots: int = 4  # cases shown in the pseudo-program
    held_out: float = 0.1
    checks: int = 10  # how often the held-out cases are judged, to keep the best state
    patience: int = 4  # checks without a better one, after half of the steps: then it ends
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise OptionError(f"seed must lie in 0 … 2^64 - 1, not {self.seed}")
        steps = 1 if self.steps is None else self.steps
        sizes = (self.rank, steps, self.batch_size, self.checks, self.patience)
        if min(sizes) < 1:
            raise OptionError("rank, steps, batch_size, checks and patience must be at least 1")
        if not (self.alpha > 0 and self.learning_rate > 0 and 0 < self.held_out < 1):
            raise OptionError("alpha and learning_rate must be above 0, held_out between 0 and 1")

    @property
    def scale(self) -> float:
        """What BA is multiplied by."""
        return self.alpha / self.rank

    def planned(self, tokens_a_step: int) -> Recipe:
        """Return the recipe with its number of steps, which so many tokens each allow."""
        if self.steps is not None:
            return self
        return replace(self, steps=max(1, min(_MOST_STEPS, _TOKENS // tokens_a_step)))


@dataclass(frozen=True)
class CompilerRecipe:
    """How to train a compiler. `bases` None means one for each of the interpreter's layers.

    `fixed` trains one adapter for every spec: the mapper's bases under coefficients that are their
    bias. `train_encoder` is `none` or `lora`; prefix tokens are trained wherever there are any.
    """

    rank: int = 16
    alpha: float = 16.0
    bases: int | None = None
    trunk: int = 128  # what the mapper makes of the encoder's state
    prefix_tokens: int = 0
    train_encoder: str = "none"
    fixed: bool = False
    steps: int = 360
    functions_per_batch: int = 4
    batch: int = 12  # cases a step
    learning_rate: float = 1.5e-3
    max_tokens: int = 512  # of a function and its cases
    check_every: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise OptionError(f"seed must lie in 0 … 2^64 - 1, not {self.seed}")
        sizes = (self.rank, self.trunk, self.steps, self.functions_per_batch, self.check_every)
        if min(*sizes, self.max_tokens, 1 if self.bases is None else self.bases) < 1:
            raise OptionError(
                "rank, bases, trunk, steps, functions per batch, max tokens and the steps between "
                "checks must be at least 1"
            )
        if self.batch % self.functions_per_batch or self.batch < 1:
            raise OptionError(
                f"a batch of {self.batch} cases is not the same number of each of "
                f"{self.functions_per_batch} functions"
            )
        if not (self.alpha > 0 and self.learning_rate > 0 and self.prefix_tokens >= 0):
            raise OptionError("alpha and learning_rate must be above 0, prefix_tokens at least 0")
        if self.train_encoder not in ("none", "lora"):
            raise OptionError(f"train_encoder must be none or lora, not {self.train_encoder!r}")
        if self.fixed and (self.prefix_tokens or self.train_encoder != "none"):
            raise OptionError("a fixed adapter reads no spec: there is no encoder to train")

    @property
    def scale(self) -> float:
        """What BA is multiplied by."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class Preset:
    """A recipe, the base it is for, and the one that reads specs (None: the same)."""

    recipe: CompilerRecipe
    interpreter: str
    encoder: str | None = None


PRESETS = {
    "embedded": Preset(CompilerRecipe(), "smollm2-135m"),
    # The same on a Mac: more functions a step, which a GPU has room for.
    "qwen3-0.6b": Preset(
        CompilerRecipe(steps=2000, functions_per_batch=8, batch=32, learning_rate=5e-4),
        "qwen3-0.6b",
    ),
    # arXiv 2607.02512: 10 million triples, three epochs; its encoder is trained whole.
    "paper": Preset(
        CompilerRecipe(
            rank=64,
            bases=64,
            trunk=2560,
            prefix_tokens=64,
            train_encoder="lora",
            steps=625_000,
            functions_per_batch=48,
            batch=48,
            learning_rate=2e-5,
            max_tokens=1024,
            check_every=1000,
        ),
        "qwen3-0.6b",
        "Qwen/Qwen3-4B-Instruct-2507",
    ),
}
