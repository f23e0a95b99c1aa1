"""`paw-mlx pairs`: a teacher writes the examples of a function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import listed
from ..words import counted
from .command import Command
from .common import print_json, read_input, table
from .options import PATH, declare_options, json_option, offline_option, teacher_options
from .specs import check_writable, choose_output
from .voice import StatusLine, say, status

if TYPE_CHECKING:
    from ..output import Output
    from ..teaching.report import PairsReport

_MOST_LABELS = 12


@click.command(cls=Command)
@click.argument("spec", required=False)
@click.option(
    "-f", "--file", "spec_file", metavar="SPEC.txt", type=PATH, help="Read the spec from a file."
)
@click.option(
    "-o", "--output", required=True, metavar="PAIRS.jsonl", type=PATH,
    help="The file of pairs; what it holds already counts.",
)  # fmt: skip
@click.option(
    "-n", "--num", "num_pairs", type=click.IntRange(1),
    help="Pairs to write.  [default: 600; all of a FILE]",
)  # fmt: skip
@teacher_options
@declare_options
@click.option("--seed", default=0, show_default=True)
@offline_option
@json_option
def command(
    spec: str | None,
    spec_file: Path | None,
    output: Path,
    num_pairs: int | None,
    teacher: dict[str, Any],
    declared: Output | None,
    seed: int,
    offline: bool,
    as_json: bool,
) -> None:
    """Have a teacher write pairs {"input": …, "output": …} for SPEC, a function in English.

    Each is asked for twice, and dropped where the answers disagree, where the output is not of the
    function's type, or where it says what others say. The same command goes on after an interrupt,
    or with a larger -n. The exit code is 1 if there are fewer than -n in the end.
    """
    text = read_input(spec, spec_file).strip()
    check_writable(output)
    output_type = choose_output(declared, text, silent=as_json)
    from ..teaching.function import Function
    from ..teaching.pairs import make_pairs
    from ..teaching.teacher import find_teacher

    found = find_teacher(**teacher, offline=offline, progress=status)
    done = make_pairs(
        Function(text, output_type), found, output, num_pairs, seed=seed, report=draw_pairs
    )
    StatusLine.wipe()
    if as_json:
        print_json(done.record() | {"path": str(output), "output": output_type.record()})
    else:
        click.echo(show_pairs(done))
        say(f"wrote {output}")
    if done.stopped:
        raise click.exceptions.Exit(1)


def draw_pairs(so_far: PairsReport) -> None:
    """Draw how far a teacher is, on a terminal."""
    parts = [f"{so_far.kept:,}/{so_far.wanted:,} pairs", f"{so_far.num_dropped:,} dropped"]
    parts.append(counted(so_far.questions, "question"))
    StatusLine.draw("  ".join(parts))


def show_pairs(done: PairsReport) -> str:
    """Return what was kept, and what was dropped and why, as lines."""
    rows = [["pairs", ""], ["kept", f"{done.kept:,}"]]
    if done.by_label and len(done.by_label) <= _MOST_LABELS:
        rows += [[f"  {label}", f"{num:,}"] for label, num in done.by_label.items()]
    rows.append(["dropped", f"{done.num_dropped:,}"])
    rows += [[f"  {reason}", f"{num:,}"] for reason, num in done.dropped.most_common()]
    earlier = f", {done.found:,} of them earlier" if done.found else ""
    lines = [
        table(rows),
        "",
        f"{done.kept:,} of {counted(done.wanted, 'pair')}{earlier}, "
        f"by {counted(done.questions, 'question')} to {done.teacher}, in {done.seconds:.1f} s",
    ]
    if missing := [label for label, num in (done.by_label or {}).items() if not num]:
        lines.append(f"none with the label {listed(missing)}")
    if done.stopped:
        lines.append(f"stopped: {done.stopped}")
    return "\n".join(lines)
