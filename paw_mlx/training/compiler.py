"""Train a compiler: the steps, the checks, and a state on disk that a killed run goes on from.

In the folder that becomes the compiler:

    checkpoint.safetensors   arrays and optimizer after a step, in float32; gone at the end
    log.jsonl                a line for each step and each check
    training.json            the recipe, and what it was trained on

Everything a step does follows from the recipe and its number, so the same run ends in the same
bits however often it was interrupted, on one machine.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np

from ..compiler.base_encoder import SpecReader
from ..compiler.writer import write_pseudo_program
from ..corpus import FuzzyFunction
from ..errors import FormatError, OptionError
from ..files import replacing
from ..formats.checkpoint import CONVERTED, MAPPER, META, SPEC, TRAINED_ENCODER
from ..formats.untrusted import json_object, read_bytes
from ..interpreter.adapters import lora
from ..interpreter.adapters.parallel import Parallel
from ..interpreter.base.tensors import save_tensors
from ..interpreter.models.load import Base
from .encodings import Encodings
from .loop import check_finite
from .mapper import Arrays, MapperTrainer, is_mapper
from .memory import estimate_kept_bytes
from .optimizer import Optimizer, clip
from .recipe import CompilerRecipe
from .sampling import Drawn, Sampler, encode

CHECKPOINT, LOG, TRAINING = "checkpoint.safetensors", "log.jsonl", "training.json"
_FORMAT = {"format": "mlx"}
_READ_FIRST = 512  # specs, of which the trunk's components are taken
_KEPT_BYTES = 6e9  # by a step without block checkpointing
_MAX_RECORD_BYTES = 1 << 20
_CHECKED = 8  # cases of each held-out function


@dataclass(frozen=True)
class Checked:
    """What a check found on held-out functions: loss, and the share of cases that are right."""

    loss: float
    accuracy: float
    by_kind: Mapping[str, float]


@dataclass(frozen=True)
class CompilerStep:
    """What a finished step reports; `checked` at checks only."""

    number: int
    loss: float
    tokens: int
    seconds: float
    peak_bytes: int
    checked: Checked | None = None


class CompilerTraining:
    """A compiler under training in a folder; what lies there is gone on from.

    OptionError if that was begun with another recipe, corpus or base.
    """

    def __init__(
        self,
        base: Base,
        reader: SpecReader,
        functions: Sequence[FuzzyFunction],
        held_out: Sequence[FuzzyFunction],
        recipe: CompilerRecipe,
        folder: Path,
        *,
        start_from: Mapping[str, mx.array] | None = None,
    ) -> None:
        """Take what to train with; `start_from` are a compiler's arrays (`read_arrays`)."""
        self.recipe, self.folder = recipe, folder
        self._functions, self._held_out, self._begin = functions, held_out, start_from
        num_tokens = recipe.functions_per_batch * recipe.max_tokens
        kept = estimate_kept_bytes(base, num_tokens, recipe.max_tokens, checkpointed=False)
        self.trainer = MapperTrainer(base, reader, recipe, checkpointing=kept > _KEPT_BYTES)
        self._sampler = Sampler(
            base,
            functions,
            functions_per_batch=recipe.functions_per_batch,
            cases_per_function=recipe.batch // recipe.functions_per_batch,
            max_tokens=recipe.max_tokens,
            seed=recipe.seed,
        )
        self._encodings = Encodings(reader)
        self.arrays: Arrays = {}
        self.number = 0  # of the last finished step
        self.last_check: Checked | None = None

    def probe(self) -> CompilerStep:
        """Take the next step, and forget what it changed: how long is one, and how large?"""
        self._open()
        number = min(self.number + 1, self.recipe.steps)
        with lora.bare_afterwards(self._groups):
            step, _, _ = self._differentiate(mx.value_and_grad(self._loss), number)
        return step

    def run(self, report: Callable[[CompilerStep], None]) -> None:
        """Train up to the last step, going on from what lies in the folder; write the compiler.

        CompileError if a loss is not finite: lower the learning rate, and begin anew.
        """
        self._open()
        with lora.bare_afterwards(self._groups):
            self._train(report)
        self._write_compiler()
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    @property
    def _groups(self) -> list[Parallel]:
        return [*self.trainer.base.groups, *self.trainer.reader.base.groups]

    def _train(self, report: Callable[[CompilerStep], None]) -> None:
        differentiate = mx.value_and_grad(self._loss)
        while self.number < self.recipe.steps:
            step, trained, gradients = self._differentiate(differentiate, self.number + 1)
            check_finite(step.loss, step.number, self.recipe.learning_rate)
            trained = self._optimizer.apply(clip(gradients), trained)
            mx.eval(trained, self._optimizer.state)
            self.arrays, self.number = self.arrays | trained, step.number
            due = step.number % self.recipe.check_every == 0 or step.number == self.recipe.steps
            if due and self._held_out:
                step = replace(step, checked=self.check())
            self._write_log(step)
            if due:
                self._save()
            report(step)

    def _differentiate(
        self, differentiate: Any, number: int
    ) -> tuple[CompilerStep, Arrays, Arrays]:
        """Return what a step costs, what it trains, and the gradients of that, computed."""
        start = time.perf_counter()
        mx.reset_peak_memory()
        drawn = self._sampler.batch(number)
        batch = self.trainer.prepare(drawn, self._read(drawn))
        trained = self.trainer.trained(self.arrays)
        loss, gradients = differentiate(trained, batch)
        mx.eval(loss, gradients)
        seconds, peak_bytes = time.perf_counter() - start, mx.get_peak_memory()
        step = CompilerStep(number, float(loss), batch.packed.tokens.size, seconds, peak_bytes)
        return step, trained, gradients

    def check(self) -> Checked:
        """Judge the arrays by the held-out functions: each by its first spec, and its first cases.

        A case is right if greedy decoding, with the program as it is, says its output.
        """
        right: dict[str, list[bool]] = defaultdict(list)
        losses = []
        for function in self._held_out:
            spec, cases = function.specs[0], function.cases[:_CHECKED]
            drawn = [encode(self.trainer.base, spec, write_pseudo_program(spec), cases)]
            found, best = self.trainer.losses(
                self.arrays, self.trainer.prepare(drawn, self._read(drawn))
            )
            mx.eval(found, best)
            losses.append(float(found.mean()))
            each, start = np.array(best), 0
            for _, output in drawn[0].cases:
                right[function.kind].append(bool(each[start : start + len(output)].all()))
                start += len(output)
        self.last_check = Checked(
            loss=float(np.mean(losses)),
            accuracy=float(np.mean([ok for found in right.values() for ok in found])),
            by_kind={kind: float(np.mean(found)) for kind, found in sorted(right.items())},
        )
        return self.last_check

    def _loss(self, trained: Arrays, batch: Any) -> mx.array:
        return self.trainer.loss(self.arrays | trained, batch)

    def _read(self, drawn: Sequence[Drawn]) -> mx.array | None:
        """Return what the encoder says of specs (F, H); None where it is trained, or unasked."""
        if self.recipe.fixed or self.trainer.trains_encoder:
            return None
        return mx.array(np.stack([self._encodings[each.spec] for each in drawn]))

    def _open(self) -> None:
        """Take up what lies in the folder, or begin."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"recipe": asdict(self.recipe)} | self._sources()
        self.number, self.arrays, self._optimizer = 0, self._initial(), Optimizer(self.recipe)
        self._optimizer.init(self.trainer.trained(self.arrays))
        file = self.folder / CHECKPOINT
        if (self.folder / META).is_file() and not file.is_file():
            raise OptionError(
                f"{self.folder} holds a finished compiler",
                hint="Train into another folder; --from goes on from this one.",
            )
        if (self.folder / TRAINING).is_file() and file.is_file():
            data = read_bytes(self.folder / TRAINING, _MAX_RECORD_BYTES)
            _check_same(json_object(data, TRAINING), record)
            self._restore(file)
        else:
            with replacing(self.folder / TRAINING) as temporary:
                temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        self._trim_log()

    def _initial(self) -> Arrays:
        pooled = None
        if not self.recipe.fixed:
            stride = -(-len(self._functions) // _READ_FIRST)
            specs = [function.specs[0] for function in self._functions[::stride]]
            pooled = np.stack([self._encodings[spec] for spec in specs])
        return self.trainer.initial(pooled, self._begin)

    def _sources(self) -> dict[str, Any]:
        """Return what the run stands on, so that it is never taken up on other ground."""
        digest = hashlib.sha256()
        for function in (*self._functions, *self._held_out):
            digest.update(repr(function).encode())
        return {
            "interpreter_fingerprint": self.trainer.base.fingerprint,
            "encoder_fingerprint": self.trainer.reader.base.fingerprint,
            "num_functions": len(self._functions),
            "num_held_out": len(self._held_out),
            "corpus_sha256": digest.hexdigest(),
        }

    def _save(self) -> None:
        state = {f"arrays.{name}": array for name, array in self.arrays.items()}
        state |= {f"optimizer.{name}": array for name, array in self._optimizer.state.items()}
        save_tensors(self.folder / CHECKPOINT, state, {**_FORMAT, "step": str(self.number)})

    def _write_compiler(self) -> None:
        """Write the compiler as it is now: in float16, half of what was trained."""
        recipe, sizes, base = self.recipe, self.trainer.sizes, self.trainer.base
        mapper = {n: a.astype(mx.float16) for n, a in self.arrays.items() if is_mapper(n)}
        encoder = {n: a.astype(mx.float16) for n, a in self.arrays.items() if not is_mapper(n)}
        record = {
            "interpreter_model": base.profile.repo,
            "encoder_model": self.trainer.reader.base.profile.repo,
            "compiler_prompt_style": SPEC,
            "prefix_steps": recipe.prefix_tokens,
            "encoder_rank": recipe.rank if recipe.train_encoder == "lora" else 0,
            "lora_rank": sizes.rank,
            "lora_alpha": recipe.alpha,
            "lora_num_bases": sizes.num_bases,
            "interpreter_fingerprint": base.fingerprint,
            "encoder_fingerprint": self.trainer.reader.base.fingerprint,
            CONVERTED: {"version": version("paw-mlx"), "source": "train-compiler"},
        }
        save_tensors(self.folder / MAPPER, mapper, _FORMAT)
        if encoder:
            save_tensors(self.folder / TRAINED_ENCODER, encoder, _FORMAT)
        with replacing(self.folder / META) as temporary:  # the last: what lacks it is no compiler
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def _restore(self, file: Path) -> None:
        try:
            loaded = cast(Any, mx.load(str(file), return_metadata=True))
            state, self.number = loaded[0], int(loaded[1]["step"])
            self.arrays = {name: state[f"arrays.{name}"] for name in self.arrays}
            self._optimizer.state = {
                name: state[f"optimizer.{name}"] for name in self._optimizer.state
            }
        except (RuntimeError, KeyError, ValueError) as error:
            raise FormatError(f"{file} is damaged: {error}") from error
        mx.eval(self.arrays, self._optimizer.state)

    def _write_log(self, step: CompilerStep) -> None:
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(step)) + "\n")

    def _trim_log(self) -> None:
        """Drop what the log says of steps after the checkpoint: they are taken again."""
        log = self.folder / LOG
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        with replacing(log) as temporary:
            kept = lines[: self.number]
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _check_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise OptionError if a run was begun on other terms than it is to go on."""
    recipe = found.get("recipe")
    found = {**found, **recipe} if isinstance(recipe, dict) else found
    wanted = {**wanted, **wanted["recipe"]}
    changed = [key for key in wanted if key != "recipe" and found.get(key) != wanted[key]]
    if changed:
        terms = "; ".join(f"{key} was {found.get(key)}, not {wanted[key]}" for key in changed)
        raise OptionError(
            f"the run in this folder was begun on other terms: {terms}",
            hint="Train into another folder, or remove this one; --from goes on from its compiler.",
        )
