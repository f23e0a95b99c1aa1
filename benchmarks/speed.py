"""`paw-mlx bench speed`: tokens and calls per second, and memory, a process per model.

    base       the interpreter with a program's template, without its adapter
    program    the interpreter with the program
    baseline   a large chat model on mlx-lm, prompted with the program's spec

Each runs alone, in this order: load, cool down, warm up; prompts of random ids and tokens
behind them; first tokens of a program that is new and of one in use; one call at a time. Then
memory is read, so it is that of single calls; only after that, many calls at once.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from paw_mlx import formats, hub
from paw_mlx.benchmarks import machine, room, synthetic
from paw_mlx.benchmarks.report import stat
from paw_mlx.benchmarks.room import Needed
from paw_mlx.benchmarks.sizes import Sizes
from paw_mlx.benchmarks.worker import Worker, reason
from paw_mlx.errors import NotFound, OfflineError, OptionError, PawError
from paw_mlx.interpreter.weights import read_source
from paw_mlx.profiles import base_name
from paw_mlx.program import Program
from paw_mlx.wheels import Progress, quiet

BASELINE = "mlx-community/Qwen3-32B-4bit"
MADE_UP = f"made up: rank {synthetic.RANK}, {synthetic.PREFIX_TOKENS} tokens"
_PAW, _MLX_LM = "paw_mlx.benchmarks.subjects:Paw", "paw_mlx.benchmarks.rivals:MlxLm"
_CPU_BYTES = 4_000_000_000  # of a baseline that is tried on a CPU unasked
_LAPTOP_COOLDOWN_S = 30.0
_TOKEN_CHARACTERS = 3  # at least, of text
_HASH_CHARACTERS = 12

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured: tokens, rounds, calls. `max_tokens` bounds a call's output."""

    num_prompt: int = 512
    num_decode: int = 128
    warmups: int = 2
    rounds: int = 5
    cooldown_s: float = 0.0
    at_once: tuple[int, ...] = (1, 8, 32)
    max_tokens: int = 8
    seed: int = 0

    def num_calls(self, at_once: int) -> int:
        """How many calls are timed."""
        return max(8, 2 * at_once) if self.rounds > 1 else at_once


QUICK = Plan(num_prompt=32, num_decode=8, warmups=1, rounds=1)


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


@dataclass(frozen=True)
class _Subject:
    """A row to be, and what its worker is made with."""

    name: str
    model: str
    target: str
    bits: int | None
    keywords: dict[str, Any]

    @property
    def engine(self) -> str:
        return "paw-mlx" if self.target == _PAW else "mlx-lm"


def cooldown_s(quick: bool = False) -> float:
    """The pause before each model: a Mac's GPU needs it to start as cold as the last time."""
    hot = sys.platform == "darwin" and machine.mlx().device == "gpu"
    return _LAPTOP_COOLDOWN_S if hot and not quick else 0.0


def default_baseline(is_synthetic: bool, quick: bool, interpreter: str | None) -> str | None:
    """Qwen3-32B in 4 bits; in a quick run with synthetic models the tiny one beside its like,
    none beside another."""
    if not is_synthetic:
        return BASELINE
    if not quick:
        return "qwen3-32b"
    return "tiny" if interpreter in (None, "tiny") else None


def run(models: Models, plan: Plan, progress: Progress = quiet) -> Iterator[Row]:
    """Measure each subject in each form; the report's rows, as they come.

    What goes wrong with the baseline is the reason it is skipped for, and so is what goes
    wrong in another process once something was measured; before, it is raised.
    """
    for number, subject in enumerate(_paw(models, progress)):
        try:
            row = _measured(subject, plan, progress)
        except (PawError, RuntimeError) as error:
            if number == 0:
                raise
            row = _skipped(subject, error, progress)
        yield row
    if models.baseline is not None:
        yield from _baseline(models, plan, progress)


def settings(models: Models, plan: Plan, progress: Progress = quiet) -> dict[str, Any]:
    """What a report says it was measured with. PawError if the program or its base is not there."""
    found = {**asdict(plan), "program": MADE_UP}
    if models.program:
        path, model = _program(models, progress)
        base = hub.resolve_base(model, offline=models.offline, progress=progress)
        found |= about_program(models.program, formats.load(str(path)), base)
    return found | {"baseline": models.baseline and Path(models.baseline).name}


def about_program(reference: str, program: Program, base: Path) -> dict[str, Any]:
    """What tells a program from others: its name, a hash of what it computes, its rank, and its
    prefix's tokens on a base."""
    tokens = read_source(base).tokenizer.encode(program.template.prefix, control=True)
    return {
        "program": Path(reference).name if Path(reference).is_absolute() else reference,
        "program_digest": program.digest()[:_HASH_CHARACTERS],
        "rank": program.adapter.ranks[-1] if program.adapter else None,
        "prefix_tokens": len(tokens),
    }


def ceiling(token_bytes: int | None, bandwidth: Any) -> float | list[float] | None:
    """Tokens per second that memory allows; a range for a range, None where either is not known."""
    if token_bytes is None or bandwidth is None:
        return None
    if isinstance(bandwidth, Sequence):
        return [gb_s * 1e9 / token_bytes for gb_s in bandwidth]
    return bandwidth * 1e9 / token_bytes


def _paw(models: Models, progress: Progress) -> list[_Subject]:
    """Base and program in each form."""
    known: dict[str, Any]
    if models.synthetic:
        model = models.interpreter or "qwen3-0.6b"
        known = {"synthetic": model}
    else:
        program, model = _program(models, progress)
        path = hub.resolve_base(model, offline=models.offline, progress=progress)
        known = {"reference": str(path), "program": program}
    return [
        _Subject(name, model, _PAW, bits, known | {"bits": bits, "bare": name == "base"})
        for bits in _bits(models)
        for name in ("base", "program")
    ]


def _program(models: Models, progress: Progress) -> tuple[str | None, str]:
    """The program's path, and the base it runs on."""
    if models.program is None:
        return None, models.interpreter or "qwen3-0.6b"
    path = hub.resolve_program(models.program, offline=models.offline, progress=progress)
    return str(path), models.interpreter or base_name(formats.load(path).interpreter)


def _bits(models: Models) -> list[int | None]:
    """Those asked for; of a synthetic base else 4 on a GPU, and dense without one."""
    default = 4 if models.synthetic and machine.mlx().device == "gpu" else None
    return list(dict.fromkeys(bits or default for bits in models.bits))


def _measured(subject: _Subject, plan: Plan, progress: Progress) -> Row:
    """A row, from a process of its own."""
    label = f"{subject.name}, {subject.model}" + (f", {subject.bits} bits" if subject.bits else "")
    packed = subject.bits in (4, 6, 8) and "reference" in subject.keywords
    if packed and subject.target == _PAW:  # in a process that is not measured
        progress(f"{label}: quantizing, unless it is kept")
        with Worker(subject.target, **subject.keywords) as worker:
            worker.call("prepare")
    progress(f"{label}: loading")
    with Worker(subject.target, **subject.keywords) as worker:
        loaded = worker.call("load")
        progress(f"{label}: {loaded['form']}, {loaded['weight_bytes'] / 1e9:.2f} GB")
        time.sleep(plan.cooldown_s)
        found = _protocol(worker, plan, lambda what: progress(f"{label}: {what}"))
    if subject.target == _MLX_LM:  # whose folder may be named by a commit
        loaded["model"] = Path(subject.model).name
    seconds = loaded.pop("load_s")
    return {
        "subject": subject.name,
        "engine": subject.engine,
        "bits": form_bits(loaded["form"]),
        **loaded,
        "load_s": None if seconds is None else stat([seconds]),
        **found,
        "ceiling_tok_s": ceiling(found["token_bytes"], machine.bandwidth_gb_s()),
        "skipped": None,
    }


def _skipped(subject: _Subject, error: Exception, progress: Progress) -> Row:
    """A row without figures."""
    model, why = Path(subject.model).name, reason(error)
    progress(f"{subject.name}, {model}: skipped, {why}")
    row = {"subject": subject.name, "model": model, "engine": subject.engine}
    return row | {"bits": subject.bits, "skipped": why}


def form_bits(form: str) -> int:
    """The bits of a form, as it is worded: of "bfloat16, 4-bit g64" 4; dense counts as 16."""
    packing = re.search(r"(\d+)-bit", form)
    return int(packing[1]) if packing else 16


def _protocol(worker: Worker, plan: Plan, progress: Progress) -> Row:
    """What a loaded model is measured with."""

    def repeated(name: str, **args: Any) -> list[dict[str, float]]:
        found = [worker.call(name, **args) for _ in range(plan.warmups + plan.rounds)]
        return found[plan.warmups :]

    progress("decoding")
    shape = {"num_prompt": plan.num_prompt, "num_decode": plan.num_decode}
    decoded = repeated("prefill_decode", **shape, seed=plan.seed)
    progress("first tokens")
    cold, warm = (repeated("first_token", warm=warm) for warm in (False, True))
    calls = {}
    memory: Row = {}
    for at_once in sorted(plan.at_once):
        if at_once > 1 and not memory:
            memory = worker.call("memory")
        progress(f"calls, {at_once} at once")
        calls[str(at_once)] = _calls(worker, plan, at_once)
    after = worker.call("memory")
    return {
        "prefill_tok_s": stat(plan.num_prompt / one["prefill_s"] for one in decoded),
        "decode_tok_s": stat((plan.num_decode - 1) / one["decode_s"] for one in decoded),
        "ttft_cold_s": stat(one["seconds"] for one in cold),
        "ttft_warm_s": stat(one["seconds"] for one in warm),
        "calls_s": calls,
        **(memory or after),
        "batch_peak_bytes": after["peak_bytes"],
        **worker.call("expected", **shape),
    }


def _calls(worker: Worker, plan: Plan, at_once: int) -> dict[str, float]:
    """Calls per second, round by round; `together` if fewer than `at_once` were decoded so."""
    asked = {"at_once": at_once, "max_tokens": plan.max_tokens}
    for _ in range(plan.warmups):  # shapes that were not seen yet
        worker.call("calls", num=at_once, **asked)
    num = plan.num_calls(at_once)
    done = [worker.call("calls", num=num, **asked) for _ in range(plan.rounds)]
    together = min(one.get("together", at_once) for one in done)
    found = stat(one["num"] / one["seconds"] for one in done)
    return found | ({"together": together} if together < at_once else {})


def _baseline(models: Models, plan: Plan, progress: Progress) -> Iterator[Row]:
    """The baseline's rows: measured, or why not."""
    for bits in _baseline_bits(models):
        model = str(models.baseline)
        subject = _Subject("baseline", model, _MLX_LM, bits, {})
        try:
            keywords, needed = _needed(models, bits, plan, progress)
            fitting = tuple(n for n in plan.at_once if needed.bytes(n) <= needed.limit)
            subject = replace(subject, keywords=keywords)
            row = _measured(subject, replace(plan, at_once=fitting), progress)
            row |= _left_out(needed, plan, fitting, progress)
        except (PawError, RuntimeError) as error:  # what ours measured is worth keeping
            row = _skipped(subject, error, progress)
        yield row


def _left_out(
    needed: Needed, plan: Plan, fitting: Sequence[int], progress: Progress
) -> dict[str, str]:
    """The numbers of calls at once that were not tried, and why; nothing where all were."""
    missing = [n for n in plan.at_once if n not in fitting]
    if not missing:
        return {}
    why = ", ".join(f"{n} at once need {needed.bytes(n) / 1e9:.1f} GB" for n in missing)
    why += f", and this machine gives {needed.limit / 1e9:.1f} GB"
    progress(f"baseline: left out, {why}")
    return {"left_out": why}


def _baseline_bits(models: Models) -> list[int | None]:
    """A synthetic baseline is packed like the base, 4 bits where that is dense by default."""
    if not models.synthetic:
        return [None]
    return list(dict.fromkeys(bits or 4 for bits in _bits(models)))


def _needed(
    models: Models, bits: int | None, plan: Plan, progress: Progress
) -> tuple[dict[str, Any], Needed]:
    """How the baseline is made, and what it takes; PawError if it cannot run here."""
    reference = str(models.baseline)
    if models.synthetic:
        keywords = {"synthetic": reference, "bits": bits}
        return keywords, _fits(room.sizes_of(synthetic.config(reference), bits), plan, models)
    if reference == BASELINE:  # its size is known before it is here
        _fits(room.sizes_of(synthetic.config("qwen3-32b"), 4), plan, models)
    path, told = _installed(reference, progress), _instruction(models)
    config = room.config_of(path)
    sizes = room.sizes_of(config, config["quantization"].get("bits"))
    needed = _fits(sizes, plan, models, path, told)
    return {"reference": str(path), "instruction": told}, needed


def _fits(
    sizes: Sizes | None,
    plan: Plan,
    models: Models,
    path: Path | None = None,
    instruction: str | None = None,
) -> Needed:
    """What a baseline takes; PawError if that is too much, or would take hours."""
    call = _prefix_tokens(instruction) + synthetic.INPUT_TOKENS + plan.max_tokens
    needed = Needed(
        weight_bytes=sizes.weight_bytes if sizes else room.weight_bytes(path or Path()),
        prompt_bytes=room.cache_bytes(sizes, plan.num_prompt + plan.num_decode),
        call_bytes=room.cache_bytes(sizes, call),
    )
    needed.check()
    if machine.mlx().device == "cpu" and needed.bytes() > _CPU_BYTES and not models.insist:
        raise PawError(
            f"it needs {needed.bytes() / 1e9:.1f} GB, and would take hours without a GPU; "
            "name it with --baseline-model to measure it all the same"
        )
    return needed


def _prefix_tokens(instruction: str | None) -> int:
    """What a call's prompt begins with, by its characters; no tokenizer is read for it."""
    told = len(instruction) // _TOKEN_CHARACTERS if instruction else synthetic.PREFIX_TOKENS
    return told + room.CHAT_TOKENS


def _installed(reference: str, progress: Progress) -> Path:
    """A baseline's folder, as mlx-lm loads it; nothing as large is fetched unasked."""
    from paw_mlx.compiler.installed import loadable_by_mlx_lm

    try:
        path = hub.resolve_base(reference, offline=True)
    except OfflineError as error:
        raise NotFound(f"{reference} is not on this machine", hint=error.hints[0]) from error
    return loadable_by_mlx_lm(path, progress)


def _instruction(models: Models) -> str | None:
    """The program's spec, or its pseudo-program where it has none."""
    if models.program is None:
        return None
    program = formats.load(hub.resolve_program(models.program, offline=True))
    return program.spec or program.pseudo_program or program.template.text
