"""A toy corpus, and compilers that are trained on it in a second, on tiny bases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import tiny

from paw_mlx.cases import Case
from paw_mlx.compiler.base_encoder import SpecReader, encode_spec
from paw_mlx.corpus import FuzzyFunction
from paw_mlx.interpreter.models.load import Base, load_base
from paw_mlx.training.compiler import LOG, CompilerStep, CompilerTraining
from paw_mlx.training.mapper import Arrays, MapperTrainer
from paw_mlx.training.recipe import CompilerRecipe
from paw_mlx.training.sampling import Sampler

WORDS = ["disk", "server", "picnic", "spring", "Friday", "down", "full", "welcome"]
TOY = CompilerRecipe(
    rank=2,
    alpha=4.0,
    trunk=8,
    steps=12,
    functions_per_batch=2,
    batch=4,
    learning_rate=2e-2,
    max_tokens=160,
    check_every=4,
)
ENCODER = {"prefix_tokens": 3, "train_encoder": "lora"}  # all that can be trained of an encoder


def function(word: str, kind: str = "has", yes: str = "1", no: str = "0") -> FuzzyFunction:
    """Whether a text has a word; three cases in four have it not."""
    specs = (f"{yes} if {word} is there, else {no}", f"Is {word} there? {yes} or {no}")
    inputs = [f"{a} {b}" for a in WORDS for b in WORDS[:4] if a != b]
    cases = tuple(Case(text, yes if word in text.split() else no) for text in inputs)
    return FuzzyFunction(f"{kind}/{word}", kind, "classify", specs, cases, (yes, no))


FUNCTIONS = [function(word) for word in WORDS[:4]]
HELD_OUT = [function("Friday", "names")]


def write_base(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """Write a tiny base whose window has room for a prompt and an answer."""
    tiny.write_base(folder, family, seed)
    (folder / "config.json").write_text(tiny.changed(family, max_position_embeddings=1024))
    return folder


def write_corpus(path: Path, functions: Iterable[FuzzyFunction]) -> Path:
    """Write functions as JSONL."""
    rows = [
        {
            "function": each.name,
            "kind": each.kind,
            "labels": each.labels,
            "specs": each.specs,
            "cases": [{"input": case.input, "output": case.output} for case in each.cases],
        }
        for each in functions
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_training(
    base: Path,
    folder: Path,
    recipe: CompilerRecipe = TOY,
    functions: Sequence[FuzzyFunction] = FUNCTIONS,
    held_out: Sequence[FuzzyFunction] = HELD_OUT,
    **more: Any,
) -> CompilerTraining:
    """A training in a folder, on a base that is loaded anew."""
    loaded = load_base(base, trainable=True)
    reader = SpecReader(loaded, loaded.profile.num_layers)
    return CompilerTraining(loaded, reader, functions, held_out, recipe, folder, **more)


def train(base: Path, folder: Path, recipe: CompilerRecipe = TOY) -> CompilerTraining:
    """Train to the end."""
    training = make_training(base, folder, recipe)
    training.run(lambda step: None)
    return training


def stop_at(number: int) -> Callable[[CompilerStep], None]:
    """A report that interrupts a run, as Ctrl-C would."""

    def report(step: CompilerStep) -> None:
        if step.number == number:
            raise KeyboardInterrupt

    return report


def read_log(folder: Path) -> list[dict[str, Any]]:
    """What a run says of its steps, without what depends on the machine's mood."""
    lines = (folder / LOG).read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in ("seconds", "peak_bytes")}
        for line in lines
    ]


def stirred(arrays: Arrays, seed: int = 0) -> Arrays:
    """Arrays that are nowhere zero, so that a gradient reaches every one of them."""
    keys = mx.random.split(mx.random.key(seed), len(arrays))
    return {
        name: array + 0.1 * mx.random.normal(array.shape, key=key)
        for key, (name, array) in zip(keys, sorted(arrays.items()), strict=True)
    }


def sampler(base: Base, functions: Sequence[FuzzyFunction] = FUNCTIONS, **changes: Any) -> Sampler:
    """A sampler as the toy recipe makes it."""
    recipe = replace(TOY, **changes)
    return Sampler(
        base,
        functions,
        functions_per_batch=recipe.functions_per_batch,
        cases_per_function=recipe.batch // recipe.functions_per_batch,
        max_tokens=recipe.max_tokens,
        seed=recipe.seed,
    )


def pooled(trainer: MapperTrainer, specs: Iterable[str]) -> mx.array:
    """What a frozen encoder says of specs, (S, H)."""
    tokenizer = trainer.reader.base.tokenizer
    return mx.stack([trainer.read({}, encode_spec(tokenizer, spec)) for spec in specs])
