"""`paw-mlx bench compile-quality`: how good compiled programs are, by kind."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import OptionError, PawError
from ..profiles import base_name
from .bench import measured, output_option
from .command import Command
from .options import PATH, interpreter_option, json_option, offline_option
from .specs import read_kinds
from .voice import say, status

if TYPE_CHECKING:
    from ..benchmarks.accuracy.methods import Lab
    from ..benchmarks.quality.questions import Asked
    from ..benchmarks.quality.study import Answered, Study
    from ..compiler.pipeline import Compiler


@click.command(name="compile-quality", cls=Command)
@click.argument("data", nargs=-1, type=PATH)
@click.option(
    "--hold-out", "held_out", metavar="KIND", multiple=True,
    help="A kind that the compiler was not trained on; a file of kinds as @FILE.  "
    "[default: without DATA those of the embedded compiler]",
)  # fmt: skip
@click.option(
    "--sets", metavar="A,B,…", help="Of unseen, held-out, test.  [default: all that there are]"
)
@click.option("--functions", type=int, help="Drawn from each set at most.  [default: all]")
@click.option("--cases", type=int, help="Judged of each function at most.  [default: all]")
@click.option(
    "--compiler", metavar="REF", help="[default: the one that writes for the interpreter]"
)
@interpreter_option("[default: the compiler's, or else smollm2-135m]")
@click.option(
    "--fixed", metavar="COMPILER", help="Made with train-compiler --fixed: one LoRA for every spec."
)
@click.option(
    "--tune", metavar="K,L,…",
    help="Train on from compiled programs, and from nothing, with so many cases of each function.",
)  # fmt: skip
@click.option("--steps", default=120, show_default=True, help="Of training, for --tune.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is drawn."
)
@offline_option
@output_option
@json_option
def command(
    data: tuple[Path, ...],
    held_out: tuple[str, ...],
    sets: str | None,
    functions: int | None,
    cases: int | None,
    compiler: str | None,
    interpreter: str | None,
    fixed: str | None,
    tune: str | None,
    steps: int,
    seed: int,
    offline: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compile the functions of DATA that a compiler never saw, and count exact matches.

    DATA is JSONL files of fuzzy functions or folders of them, by default the corpus that comes
    along; it is divided as `train-compiler` divides it, and functions in a file test.jsonl are a
    set of their own. Each is asked by one of its specs. The compiled programs stand beside the bare
    base, one fixed LoRA, and LoRAs trained on some of a function's own cases, which are not judged.
    """
    sizes = _read_sizes(tune)
    from ..benchmarks.accuracy.methods import Lab, StudyOptions
    from ..benchmarks.quality import questions
    from ..benchmarks.quality.study import Study
    from ..compiler.installed import EMBEDDED
    from ..compiler.pipeline import Compiler

    kinds = read_kinds(held_out or (() if data else (f"@{questions.HELD_KINDS}",)))
    found = questions.read_sets(data or questions.CORPUS, kinds)
    names = _read_names(sets, questions.SETS)
    asked = questions.ask(found, names, functions, cases, seed)

    more: dict[str, Any] = {"offline": offline, "progress": status}
    reference = compiler or (None if interpreter else EMBEDDED.name)
    loaded = Compiler.load(reference, interpreter=interpreter, **more)
    base = interpreter or base_name(loaded.checkpoint.interpreter)
    beside = Compiler.load(fixed, interpreter=base, **more) if fixed else None
    options = StudyOptions(base, steps=steps, seed=seed, offline=offline)
    with Lab(options, status) as lab, tempfile.TemporaryDirectory() as folder:
        about = _describe(lab, loaded, beside, asked)
        about |= {"source": ", ".join(path.resolve().name for path in data) or "functions"}
        about |= {"held_kinds": kinds, "cases": cases, "tune": sizes or None}
        about |= {"steps": steps if sizes else None, "seed": seed}
        settings = {key: value for key, value in about.items() if value is not None}
        with measured("quality", settings, output, as_json) as rows:
            _measure(Study(lab, loaded, beside, Path(folder)), asked, sizes, rows, as_json)


def _measure(
    study: Study,
    asked: Sequence[Asked],
    sizes: Sequence[int],
    rows: list[dict[str, Any]],
    silent: bool,
) -> None:
    """Ask everything, and fill the rows, also when that is cut short."""
    from ..benchmarks.quality import scores

    answered: list[Answered] = []
    try:
        for each in chain(study.run(asked), study.tune(asked, sizes)):
            answered.append(each)
            right, num = sum(one.correct for one in each.judged), len(each.judged)
            line = f"{each.asked.set}: {each.asked.function.name}, {each.method}: {right}/{num}"
            (status if silent else say)(line)
    finally:
        rows.extend(scores.rows(answered, study.lab.options.seed))
    for num in sizes:
        if not any(each.method == f"tuned-{num}" for each in answered):
            why = f"no compiled function has more than {num} cases that could be judged"
            rows += [{"method": f"{name}-{num}", "skipped": why} for name in ("tuned", "trained")]
    errors = [one.error for each in answered if each.method == "compiled" for one in each.judged]
    if all(errors):
        raise PawError(f"no program of {len(asked)} functions ran: {errors[0]}")


def _describe(
    lab: Lab, compiler: Compiler, fixed: Compiler | None, asked: Sequence[Asked]
) -> dict[str, Any]:
    """Say what the figures depend on."""
    texts = repr([(each.task.spec, each.task.test) for each in asked])
    return {
        "compiler": compiler.checkpoint.folder.name,
        "compiler_fingerprint": compiler.fingerprint[:16],
        "fixed": fixed and fixed.checkpoint.folder.name,
        "interpreter": lab.base,
        "weights": lab.interpreter.base.fingerprint[:16],
        "functions": len(asked),
        "data": hashlib.sha256(texts.encode()).hexdigest()[:16],
    }


def _read_names(given: str | None, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in given.split(",")] if given else [*known]
    if odd := [name for name in names if name not in known]:
        raise OptionError(f"there is no set {odd[0]!r}", hint=f"There are {', '.join(known)}.")
    return list(dict.fromkeys(names))


def _read_sizes(given: str | None) -> list[int]:
    """Read numbers of cases to learn from; two at least, for one chooses the best state."""
    parts = [part.strip() for part in given.split(",")] if given else []
    if not all(part.isascii() and part.isdigit() and int(part) > 1 for part in parts):
        raise OptionError(f"--tune takes numbers of cases from 2, as in 5,20, not {given!r}")
    return sorted({int(part) for part in parts})
