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

from paw_mlx import formats, machine
from paw_mlx.benchmarks.report.report import reason, stat
from paw_mlx.benchmarks.speed import synthetic
from paw_mlx.benchmarks.speed.chat import MlxLm
from paw_mlx.benchmarks.speed.llamacpp import LlamaCpp
from paw_mlx.benchmarks.speed.paw import Paw
from paw_mlx.benchmarks.speed.sizes import GROUP_SIZE
from paw_mlx.benchmarks.speed.subject import Plan, Subject, inputs
from paw_mlx.benchmarks.speed.worker import Worker
from paw_mlx.device import on_gpu
from paw_mlx.errors import NotFound, PawError
from paw_mlx.interpreter.base.write import write_base
from paw_mlx.interpreter.models import make_model
from paw_mlx.interpreter.models.load import read_source
from paw_mlx.profiles import Profile
from paw_mlx.program import Program
from paw_mlx.progress import Progress, quiet

_DTYPES = {mx.float32: "f32", mx.float16: "f16", mx.bfloat16: "bf16"}
_CONTEXT = 2048  # tokens that llama.cpp makes room for, at least
_SMALL = {"num_prompt": 16, "num_decode": 2}

Row = dict[str, Any]


@dataclass(frozen=True)
class VersusPlan(Plan):
    """The calls of a round, too."""

    warmups: int = 1
    num_calls: int = 10
    max_tokens: int = 16


QUICK = VersusPlan(num_prompt=32, num_decode=8, rounds=2, num_calls=4, max_tokens=8)


def run(
    base: Path,
    program: Program | None,
    texts: Sequence[str],
    plan: VersusPlan,
    bits: int | None = None,
    progress: Progress = quiet,
) -> Iterator[Row]:
    """Yield a row for each engine; what one cannot do is in "skipped", what ended its figures
    early, or failed of its outputs, in "failed".

    `texts` are what outputs are compared on; none: inputs made up. `program` None: one made
    up. PawError if paw-mlx itself fails; rounds that were done before that, or before an
    interrupt, are rows all the same.
    """
    texts = list(texts) or list(islice(inputs(), 20))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paw-versus-")))
        given = Given(folder, base, bits)
        given.write(program)
        engines = [Engine(subject) for subject in (Paw, MlxLm, LlamaCpp)]
        for engine in engines:
            progress(f"{engine.name}: loading")
            engine.open(stack, given, plan)
        yield from take_turns(engines, texts, plan, progress)


def take_turns(
    engines: Sequence[Engine], texts: Sequence[str], plan: VersusPlan, progress: Progress = quiet
) -> Iterator[Row]:
    """Yield the rows of engines that were opened, ours first; of what is cut short, too."""
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
            known = [engine for engine in engines if engine.found or engine.failed]
            yield from (engine.row(engines[0]) for engine in known)
        raise
    yield from (engine.row(engines[0]) for engine in engines)


def rotated(engines: Sequence[Engine], number: int) -> Sequence[Engine]:
    """Put another engine first in every round: none always follows the same one."""
    first = number % len(engines)
    return [*engines[first:], *engines[:first]]


@dataclass(frozen=True)
class Given:
    """What every engine gets: a base, and on disk a program and its adapter in two layouts."""

    folder: Path
    base: Path
    bits: int | None

    def write(self, program: Program | None) -> None:
        """Write a program, or one made up, and its adapter."""
        source = read_source(self.base)
        profile = Profile.from_config(source.config)
        program = program or synthetic.program(profile, source.tokenizer)
        formats.save(program, self.folder / "program.paw", None, profile=profile)
        assert program.adapter  # or it would not have been saved
        dtype = _DTYPES[source.dtype if on_gpu() else mx.float32]
        formats.save_adapter(program.adapter, self.folder / "mlx", "mlx", profile, dtype)
        formats.save_adapter(program.adapter, self.folder / "adapter.gguf", "gguf", profile)

    def keywords(self, subject: type[Subject], plan: VersusPlan) -> dict[str, Any]:
        """Return what an engine is made with. NotFound if it cannot take part."""
        known = {"program": str(self.folder / "program.paw"), "reference": str(self.base)}
        if subject is Paw:
            return known | {"bits": self.bits}
        if subject is MlxLm:
            bits = 32 if not on_gpu() and self.bits in (None, 16) else self.bits
            source, folder = read_source(self.base), self.folder / "base"
            folder.mkdir()
            write_base(source, make_model(source.config), folder, bits, GROUP_SIZE)
            return known | {"reference": str(folder), "adapter": str(self.folder / "mlx")}
        if find_spec("llama_cpp") is None:
            raise NotFound(
                "llama-cpp-python is not installed; `pip install llama-cpp-python` compiles it"
            )
        if self.base.is_dir():
            raise NotFound("it runs GGUF files, and this base is none")
        if self.bits:
            raise NotFound(
                f"it runs a GGUF file as it is, and {self.bits} bits were asked for",
                hint="Leave --bits out to have it take part.",
            )
        context = max(_CONTEXT, plan.num_prompt + plan.num_decode)
        return known | {"adapter": str(self.folder / "adapter.gguf"), "context": context}


@dataclass
class Engine:
    """One engine in its process, and what it has measured so far."""

    subject: type[Subject]
    worker: Worker | None = None
    form: str | None = None
    failed: str | None = None
    found: dict[str, list[float]] = field(default_factory=dict)
    memory: Row = field(default_factory=dict)
    said: list[str | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.subject.engine

    def open(self, stack: ExitStack, given: Given, plan: VersusPlan) -> None:
        """Start its process and load the base."""

        def load() -> None:
            worker = Worker(self.subject, **given.keywords(self.subject, plan))
            self.worker = stack.enter_context(worker)
            self.form = self.worker.call("load")["form"]

        self._try(load)

    def round(self, plan: VersusPlan, counts: bool) -> None:
        """Ask everything once; keep what it took if it `counts`."""

        def ask() -> None:
            assert self.worker
            call = self.worker.call
            # What another prompt drove out, or must make ready once, is not this one's.
            call("prefill_decode", **_SMALL, seed=plan.seed)
            raw = call("prefill_decode", **plan.shape, seed=plan.seed)
            call("first_token", warm=True)
            first = call("first_token", warm=True)
            calls = call("calls", num=plan.num_calls, at_once=1, max_tokens=plan.max_tokens)
            found = {
                "prefill_tok_s": plan.num_prompt / raw["prefill_s"],
                "decode_tok_s": (plan.num_decode - 1) / raw["decode_s"],
                "ttft_warm_s": first["seconds"],
                "calls_s": calls["num"] / calls["seconds"],
            }
            if counts:
                self.memory = call("memory")
                for key, value in found.items():
                    self.found.setdefault(key, []).append(value)

        self._try(ask)

    def answer(self, texts: Sequence[str], plan: VersusPlan) -> None:
        """Keep its outputs, unless it is out; None for one that failed."""
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
        """Return what it measured, and how many outputs are those of `ours`; one that failed is
        none."""
        row: Row = {"engine": self.name, "version": machine.version_of(self.subject.package)}
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
            if self.subject is Paw:
                raise


def settings(plan: VersusPlan, bits: int | None, num_texts: int, made_up: bool) -> dict[str, Any]:
    """Return what a report says of how it was measured."""
    return {**asdict(plan), "bits": bits, "texts": num_texts, "program_made_up": made_up}
