"""`paw-mlx bench versus`: one base and one adapter under several engines, in turn.

    paw-mlx     the base as it is, or packed in `bits`, and the program
    mlx-lm      the same weights written as its folder, the adapter in MLX's layout
    llama.cpp   the base's own GGUF file, the adapter as GGUF; not for other bases

Each has a process of its own, all three are loaded, and every round asks each once: what the
machine does in between meets all alike. All get the same token ids, decode greedily, and keep
the prefix evaluated; timed outputs have `max_tokens`, no end and no drafts. Another engine is
first in every round. Without a GPU mlx-lm gets the weights dense in float32, as paw-mlx holds
them there: it would compute packed ones slower. llama.cpp computes packed, in its own types.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx

from paw_mlx import formats
from paw_mlx.benchmarks import asking, machine, synthetic
from paw_mlx.benchmarks.report import stat
from paw_mlx.benchmarks.worker import Worker, reason
from paw_mlx.errors import NotFound, PawError
from paw_mlx.interpreter.elementwise import on_gpu
from paw_mlx.interpreter.weights import read_source
from paw_mlx.interpreter.writing import write_base
from paw_mlx.profiles import Profile
from paw_mlx.program import Program
from paw_mlx.wheels import Progress, quiet

_DTYPES = {mx.float32: "f32", mx.float16: "f16", mx.bfloat16: "bf16"}
_CONTEXT = 2048  # tokens that llama.cpp makes room for, at least
_GROUP_SIZE = 64
_SMALL = {"num_prompt": 16, "num_decode": 2}

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured: tokens, rounds, calls of a round, tokens of an output."""

    num_prompt: int = 512
    num_decode: int = 128
    warmups: int = 1
    rounds: int = 5
    num_calls: int = 10
    max_tokens: int = 16
    seed: int = 0


QUICK = Plan(num_prompt=32, num_decode=8, rounds=2, num_calls=4, max_tokens=8)


def run(
    base: Path,
    program: Program | None,
    texts: Sequence[str],
    plan: Plan,
    bits: int | None = None,
    progress: Progress = quiet,
) -> Iterator[Row]:
    """A row for each engine; what one cannot do is in "skipped", what ended its figures early,
    or failed of its outputs, in "failed".

    `texts` are what outputs are compared on; none: inputs made up. `program` None: one made
    up. PawError if paw-mlx itself fails; rounds that were done before that, or before an
    interrupt, are rows all the same.
    """
    texts = list(texts) or list(islice(asking.inputs(), 20))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paw-versus-")))
        given = _Given.written(folder, base, program, bits)
        engines = [Engine(name, start) for name, start in _ENGINES.items()]
        for engine in engines:
            progress(f"{engine.name}: loading")
            engine.open(stack, given, plan)
        yield from in_turn(engines, texts, plan, progress)


def in_turn(
    engines: Sequence[Engine], texts: Sequence[str], plan: Plan, progress: Progress = quiet
) -> Iterator[Row]:
    """The rows of engines that were opened, ours first; of what is cut short, too."""
    try:
        for number in range(-plan.warmups, plan.rounds):
            progress(f"round {number + 1} of {plan.rounds}" if number >= 0 else "warming up")
            for engine in rotated(engines, number):
                engine.round(plan, counts=number >= 0)
        progress("comparing outputs")
        for engine in engines:
            engine.answer(texts, plan)
    except BaseException:
        if any(engine.found for engine in engines):
            yield from (engine.row(engines[0]) for engine in engines if engine.is_known)
        raise
    yield from (engine.row(engines[0]) for engine in engines)


def rotated(engines: Sequence[Engine], number: int) -> Sequence[Engine]:
    """Another engine first in every round: none always follows the same one."""
    first = number % len(engines)
    return [*engines[first:], *engines[:first]]


@dataclass(frozen=True)
class _Given:
    """What every engine gets, on disk."""

    folder: Path
    base: Path
    program: Path
    bits: int | None

    @classmethod
    def written(cls, folder: Path, base: Path, program: Program | None, bits: int | None) -> _Given:
        source = read_source(base)
        profile = Profile.from_config(source.config)
        if program is None:
            program = synthetic.program(profile, source.tokenizer)
        path = folder / "program.paw"
        formats.save(program, path, None, profile=profile)
        assert program.adapter  # or it would not have been saved
        dtype = _DTYPES[source.dtype if on_gpu() else mx.float32]
        formats.save_adapter(program.adapter, folder / "mlx", "mlx", profile, dtype)
        formats.save_adapter(program.adapter, folder / "adapter.gguf", "gguf", profile)
        return cls(folder, base, path, bits)


def _paw(given: _Given, plan: Plan) -> dict[str, Any]:
    return {"reference": str(given.base), "program": str(given.program), "bits": given.bits}


def _mlx_lm(given: _Given, plan: Plan) -> dict[str, Any]:
    folder = given.folder / "base"
    folder.mkdir()
    bits = 32 if not on_gpu() and given.bits in (None, 16) else given.bits
    write_base(read_source(given.base), folder, bits, _GROUP_SIZE)
    return {
        "reference": str(folder),
        "program": str(given.program),
        "adapter": str(given.folder / "mlx"),
    }


def _llama_cpp(given: _Given, plan: Plan) -> dict[str, Any]:
    if find_spec("llama_cpp") is None:
        raise NotFound(
            "llama-cpp-python is not installed; `pip install llama-cpp-python` compiles it"
        )
    if given.base.is_dir():
        raise NotFound("it runs GGUF files, and this base is none")
    if given.bits:
        raise NotFound(
            f"it runs a GGUF file as it is, and {given.bits} bits were asked for",
            hint="Leave --bits out to have it take part.",
        )
    return {
        "reference": str(given.base),
        "program": str(given.program),
        "adapter": str(given.folder / "adapter.gguf"),
        "context": max(_CONTEXT, plan.num_prompt + plan.num_decode),
    }


_ENGINES = {"paw-mlx": _paw, "mlx-lm": _mlx_lm, "llama.cpp": _llama_cpp}
_SUBJECTS = {
    "paw-mlx": ("paw_mlx.benchmarks.subjects:Paw", "paw-mlx"),
    "mlx-lm": ("paw_mlx.benchmarks.engines:MlxLmProgram", "mlx-lm"),
    "llama.cpp": ("paw_mlx.benchmarks.engines:LlamaCpp", "llama_cpp_python"),
}


@dataclass
class Engine:
    """One engine in its process, and what it has measured so far."""

    name: str
    start: Callable[[_Given, Plan], dict[str, Any]]
    worker: Worker | None = None
    form: str | None = None
    failed: str | None = None
    found: dict[str, list[float]] = field(default_factory=dict)
    memory: Row = field(default_factory=dict)
    said: list[str | None] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Whether there is anything to say of it."""
        return bool(self.found or self.failed)

    def open(self, stack: ExitStack, given: _Given, plan: Plan) -> None:
        def load() -> None:
            worker = Worker(_SUBJECTS[self.name][0], **self.start(given, plan))
            self.worker = stack.enter_context(worker)
            self.form = worker.call("load")["form"]

        self._try(load)

    def round(self, plan: Plan, counts: bool) -> None:
        """Ask everything once; keep what it took if it `counts`."""

        def ask() -> None:
            assert self.worker
            tokens = {"num_prompt": plan.num_prompt, "num_decode": plan.num_decode}
            # What another prompt drove out, or must make ready once, is not this one's.
            self.worker.call("prefill_decode", **_SMALL, seed=plan.seed)
            raw = self.worker.call("prefill_decode", **tokens, seed=plan.seed)
            self.worker.call("first_token", warm=True)
            first = self.worker.call("first_token", warm=True)
            asked = {"num": plan.num_calls, "at_once": 1, "max_tokens": plan.max_tokens}
            calls = self.worker.call("calls", **asked)
            found = {
                "prefill_tok_s": plan.num_prompt / raw["prefill_s"],
                "decode_tok_s": (plan.num_decode - 1) / raw["decode_s"],
                "ttft_warm_s": first["seconds"],
                "calls_s": calls["num"] / calls["seconds"],
            }
            if counts:
                self.memory = self.worker.call("memory")
                for key, value in found.items():
                    self.found.setdefault(key, []).append(value)

        self._try(ask)

    def answer(self, texts: Sequence[str], plan: Plan) -> None:
        """Keep its stripped outputs, unless it is out; None for one that failed."""
        if self.failed:
            return
        assert self.worker
        said, reasons = list[str | None](), list[str]()
        for text in texts:
            try:
                (output,) = self.worker.call("outputs", texts=[text], max_tokens=plan.max_tokens)
                said.append(output.strip())
            except (PawError, RuntimeError) as error:  # what was measured is worth keeping
                said.append(None)
                reasons.append(reason(error))
        self.said = said
        if reasons:
            self.failed = f"{len(reasons)} of {len(texts)} outputs failed, {reasons[0]}"

    def row(self, ours: Engine) -> Row:
        """What it measured, and how many outputs are those of `ours`; one that failed is none."""
        row: Row = {"engine": self.name, "version": machine.version_of(_SUBJECTS[self.name][1])}
        if not self.found:
            return row | {"skipped": self.failed}
        row |= {
            "form": self.form,
            **{key: stat(values) for key, values in self.found.items()},
            "footprint_peak_bytes": self.memory["footprint_peak_bytes"],
        }
        if self.said and ours.said:
            pairs = zip(self.said, ours.said, strict=True)
            same = sum(a == b and a is not None for a, b in pairs)
            row["same_outputs"] = f"{same}/{len(ours.said)}"
        return row | ({"failed": self.failed} if self.failed else {})

    def _try(self, act: Callable[[], None]) -> None:
        """Act, unless the engine is out; an error puts it out, and is raised if it is ours."""
        if self.failed:
            return
        try:
            act()
        except (PawError, RuntimeError) as error:
            self.failed = reason(error)
            if self.name == "paw-mlx":
                raise


def settings(plan: Plan, bits: int | None, num_texts: int, made_up: bool) -> dict[str, Any]:
    """What a report says of how it was measured."""
    return {**asdict(plan), "bits": bits, "texts": num_texts, "program_made_up": made_up}
