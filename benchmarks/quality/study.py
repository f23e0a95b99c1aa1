"""The ways to make a base do what a spec says, each on the same functions.

bare        the base alone, under the compiled program's prompt
fixed       the base with one LoRA for every spec, under the prompt that was trained with
compiled    the program that the compiler makes of the spec
tuned-K     the compiled program's LoRA trained on, from K of the function's cases
trained-K   a LoRA trained from nothing, from the same K cases

All decode greedily, among the function's labels where it has some. Programs run as they would be
kept: A and B in q4_0, or in f16 where the rank does not allow that. Those of a function follow
each other, so that one that is interrupted has answers of all methods.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paw_mlx import formats
from paw_mlx.benchmarks.accuracy.methods import Lab, recipe_for
from paw_mlx.benchmarks.accuracy.study import max_tokens
from paw_mlx.benchmarks.accuracy.tasks import Task
from paw_mlx.benchmarks.quality.questions import Asked
from paw_mlx.compiler.compilation import Compilation
from paw_mlx.compiler.pipeline import Compiler
from paw_mlx.errors import DiskError, HubError, NotFound, PawError
from paw_mlx.evaluation import Judged
from paw_mlx.program import Program
from paw_mlx.training.program import train

FEWEST = 2  # cases to learn from: one to train on, one to choose the best state by


@dataclass(frozen=True)
class Answered:
    """What a method made of a function's cases; `seconds` is what making its program took."""

    method: str
    asked: Asked
    judged: Sequence[Judged]
    seconds: float | None = None


class Study:
    """The compilers that are compared, and a folder for their programs while it lasts."""

    def __init__(self, lab: Lab, compiler: Compiler, fixed: Compiler | None, folder: Path) -> None:
        self.lab, self.compiler, self.fixed = lab, compiler, fixed
        self._folder = folder

    def run(self, asked: Sequence[Asked]) -> Iterator[Answered]:
        """Compile every spec, run what comes of it, and yield the answers function by function."""
        streams = {"compiled": _compile(self.compiler, asked)}
        if self.fixed:
            streams["fixed"] = _compile(self.fixed, asked)
        for each in asked:
            made = {name: next(stream) for name, stream in streams.items()}
            compiled, _ = made["compiled"]
            bare = _bared(compiled) if isinstance(compiled, Program) else compiled
            yield self._answer("bare", each, each.task, bare)
            for name in [name for name in ("fixed", "compiled") if name in made]:
                found, seconds = made[name]
                if isinstance(found, Program):
                    found = self._stored(found, name, each)
                yield self._answer(name, each, each.task, found, seconds)

    def tune(self, asked: Sequence[Asked], sizes: Sequence[int]) -> Iterator[Answered]:
        """Train with K cases of a function, for each K, after `run`; yield as `run` does.

        The base is loaded once more for that. A function without cases beyond K is left out, and
        so is one whose spec was not compiled.
        """
        for each in asked:
            compiled = self._path("compiled", each)
            for num in sizes:
                task = each.learning(num, self.lab.options.seed)
                if task is None or not compiled.exists():
                    continue
                for name, begin in (
                    ("tuned", formats.load(compiled, self.lab.profile)),
                    ("trained", None),
                ):
                    made, seconds = self._train(each, task, begin)
                    yield self._answer(f"{name}-{num}", each, task, made, seconds)

    def _train(
        self, asked: Asked, task: Task, begin: Program | None
    ) -> tuple[Program | PawError, float]:
        options, checkpoint = self.lab.options, self.compiler.checkpoint
        cases = [example.case for example in task.train]
        recipe = recipe_for(len(cases), options.steps, options.seed)
        recipe = replace(recipe, rank=checkpoint.rank, alpha=checkpoint.alpha)
        start = time.perf_counter()
        try:
            trained = train(
                self.lab.trainee,
                task.spec,
                cases,
                recipe,
                start_from=begin.adapter if begin else None,
                output=asked.output,
            )
        except PawError as error:
            return error.with_traceback(None), time.perf_counter() - start
        return self._stored(trained.program, "trained", asked), trained.seconds

    def _answer(
        self,
        method: str,
        asked: Asked,
        task: Task,
        made: Program | PawError,
        seconds: float | None = None,
    ) -> Answered:
        """Run a program on a task's cases; without one, all are errors."""
        question = asked.question(max_tokens(task, self.lab), task)
        try:
            if isinstance(made, PawError):
                raise made
            answers = [*self.lab.run(made, question, [example.input for example in task.test])]
        except PawError as error:
            answers = [error.with_traceback(None)] * len(task.test)
        pairs = zip(task.test, answers, strict=True)
        judged = [Judged.of(example.case, answer) for example, answer in pairs]
        return Answered(method, asked, judged, seconds)

    def _path(self, name: str, asked: Asked) -> Path:
        digest = hashlib.sha256(asked.function.name.encode()).hexdigest()[:16]
        return self._folder / f"{name}-{digest}.paw"

    def _stored(self, program: Program, name: str, asked: Asked) -> Program:
        """Return a program as it is kept; DiskError if the disk refuses."""
        path = self._path(name, asked)
        formats.save(program, path, profile=self.lab.profile)
        return formats.load(path, self.lab.profile)


def _compile(
    compiler: Compiler, asked: Sequence[Asked]
) -> Iterator[tuple[Program | PawError, float]]:
    """Compile the specs, and yield a program or an error for each, with its seconds.

    What no spec could change, a model that is not there or a disk that refuses, is raised.
    """
    jobs = [Compilation(each.task.spec, output=each.output) for each in asked]
    for done in compiler.compile_all(jobs):
        if isinstance(done.error, HubError | DiskError | NotFound):
            raise done.error
        made = done.program or done.error
        assert made is not None
        done.program = None  # an adapter is large, and there may be hundreds
        yield made, sum(cost.seconds for cost in done.costs.values())


def _bared(program: Program) -> Program:
    """Return a program without its adapter."""
    return replace(program, adapter=None, meta={})
