"""`paw-mlx bench speed`: tokens and calls per second, and memory, a process per model.

    base       the interpreter with a program's template, without its adapter
    program    the interpreter with the program
    baseline   a large chat model on mlx-lm, prompted with the program's spec

Each runs alone, in this order: load, cool down, warm up; prompts of random ids and tokens
behind them; first tokens of a program that is new and of one in use; one call at a time. Then
memory is read, so it is that of single calls; only after that, many calls at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from paw_mlx import formats, hub, machine
from paw_mlx.benchmarks.report.report import reason, stat
from paw_mlx.benchmarks.speed import synthetic
from paw_mlx.benchmarks.speed.paw import Paw
from paw_mlx.benchmarks.speed.sizes import (
    CHAT_TOKENS,
    Form,
    Needed,
    Sizes,
    mlx_lm_sizes,
    read_sizes,
)
from paw_mlx.benchmarks.speed.subject import Plan, Subject
from paw_mlx.benchmarks.speed.worker import Worker
from paw_mlx.errors import NotFound, OfflineError, OptionError, PawError
from paw_mlx.interpreter.base.packing import PACKED_BITS
from paw_mlx.interpreter.models.load import read_source
from paw_mlx.profiles import base_name
from paw_mlx.program import Program
from paw_mlx.progress import Progress, quiet

BASELINE = "mlx-community/Qwen3-32B-4bit"
MADE_UP = f"made up: rank {synthetic.RANK}, {synthetic.PREFIX_TOKENS} tokens"
_CPU_BYTES = 4_000_000_000  # of a baseline that is tried on a CPU unasked
_LAPTOP_COOLDOWN_S = 30.0
_TOKEN_CHARACTERS = 3  # at least, of text
_HASH_CHARACTERS = 12

Row = dict[str, Any]


@dataclass(frozen=True)
class SpeedPlan(Plan):
    """A pause before each model, and the numbers of calls at once, too."""

    cooldown_s: float = 0.0
    at_once: tuple[int, ...] = (1, 8, 32)


QUICK = SpeedPlan(num_prompt=32, num_decode=8, warmups=1, rounds=1)


@dataclass(frozen=True)
class Models:
    """What is measured, by reference; synthetic models by name.

    `interpreter` None is the program's, or qwen3-0.6b; `program` None is made up; `baseline`
    None leaves it out. `bits` None is a base as it is stored, or a synthetic one's default.
    """

    interpreter: str | None = None
    program: str | None = None
    baseline: str | None = BASELINE
    bits: tuple[int | None, ...] = (None,)
    synthetic: bool = False
    offline: bool = False
    insist: bool = False  # on the baseline, however slow

    def __post_init__(self) -> None:
        if self.synthetic and self.program:
            raise OptionError("a synthetic model runs a program made up, not --program")

    @property
    def forms(self) -> list[int | None]:
        """The bits asked for; of a synthetic base else 4 on a GPU, and dense without one."""
        default = 4 if self.synthetic and machine.mlx().device == "gpu" else None
        return list(dict.fromkeys(bits or default for bits in self.bits))

    def resolve(self, progress: Progress = quiet) -> tuple[str | None, str]:
        """Return the program's path, and the base it runs on."""
        if self.program is None:
            return None, self.interpreter or "qwen3-0.6b"
        path = hub.resolve_program(self.program, offline=self.offline, progress=progress)
        return str(path), self.interpreter or base_name(formats.load(path).interpreter)

    def path(self, base: str, progress: Progress = quiet) -> Path:
        """Return where a base lies, fetched if it has to be."""
        return hub.resolve_base(base, offline=self.offline, progress=progress)


@dataclass(frozen=True)
class Entry:
    """A row to be, and what its worker is made with."""

    name: str
    model: str
    target: type[Subject]
    bits: int | None
    keywords: dict[str, Any]


def cooldown_s(quick: bool = False) -> float:
    """Return the pause before each model: a Mac's GPU needs it to start as cold as before."""
    hot = sys.platform == "darwin" and machine.mlx().device == "gpu"
    return _LAPTOP_COOLDOWN_S if hot and not quick else 0.0


def default_baseline(is_synthetic: bool, quick: bool, interpreter: str | None) -> str | None:
    """Choose Qwen3-32B in 4 bits; in a quick run with synthetic models the tiny one beside its
    like, none beside another."""
    if not (is_synthetic and quick):
        return "qwen3-32b" if is_synthetic else BASELINE
    return "tiny" if interpreter in (None, "tiny") else None


def run(models: Models, plan: SpeedPlan, progress: Progress = quiet) -> Iterator[Row]:
    """Measure each subject in each form; yield the report's rows as they come.

    What goes wrong with the baseline is the reason it is skipped for, and so is what goes
    wrong in another process once something was measured; before, it is raised.
    """
    for number, entry in enumerate(_own_entries(models, progress)):
        try:
            row = measure(entry, plan, progress)
        except (PawError, RuntimeError) as error:
            if number == 0:
                raise
            row = _skip(entry, error, progress)
        yield row
    if models.baseline is not None:
        yield from run_baseline(models, plan, progress)


def settings(models: Models, plan: SpeedPlan, progress: Progress = quiet) -> dict[str, Any]:
    """Return what it was measured with. PawError if the program or its base is not there."""
    found = {**asdict(plan), "program": MADE_UP}
    if models.program:
        path, model = models.resolve(progress)
        found |= describe(models.program, formats.load(str(path)), models.path(model, progress))
    return found | {"baseline": models.baseline and Path(models.baseline).name}


def describe(reference: str, program: Program, base: Path) -> dict[str, Any]:
    """Return what tells a program from others: its name, a hash of what it computes, its rank, and
    its prefix's tokens on a base."""
    tokens = read_source(base).tokenizer.encode(program.template.prefix, control=True)
    return {
        "program": Path(reference).name if Path(reference).is_absolute() else reference,
        "program_digest": program.digest()[:_HASH_CHARACTERS],
        "rank": program.adapter.ranks[-1] if program.adapter else None,
        "prefix_tokens": len(tokens),
    }


def ceiling(token_bytes: int | None, bandwidth: Any) -> float | list[float] | None:
    """Compute the tokens per second that memory allows; a range for a range, None if unknown."""
    if token_bytes is None or bandwidth is None:
        return None
    if isinstance(bandwidth, Sequence):
        return [gb_s * 1e9 / token_bytes for gb_s in bandwidth]
    return bandwidth * 1e9 / token_bytes


def _own_entries(models: Models, progress: Progress) -> list[Entry]:
    """Base and program in each form."""
    program, model = models.resolve(progress)
    if models.synthetic:
        known: dict[str, Any] = {"made_up": model}
    else:
        known = {"reference": str(models.path(model, progress)), "program": program}
    return [
        Entry(name, model, Paw, bits, known | {"bits": bits, "bare": name == "base"})
        for bits in models.forms
        for name in ("base", "program")
    ]


def measure(entry: Entry, plan: SpeedPlan, progress: Progress) -> Row:
    """Return a row, from a process of its own."""
    label = f"{entry.name}, {entry.model}" + (f", {entry.bits} bits" if entry.bits else "")
    if entry.target is Paw and entry.bits in PACKED_BITS and "reference" in entry.keywords:
        progress(f"{label}: quantizing, unless it is kept")
        with Worker(entry.target, **entry.keywords) as worker:  # which is not measured
            worker.call("prepare")
    progress(f"{label}: loading")
    with Worker(entry.target, **entry.keywords) as worker:
        loaded = worker.call("load")
        progress(f"{label}: {loaded['form']}, {loaded['weight_bytes'] / 1e9:.2f} GB")
        time.sleep(plan.cooldown_s)
        found = _measure_loaded(worker, plan, lambda what: progress(f"{label}: {what}"))
    if entry.name == "baseline":  # whose folder may be named by a commit
        loaded["model"] = Path(entry.model).name
    seconds = loaded.pop("load_s")
    return {
        "subject": entry.name,
        "engine": entry.target.engine,
        "bits": Form.of(loaded["form"]).bits or 16,
        **loaded,
        "load_s": None if seconds is None else stat([seconds]),
        **found,
        "ceiling_tok_s": ceiling(found["token_bytes"], machine.bandwidth_gb_s()),
        "skipped": None,
    }


def _skip(entry: Entry, error: Exception, progress: Progress) -> Row:
    """A row without figures."""
    row = {"subject": entry.name, "model": Path(entry.model).name, "engine": entry.target.engine}
    row |= {"bits": entry.bits, "skipped": reason(error)}
    progress(f"{row['subject']}, {row['model']}: skipped, {row['skipped']}")
    return row


def _measure_loaded(worker: Worker, plan: SpeedPlan, progress: Progress) -> Row:
    """What a loaded model is measured with."""

    def repeat(name: str, **args: Any) -> list[dict[str, float]]:
        found = [worker.call(name, **args) for _ in range(plan.warmups + plan.rounds)]
        return found[plan.warmups :]

    progress("decoding")
    decoded = repeat("prefill_decode", **plan.shape, seed=plan.seed)
    progress("first tokens")
    cold, warm = (repeat("first_token", warm=warm) for warm in (False, True))
    calls = {}
    memory: Row = {}
    for at_once in sorted(plan.at_once):
        if at_once > 1 and not memory:
            memory = worker.call("memory")
        progress(f"calls, {at_once} at once")
        calls[str(at_once)] = time_calls(worker, plan, at_once)
    after = worker.call("memory")
    return {
        "prefill_tok_s": stat(plan.num_prompt / one["prefill_s"] for one in decoded),
        "decode_tok_s": stat((plan.num_decode - 1) / one["decode_s"] for one in decoded),
        "ttft_cold_s": stat(one["seconds"] for one in cold),
        "ttft_warm_s": stat(one["seconds"] for one in warm),
        "calls_s": calls,
        **(memory or after),
        "batch_peak_bytes": after["peak_bytes"],
        **worker.call("expected", **plan.shape),
    }


def time_calls(worker: Worker, plan: SpeedPlan, at_once: int) -> dict[str, float]:
    """Return calls per second; `together` if fewer than `at_once` were decoded so."""
    asked = {"at_once": at_once, "max_tokens": plan.max_tokens}
    for _ in range(plan.warmups):  # shapes that were not seen yet
        worker.call("calls", num=at_once, **asked)
    num = max(8, 2 * at_once) if plan.rounds > 1 else at_once
    done = [worker.call("calls", num=num, **asked) for _ in range(plan.rounds)]
    together = min(one["together"] for one in done)
    found = stat(one["num"] / one["seconds"] for one in done)
    return found | ({"together": together} if together < at_once else {})


def run_baseline(models: Models, plan: SpeedPlan, progress: Progress = quiet) -> Iterator[Row]:
    """Yield the baseline's rows: measured, or why not.

    A synthetic one is packed like the base, 4 bits where that is dense by default.
    """
    from paw_mlx.benchmarks.speed.chat import MlxLm  # seconds, with all of mlx-lm

    forms = dict.fromkeys(bits or 4 for bits in models.forms) if models.synthetic else [None]
    for bits in forms:
        entry = Entry("baseline", str(models.baseline), MlxLm, bits, {})
        try:
            keywords, needed = _plan_baseline(models, bits, plan, progress)
            fitting = tuple(n for n in plan.at_once if needed.bytes(n) <= needed.limit)
            entry = replace(entry, keywords=keywords)
            row = measure(entry, replace(plan, at_once=fitting), progress)
            if missing := [n for n in plan.at_once if n not in fitting]:
                why = [f"{n} at once need {needed.bytes(n) / 1e9:.1f} GB" for n in missing]
                why.append(f"and this machine gives {needed.limit / 1e9:.1f} GB")
                row["left_out"] = ", ".join(why)
                progress(f"baseline: left out, {row['left_out']}")
        except (PawError, RuntimeError) as error:  # what ours measured is worth keeping
            row = _skip(entry, error, progress)
        yield row


def _plan_baseline(
    models: Models, bits: int | None, plan: SpeedPlan, progress: Progress
) -> tuple[dict[str, Any], Needed]:
    """How the baseline is made, and what it takes; PawError if it cannot run here."""
    from paw_mlx.compiler.installed import loadable_by_mlx_lm

    reference, told = str(models.baseline), None
    if models.synthetic:
        sizes = mlx_lm_sizes(synthetic.config(reference), bits)
        return {"made_up": reference, "bits": bits}, _check_room(sizes, plan, models)
    if reference == BASELINE:  # its size is known before it is here
        _check_room(mlx_lm_sizes(synthetic.config("qwen3-32b"), 4), plan, models)
    try:  # nothing as large is fetched unasked
        path = loadable_by_mlx_lm(hub.resolve_base(reference, offline=True), progress)
    except OfflineError as error:
        raise NotFound(f"{reference} is not on this machine", hint=error.hints[0]) from error
    if models.program:
        program = formats.load(hub.resolve_program(models.program, offline=True))
        told = program.spec or program.pseudo_program or program.template.text
    needed = _check_room(read_sizes(path), plan, models, path, told)
    return {"reference": str(path), "instruction": told}, needed


def _check_room(
    sizes: Sizes | None,
    plan: SpeedPlan,
    models: Models,
    path: Path | None = None,
    told: str | None = None,
) -> Needed:
    """What a baseline takes; PawError if that is too much, or would take hours.

    What a call is told is counted by its characters; no tokenizer is read for it.
    """
    num_told = len(told) // _TOKEN_CHARACTERS if told else synthetic.PREFIX_TOKENS
    call = num_told + CHAT_TOKENS + synthetic.INPUT_TOKENS + plan.max_tokens
    needed = Needed.of(sizes, path, plan.num_prompt + plan.num_decode, call)
    needed.check()
    if machine.mlx().device == "cpu" and needed.bytes() > _CPU_BYTES and not models.insist:
        raise PawError(
            f"it needs {needed.bytes() / 1e9:.1f} GB, and would take hours without a GPU; "
            "name it with --baseline-model to measure it all the same"
        )
    return needed
