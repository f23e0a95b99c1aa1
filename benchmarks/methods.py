"""The ways to make a base do what a spec says, each judged on the same rows.

bare       the base on the input alone, in its chat turn: it never sees the spec
prompted   the base prompted with the spec
program    a program: the spec compiled in one pass, by the compiler on this machine
fixed      one LoRA for all specs, given as a program, behind the prompt of the spec
tuned-K    a LoRA trained on K examples of each label (tuned-all: on all there are), with
           `paw-mlx train`'s own recipe, which also shows up to four of them in the prompt
baseline   a large model prompted with the spec, in the same words, through mlx-lm
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx

from paw_mlx import formats, hub, prompts
from paw_mlx.benchmarks import room
from paw_mlx.benchmarks.answers import Answers, Unkept
from paw_mlx.benchmarks.speed import BASELINE
from paw_mlx.benchmarks.tasks import Row, Task, shots
from paw_mlx.cases import Case
from paw_mlx.compiler.chat import ChatModel
from paw_mlx.compiler.installed import compiler_for, loadable_by_mlx_lm
from paw_mlx.compiler.pipeline import PSEUDO_COMPILER, Compiler
from paw_mlx.compiler.pipeline import Job as CompilerJob
from paw_mlx.compiler.training import Recipe, train
from paw_mlx.errors import FormatError, HubError, NotFound, OptionError, PawError
from paw_mlx.interpreter import Interpreter
from paw_mlx.interpreter.weights import Base, load_base
from paw_mlx.program import PLACEHOLDER, Program, Template
from paw_mlx.wheels import Progress, quiet

NAMES = ("bare", "prompted", "program", "fixed", "tuned-5", "tuned-20", "tuned-all", "baseline")
INSTRUCTION = "Reply with the output alone, and nothing else."
_TUNED = re.compile(r"tuned-([1-9]\d{0,5}|all)")
_CACHES = 3  # of a chat model: what prompts share, the last answer's, the next one's
_FEWEST = 2  # rows that training takes: one to learn from, one to judge it by
_STORED = "q4_0"  # as `paw-mlx train` and `paw-mlx compile` store A and B

Outputs = Iterator[str | PawError]


@dataclass(frozen=True)
class Options:
    """What a study is made with."""

    interpreter: str = "qwen3-0.6b"
    bits: int | None = None
    fixed: str | None = None
    baseline: str = BASELINE
    compiler: str | None = None
    pseudo_compiler: str = PSEUDO_COMPILER
    steps: int = 120
    seed: int = 0
    offline: bool = False


@dataclass(frozen=True)
class Job:
    """A function, and its spec as a method is shown it: as it is, or with noise."""

    task: Task
    spec: str
    max_tokens: int


class Lab:
    """The base that methods share, loaded once. A context manager."""

    def __init__(self, options: Options, progress: Progress = quiet) -> None:
        self.options, self.progress = options, progress
        keys: dict[str, Any] = {"offline": options.offline, "progress": progress}
        self.path = hub.resolve_base(options.interpreter, **keys)
        self.interpreter = Interpreter.load(options.interpreter, bits=options.bits, **keys)
        base = self.interpreter.base
        self.turn, self.profile = base.profile.turn, base.profile
        self.base = f"{base.profile.name}, {base.form}"
        self.fingerprint = base.fingerprint

    @cached_property
    def fixed(self) -> Program | None:
        """The program whose LoRA is the fixed one."""
        if self.options.fixed is None:
            return None
        return formats.load(hub.resolve_program(self.options.fixed, offline=self.options.offline))

    @cached_property
    def compilers(self) -> tuple[str | None, str]:
        """What specs are compiled with, to be recorded: compiler (None if there is none) and
        pseudo-compiler."""
        options, compiler = self.options, self.options.compiler
        with suppress(OptionError):  # none is published for this interpreter
            compiler = compiler or compiler_for(options.interpreter)
        return compiler and named(compiler), named(options.pseudo_compiler)

    @cached_property
    def trainee(self) -> Base:
        """The base again, as training wants it."""
        return load_base(self.path, exact=True)

    def free_trainee(self) -> None:
        """Give its memory back; who trains again loads it again."""
        self.__dict__.pop("trainee", None)
        mx.clear_cache()

    def tokens(self, text: str) -> int:
        return len(self.interpreter.base.tokenizer.encode(text))

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *error: object) -> None:
        self.interpreter.close()


class Method:
    """A way to answer. `prepare` once with all jobs, then `answers` for each."""

    sees_spec = True

    def prepare(self, jobs: Sequence[Job], num_all: int) -> None:
        """Make what the jobs need, which are some of `num_all`. A PawError says why the method
        cannot run at all."""

    def answers(self, job: Job, inputs: Sequence[str]) -> Outputs:
        """The outputs for inputs, in order; an error in the place of one that failed."""
        raise NotImplementedError

    def seconds(self, jobs: Sequence[Job]) -> float | None:
        """What making programs for these jobs took, now or earlier; None if none is made."""
        return None

    def close(self) -> None:
        """Give memory back."""


class Prompt(Method):
    """A prompt around the input; `adapter_of` is the program whose LoRA it runs with."""

    def __init__(
        self,
        lab: Lab,
        template: Callable[[str], Template],
        *,
        sees_spec: bool = True,
        adapter_of: Program | None = None,
    ) -> None:
        self.lab, self.template, self.sees_spec = lab, template, sees_spec
        self.adapter = adapter_of.adapter if adapter_of else None

    def answers(self, job: Job, inputs: Sequence[str]) -> Outputs:
        program = Program(self.template(job.spec), self.adapter, self.lab.profile.repo)
        return _run(self.lab, program, job, inputs)


class Made(Method):
    """A program is made for each job, and kept beside the answers; the base is loaded once.

    A job for which that fails is wrong on all its rows; if all fail, the method cannot run.
    """

    def __init__(self, lab: Lab, answers: Answers) -> None:
        self.lab, self.kept = lab, answers
        self.failed: dict[str, PawError] = {}

    def name(self, job: Job) -> str:
        """The file of a job's program: what it is made of, hashed."""
        raise NotImplementedError

    def make(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Program | PawError, float]]:
        """Make programs: each with the seconds that it took."""
        raise NotImplementedError

    def prepare(self, jobs: Sequence[Job], num_all: int) -> None:
        wanted = {self.name(job): job for job in jobs if not self.kept.program(self.name(job))}
        for job, made, seconds in self.make(list(wanted.values())):
            name = self.name(job)
            if isinstance(made, PawError):
                self.failed[name] = made.with_traceback(None)
                continue
            try:
                formats.save(made, self.kept.folder / name, _STORED, profile=self.lab.profile)
            except HubError as error:
                raise Unkept(str(error)) from error
            self.kept.add_program(name, seconds)
        if self.failed and len(self.failed) == num_all:
            raise next(iter(self.failed.values()))

    def answers(self, job: Job, inputs: Sequence[str]) -> Outputs:
        name = self.name(job)
        if name in self.failed:
            return iter([self.failed[name]] * len(inputs))
        path = self.kept.program(name)
        assert path is not None
        return _run(self.lab, formats.load(path), job, inputs)

    def seconds(self, jobs: Sequence[Job]) -> float | None:
        return sum(self.kept.seconds(name) for name in {self.name(job) for job in jobs})


class Compiled(Made):
    """One-pass compiling; compiler and pseudo-compiler have to be on this machine."""

    def name(self, job: Job) -> str:
        return f"compiled-{_digest(job.spec, self.lab.compilers)}.paw"

    def make(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Program | PawError, float]]:
        if not jobs:
            return
        options = self.lab.options
        with Compiler.load(
            options.compiler,
            interpreter=options.interpreter,
            pseudo_compiler=options.pseudo_compiler,
            offline=True,
            progress=self.lab.progress,
        ) as compiler:
            compiled = compiler.compile_all([CompilerJob(job.spec) for job in jobs])
            for job, done in zip(jobs, compiled, strict=True):
                if isinstance(done.error, HubError | NotFound):  # a model is missing
                    raise done.error
                result = done.program or done.error
                assert result is not None
                done.program = None  # an adapter is large, and there may be hundreds
                self.lab.progress(f"compiled {job.task.name}")
                yield job, result, sum(cost.seconds for cost in done.costs.values())


class Tuned(Made):
    """A LoRA trained on examples: `num` of each label, or None for all."""

    def __init__(self, lab: Lab, answers: Answers, num: int | None) -> None:
        super().__init__(lab, answers)
        self.num = num

    def name(self, job: Job) -> str:
        options = self.lab.options
        rows = [(row.input, row.output) for row in self._rows(job)]
        return f"tuned-{_digest(job.spec, rows, options.steps, options.seed)}.paw"

    def make(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Program | PawError, float]]:
        for job in jobs:
            rows = self._rows(job)
            if len(rows) < _FEWEST:
                yield job, OptionError(f"fewer than {_FEWEST} rows to learn from"), 0.0
                continue
            recipe = recipe_for(len(rows), self.lab.options.steps, self.lab.options.seed)
            self.lab.progress(f"training on {len(rows)} examples: {job.task.name}")
            cases = [Case(row.input, row.output) for row in rows]
            try:
                trained = train(self.lab.trainee, job.spec, cases, recipe, dtype=_STORED)
            except PawError as error:
                yield job, error, 0.0
            else:
                yield job, trained.program, trained.seconds

    def learns_all(self, jobs: Sequence[Job]) -> bool:
        """Whether it is trained on all rows there are, as tuned-all is."""
        return all(len(self._rows(job)) == len(job.task.train) for job in jobs)

    def _rows(self, job: Job) -> list[Row]:
        return shots(job.task, self.num, self.lab.options.seed)


class Baseline(Method):
    """A chat model through mlx-lm, one input after another. It has to be on this machine."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._model: ChatModel | None = None

    def prepare(self, jobs: Sequence[Job], num_all: int) -> None:
        reference = self.lab.options.baseline
        try:
            path = hub.resolve_base(reference, offline=True)
        except HubError as error:
            raise NotFound(
                f"{reference} is not on this machine", hint=f"paw-mlx pull {reference}"
            ) from error
        self.lab.free_trainee()
        _check_memory(path, reference, self.lab, jobs)
        self.lab.progress(f"loading {reference}")
        folder = loadable_by_mlx_lm(path, self.lab.progress)
        if folder != path:  # a GGUF file's weights may be larger now
            _check_memory(folder, reference, self.lab, jobs)
        self._model = ChatModel(folder)

    def answers(self, job: Job, inputs: Sequence[str]) -> Outputs:
        assert self._model is not None
        template = prompt(job.spec, ("", ""))
        conversations = [[{"role": "user", "content": template.render(text)}] for text in inputs]
        if len(conversations) > 1:
            with suppress(PawError):  # too long for the window: each input says so itself
                self._model.share(*conversations[:2])
        for conversation in conversations:
            try:
                yield self._model.answer(conversation, job.max_tokens, lambda text: False).strip()
            except PawError as error:
                yield error.with_traceback(None)

    def close(self) -> None:
        if self._model:
            self._model.close()


def check_name(name: str) -> str:
    """The name of a method; OptionError for what is none."""
    if name not in NAMES and not _TUNED.fullmatch(name):
        raise OptionError(
            f"there is no method {name!r}", hint=f"There are {', '.join(NAMES)}; any tuned-K."
        )
    return name


def method(name: str, lab: Lab, answers: Answers) -> Method:
    """A method by its name. PawError if it cannot be."""
    if found := _TUNED.fullmatch(check_name(name)):
        return Tuned(lab, answers, None if found[1] == "all" else int(found[1]))
    if name == "program":
        return Compiled(lab, answers)
    if name == "baseline":
        return Baseline(lab)
    if name == "fixed":
        if lab.fixed is None:
            raise OptionError("no program is given whose LoRA would be the fixed one")
        return Prompt(lab, lambda spec: of_spec(spec, lab.turn), adapter_of=lab.fixed)
    if name == "bare":
        return Prompt(lab, lambda spec: Template(*lab.turn), sees_spec=False)
    return Prompt(lab, lambda spec: prompt(spec, lab.turn))


def needs_training(name: str) -> bool:
    """Whether a method learns from rows."""
    return _TUNED.fullmatch(name) is not None


def named(reference: str) -> str:
    """A model's reference, to be recorded: a folder without where it lies, but with a hash that
    tells it from others of its name."""
    path = hub.local(reference) or Path(reference)
    known = hub.published_compilers()
    if reference not in known and (path.is_absolute() or path.exists()):
        return f"{path.name} ({_digest(str(path.resolve()))[:6]})"
    return known.get(reference, reference)


def prompt(spec: str, turn: tuple[str, str]) -> Template:
    """How a model is prompted with a spec: `prompted` and `baseline` alike."""
    spec = spec.strip().replace(PLACEHOLDER, PLACEHOLDER.strip("{}"))
    return Template(f"{turn[0]}{spec}\n\n{INSTRUCTION}\n\nInput: ", turn[1])


def of_spec(spec: str, turn: tuple[str, str]) -> Template:
    """A program's own prompt, its pseudo-program no more than the spec."""
    return prompts.template(prompts.pseudo_program(spec), turn)


def recipe_for(num: int, steps: int, seed: int) -> Recipe:
    """`paw-mlx train`'s recipe, with smaller batches and fewer rows shown where rows are few."""
    held_out = max(1, round(Recipe.held_out * num))
    shown = min(Recipe.shots, num // 4)
    batch = max(1, min(Recipe.batch_size, num - held_out - shown))
    return Recipe(steps=steps, batch_size=batch, shots=shown, seed=seed)


def _run(lab: Lab, program: Program, job: Job, inputs: Sequence[str]) -> Outputs:
    function = lab.interpreter.function(program)
    return function.map(inputs, on_error="return", max_tokens=job.max_tokens)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _check_memory(path: Path, reference: str, lab: Lab, jobs: Sequence[Job]) -> None:
    """OptionError if a chat model does not fit in this machine's memory, beside the base."""
    try:
        sizes = room.sizes_of(room.config_of(path), None)
    except FormatError:  # a GGUF file
        sizes = None
    cache = _CACHES * room.cache_bytes(sizes, _longest(lab, jobs))
    kept = lab.interpreter.base.nbytes
    try:
        room.Needed(room.weight_bytes(path), cache, kept_bytes=kept).check()
    except PawError as error:
        raise OptionError(
            f"{reference} does not fit: {error}",
            hint="Name a smaller one with --baseline-model.",
        ) from error


def _longest(lab: Lab, jobs: Sequence[Job]) -> int:
    """Tokens of the longest prompt with its output, by the base's tokenizer."""
    longest = 0
    for job in jobs:
        text = max((row.input for row in job.task.test), key=len)
        asked = prompt(job.spec, ("", "")).render(text)
        longest = max(longest, lab.tokens(asked) + room.CHAT_TOKENS + job.max_tokens)
    return longest
