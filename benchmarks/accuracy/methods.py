"""The ways to make a base do what a spec says, each judged on the same examples.

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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx

from paw_mlx import formats, hub, prompts
from paw_mlx.benchmarks.accuracy.answers import Answers, Unkept
from paw_mlx.benchmarks.accuracy.tasks import Example, Task, shots
from paw_mlx.benchmarks.speed.sizes import CHAT_TOKENS, Needed, read_sizes
from paw_mlx.benchmarks.speed.speed import BASELINE
from paw_mlx.compiler.chat import ChatModel
from paw_mlx.compiler.compilation import Compilation
from paw_mlx.compiler.installed import compiler_for, loadable_by_mlx_lm
from paw_mlx.compiler.pipeline import PSEUDO_COMPILER, Compiler
from paw_mlx.errors import DiskError, FormatError, HubError, NotFound, OptionError, PawError
from paw_mlx.interpreter import Interpreter
from paw_mlx.interpreter.models.load import Base, load_base
from paw_mlx.output import TEXT
from paw_mlx.program import PLACEHOLDER, Program, Template
from paw_mlx.progress import Progress, quiet
from paw_mlx.training.batches import ROWS_A_CLASS
from paw_mlx.training.program import train
from paw_mlx.training.recipe import Recipe

NAMES = ("bare", "prompted", "program", "fixed", "tuned-5", "tuned-20", "tuned-all", "baseline")
INSTRUCTION = "Reply with the output alone, and nothing else."
_TUNED = re.compile(r"tuned-([1-9]\d{0,5}|all)")
_CACHES = 3  # of a chat model: what prompts share, the last answer's, the next one's
_FEWEST = 2  # examples that training takes: one to learn from, one to judge it by
_STORED = "q4_0"  # as `paw-mlx train` and `paw-mlx compile` store A and B

Outputs = Iterator[str | PawError]
Made = tuple[Program | PawError, float]  # or why there is none, and the seconds that it took


@dataclass(frozen=True)
class StudyOptions:
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


@dataclass(frozen=True, eq=False)
class Question:
    """A function, and its spec as a method is shown it: as it is, or with noise."""

    task: Task
    spec: str
    max_tokens: int


class Lab:
    """The base that methods share, loaded once. A context manager."""

    def __init__(self, options: StudyOptions, progress: Progress = quiet) -> None:
        self.options, self.progress = options, progress
        keys: dict[str, Any] = {"offline": options.offline, "progress": progress}
        self.path = hub.resolve_base(options.interpreter, **keys)
        self.interpreter = Interpreter.load(options.interpreter, bits=options.bits, **keys)
        self.profile = self.interpreter.profile
        self.base = f"{self.profile.name}, {self.interpreter.base.form}"

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
        return compiler and name_of(compiler), name_of(options.pseudo_compiler)

    @cached_property
    def trainee(self) -> Base:
        """The base again, as training wants it."""
        return load_base(self.path, trainable=True)

    def free_trainee(self) -> None:
        """Give its memory back; who trains again loads it again."""
        self.__dict__.pop("trainee", None)
        mx.clear_cache()

    def count_tokens(self, text: str) -> int:
        """Count a text's tokens, by the base's tokenizer."""
        return len(self.interpreter.base.tokenizer.encode(text))

    def run(self, program: Program, question: Question, inputs: Sequence[str]) -> Outputs:
        """Run a program on inputs; an error in the place of one that failed."""
        function = self.interpreter.function(program)
        return function.map(inputs, on_error="return", max_tokens=question.max_tokens)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *error: object) -> None:
        self.interpreter.close()


class Method:
    """A way to answer. `prepare` once with all questions, then `answers` for each."""

    sees_spec = True

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def prepare(self, questions: Sequence[Question], num_all: int) -> None:
        """Make what the questions need, which are some of `num_all`. A PawError says why the
        method cannot run at all."""

    def answers(self, question: Question, inputs: Sequence[str]) -> Outputs:
        """Return the outputs for inputs, in order; an error in the place of one that failed."""
        raise NotImplementedError

    def seconds(self, questions: Sequence[Question]) -> float | None:
        """Return what making their programs took, now or earlier; None if none is made."""
        return None

    def close(self) -> None:
        """Give memory back."""


class Prompted(Method):
    """A prompt around the input: `bare`, `prompted`, or `fixed`, which has a LoRA, too."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab)
        self.name, self.sees_spec = name, name != "bare"
        if name == "fixed" and lab.fixed is None:
            raise OptionError("no program is given whose LoRA would be the fixed one")
        self.adapter = lab.fixed.adapter if name == "fixed" and lab.fixed else None

    def answers(self, question: Question, inputs: Sequence[str]) -> Outputs:
        turn = self.lab.profile.turn
        if self.name == "bare":
            template = Template(*turn)
        elif self.name == "fixed":  # a program's own prompt, its pseudo-program the spec
            template = prompts.template(prompts.pseudo_program(question.spec), turn)
        else:
            template = prompt(question.spec, turn)
        program = Program(template, self.adapter, self.lab.profile.repo)
        return self.lab.run(program, question, inputs)


class Making(Method):
    """A program is made for each question, and kept beside the answers.

    A question for which that fails is wrong on all its examples; if all fail, the method cannot
    run.
    """

    def __init__(self, lab: Lab, kept: Answers) -> None:
        super().__init__(lab)
        self.kept = kept
        self.failed: dict[str, PawError] = {}

    def name(self, question: Question) -> str:
        """Return the file of a question's program: what it is made of, hashed."""
        raise NotImplementedError

    def make(self, questions: Sequence[Question]) -> Iterable[Made]:
        """Make their programs, in order."""
        raise NotImplementedError

    def prepare(self, questions: Sequence[Question], num_all: int) -> None:
        wanted = {self.name(q): q for q in questions if not self.kept.program(self.name(q))}
        made = self.make([*wanted.values()]) if wanted else []
        for name, (program, seconds) in zip(wanted, made, strict=True):
            if isinstance(program, PawError):
                self.failed[name] = program.with_traceback(None)
                continue
            try:
                formats.save(program, self.kept.folder / name, _STORED, profile=self.lab.profile)
            except DiskError as error:
                raise Unkept(str(error)) from error
            self.kept.add({"program": name, "seconds": seconds})
        if self.failed and len(self.failed) == num_all:
            raise next(iter(self.failed.values()))

    def answers(self, question: Question, inputs: Sequence[str]) -> Outputs:
        name = self.name(question)
        if name in self.failed:
            return iter([self.failed[name]] * len(inputs))
        path = self.kept.program(name)
        assert path is not None
        return self.lab.run(formats.load(path), question, inputs)

    def seconds(self, questions: Sequence[Question]) -> float | None:
        return sum(self.kept.seconds.get(name, 0.0) for name in {self.name(q) for q in questions})


class Compiled(Making):
    """One-pass compiling; compiler and pseudo-compiler have to be on this machine."""

    def name(self, question: Question) -> str:
        return f"compiled-{_digest(question.spec, self.lab.compilers)}.paw"

    def make(self, questions: Sequence[Question]) -> Iterable[Made]:
        options = self.lab.options
        with Compiler.load(
            options.compiler,
            interpreter=options.interpreter,
            pseudo_compiler=options.pseudo_compiler,
            offline=True,
            progress=self.lab.progress,
        ) as compiler:
            specs = [Compilation(question.spec, output=TEXT) for question in questions]
            for question, done in zip(questions, compiler.compile_all(specs), strict=True):
                if isinstance(done.error, HubError | DiskError | NotFound):  # no model
                    raise done.error
                result = done.program or done.error
                assert result is not None
                done.program = None  # an adapter is large, and there may be hundreds
                self.lab.progress(f"compiled {question.task.name}")
                yield result, sum(cost.seconds for cost in done.costs.values())


class Tuned(Making):
    """A LoRA trained on examples: `num` of each label, or None for all."""

    def __init__(self, lab: Lab, kept: Answers, num: int | None) -> None:
        super().__init__(lab, kept)
        self.num = num

    def name(self, question: Question) -> str:
        options = self.lab.options
        shown = [(example.input, example.output) for example in self._examples(question)]
        return f"tuned-{_digest(question.spec, shown, options.steps, options.seed)}.paw"

    def make(self, questions: Sequence[Question]) -> Iterable[Made]:
        for question in questions:
            cases = [example.case for example in self._examples(question)]
            if len(cases) < _FEWEST:
                yield OptionError(f"fewer than {_FEWEST} rows to learn from"), 0.0
                continue
            recipe = recipe_for(len(cases), self.lab.options.steps, self.lab.options.seed)
            self.lab.progress(f"training on {len(cases)} examples: {question.task.name}")
            try:
                trained = train(self.lab.trainee, question.spec, cases, recipe, dtype=_STORED)
            except PawError as error:
                yield error, 0.0
            else:
                yield trained.program, trained.seconds

    def learns_all(self, questions: Sequence[Question]) -> bool:
        """Return whether it is trained on all examples there are, as tuned-all is."""
        return all(len(self._examples(q)) == len(q.task.train) for q in questions)

    def _examples(self, question: Question) -> list[Example]:
        return shots(question.task, self.num, self.lab.options.seed)


class Baseline(Method):
    """A chat model through mlx-lm, one input after another. It has to be on this machine."""

    model: ChatModel | None = None

    def prepare(self, questions: Sequence[Question], num_all: int) -> None:
        reference = self.lab.options.baseline
        try:
            path = hub.resolve_base(reference, offline=True)
        except HubError as error:
            raise NotFound(
                f"{reference} is not on this machine", hint=f"paw-mlx pull {reference}"
            ) from error
        self.lab.free_trainee()
        check_memory(path, self.lab, questions)
        self.lab.progress(f"loading {reference}")
        folder = loadable_by_mlx_lm(path, self.lab.progress)
        if folder != path:  # a GGUF file's weights may be larger now
            check_memory(folder, self.lab, questions)
        self.model = ChatModel(folder)

    def answers(self, question: Question, inputs: Sequence[str]) -> Outputs:
        assert self.model is not None
        template = prompt(question.spec, ("", ""))
        conversations = [[{"role": "user", "content": template.render(text)}] for text in inputs]
        if len(conversations) > 1:
            with suppress(PawError):  # too long for the window: each input says so itself
                self.model.share(*conversations[:2])
        for asked in conversations:
            try:
                yield self.model.answer(asked, question.max_tokens, lambda text: False).strip()
            except PawError as error:
                yield error.with_traceback(None)

    def close(self) -> None:
        if self.model:
            self.model.close()


def check_name(name: str) -> str:
    """Return the name of a method; OptionError for what is none."""
    if name not in NAMES and not needs_training(name):
        raise OptionError(
            f"there is no method {name!r}", hint=f"There are {', '.join(NAMES)}; any tuned-K."
        )
    return name


def needs_training(name: str) -> bool:
    """Return whether a method learns from examples."""
    return _TUNED.fullmatch(name) is not None


def method(name: str, lab: Lab, answers: Answers) -> Method:
    """Return a method by its name. PawError if it cannot be."""
    if found := _TUNED.fullmatch(check_name(name)):
        return Tuned(lab, answers, None if found[1] == "all" else int(found[1]))
    if name == "program":
        return Compiled(lab, answers)
    return Baseline(lab) if name == "baseline" else Prompted(lab, name)


def name_of(reference: str) -> str:
    """Name a model, to be recorded: a folder without where it lies, but with a hash that tells
    it from others of its name."""
    path = hub.local(reference) or Path(reference)
    known = hub.published_compilers()
    if reference not in known and (path.is_absolute() or path.exists()):
        return f"{path.name} ({_digest(str(path.resolve()))[:6]})"
    return known.get(reference, reference)


def prompt(spec: str, turn: tuple[str, str]) -> Template:
    """Prompt a model with a spec: `prompted` and `baseline` alike."""
    spec = spec.strip().replace(PLACEHOLDER, PLACEHOLDER.strip("{}"))
    return Template(f"{turn[0]}{spec}\n\n{INSTRUCTION}\n\nInput: ", turn[1])


def recipe_for(num: int, steps: int, seed: int) -> Recipe:
    """Return `paw-mlx train`'s recipe, with smaller batches and fewer shown where few are."""
    held_out = max(1, round(Recipe.held_out * num), num // ROWS_A_CLASS)
    shown = min(Recipe.shots, num // 4)
    batch = max(1, min(Recipe.batch_size, num - held_out - shown))
    return Recipe(steps=steps, batch_size=batch, shots=shown, seed=seed)


def check_memory(path: Path, lab: Lab, questions: Sequence[Question]) -> None:
    """Raise OptionError if a chat model does not fit in this machine's memory beside the base."""
    sizes, longest = None, longest_prompt(lab, questions)
    with suppress(FormatError):  # a GGUF file
        sizes = read_sizes(path)
    try:
        Needed.of(sizes, path, longest, longest, lab.interpreter.base.nbytes).check(_CACHES)
    except PawError as error:
        raise OptionError(
            f"{lab.options.baseline} does not fit: {error}",
            hint="Name a smaller one with --baseline-model.",
        ) from error


def longest_prompt(lab: Lab, questions: Sequence[Question]) -> int:
    """Count the tokens of the longest prompt with its output, by the base's tokenizer."""
    longest = 0
    for question in questions:
        text = max((example.input for example in question.task.test), key=len)
        asked = lab.count_tokens(prompt(question.spec, ("", "")).render(text))
        longest = max(longest, asked + CHAT_TOKENS + question.max_tokens)
    return longest


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
