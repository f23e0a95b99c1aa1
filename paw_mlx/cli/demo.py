"""`paw-mlx demo`: example programs on inputs they never saw."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..cases import read_cases
from ..errors import NotFound
from .command import Command
from .common import print_json, table
from .options import PATH, json_option, offline_option
from .voice import say

if TYPE_CHECKING:
    from ..interpreter import Interpreter
    from ..program import Program

_WIDTH = 96
_BASE_ROWS = 32  # of each program, to see that the base alone is wrong
_ROWS_AT_ONCE = 8  # more are no faster on a CPU, and take up to 2 GB
_RAMBLE = 20  # tokens of what the bare base says; it would go on for hundreds


@dataclass(frozen=True)
class Shown:
    """An input, what base and program make of it, and what is right."""

    input: str
    base: str
    program: str
    right: str


@dataclass(frozen=True)
class Tried:
    """One example program: accuracy on its held-out rows, without it (the first) and with it."""

    name: str
    rows: int
    accuracy_base: float
    accuracy_program: float
    tok_s: float
    shown: list[Shown]


@click.command(cls=Command)
@click.argument("folder", type=PATH, required=False)
@click.option(
    "--inputs", "num", type=click.IntRange(0), default=4, show_default=True,
    help="Inputs to show per program.",
)  # fmt: skip
@offline_option
@json_option
def command(folder: Path | None, num: int, offline: bool, as_json: bool) -> None:
    """Run the example programs on held-out inputs, without and with their adapter.

    FOLDER holds one folder per program, with `program.paw` and `test.jsonl`; the project's
    own examples by default. The base is SmolLM2-135M, fetched once (98 MB).
    """
    folders = _find_examples(folder or Path(__file__).parents[2] / "examples")
    from .. import Interpreter, formats, hub

    path = hub.resolve_base("smollm2-135m", offline=offline, progress=say)
    say(f"base: SmolLM2-135M-Instruct, {path}")
    reports = []
    with Interpreter.load(str(path), max_rows=_ROWS_AT_ONCE) as interpreter:
        for place in folders:
            program = formats.load(place / "program.paw")
            report = _try(interpreter, program, place, num)
            reports.append(report)
            if not as_json:
                _show(report, program)
        peak_bytes, device = interpreter.peak_bytes, interpreter.device
    if as_json:
        record = {"programs": [asdict(report) for report in reports]}
        print_json(record | {"peak_bytes": peak_bytes, "device": device})
    else:
        click.echo(_summary(reports, peak_bytes))


def _find_examples(root: Path) -> list[Path]:
    """Return the folders that hold a program. NotFound if none does."""
    found = sorted(path.parent for path in root.glob("*/program.paw"))
    if not found:
        raise NotFound(
            f"no example programs in {root}",
            hint="Run the demo in a checkout of paw-mlx, or name the folder.",
        )
    return found


def _try(interpreter: Interpreter, program: Program, place: Path, num: int) -> Tried:
    """Run the first rows one by one, both ways; judge all of them, of the base alone a few."""
    from .. import Function, Options
    from ..evaluation import judge

    cases = read_cases(place / "test.jsonl")
    bare = replace(program, adapter=None)
    # The base alone would go on for hundreds of tokens: one more than is right tells enough.
    encode = interpreter.base.tokenizer.encode
    enough = Options(max_tokens=1 + max(len(encode(case.output.strip())) for case in cases))
    shown, results = [], []
    for case in cases[:num]:
        base = interpreter.run(bare, case.input, Options(max_tokens=_RAMBLE))
        result = interpreter.run(program, case.input)
        results.append(result)
        shown.append(Shown(case.input, base.text, result.text, case.output))
    steps = sum(result.output_tokens - 1 for result in results)
    return Tried(
        name=place.name,
        rows=len(cases),
        accuracy_base=judge(Function(interpreter, bare), cases[:_BASE_ROWS], enough).accuracy,
        accuracy_program=judge(Function(interpreter, program), cases).accuracy,
        tok_s=steps / max(sum(result.decode_s for result in results), 1e-9),
        shown=shown,
    )


def _show(report: Tried, program: Program) -> None:
    assert program.adapter is not None
    size = program.adapter.nbytes / 1e6
    title = f"{report.name}  (adapter of {size:.1f} MB)"
    click.echo(f"\n{click.style(title, bold=True)}\n{_cut(program.spec)}\n")
    for row in report.shown:
        mark = "✓" if row.program == row.right else "✗"
        click.echo(f"  input      {_cut(row.input)}")
        click.echo(f"  base says  {_cut(row.base)}")
        click.echo(f"  program    {_cut(row.program)} {mark}")
        if row.program != row.right:
            click.echo(f"  right      {_cut(row.right)}")
        click.echo()


def _summary(reports: list[Tried], peak_bytes: int) -> str:
    head = ["held-out inputs", "rows", "base alone", "with program", "tok/s"]
    rows = [
        [
            report.name,
            str(report.rows),
            f"{report.accuracy_base:.1%}",
            f"{report.accuracy_program:.1%}",
            f"{report.tok_s:.0f}",
        ]
        for report in reports
    ]
    note = (
        "An output counts if it is exactly right. The base alone is given the same prompt, "
        f"on the first {_BASE_ROWS} rows."
    )
    return f"{table([head, *rows])}\n\n{note}\npeak memory {peak_bytes / 1e9:.2f} GB"


def _cut(text: str) -> str:
    """Return one line of at most _WIDTH characters."""
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
