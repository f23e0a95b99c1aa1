"""`paw-mlx verify`: whether two artifacts compute the same.

Exit code 0 if they do, exactly or within the rounding of their dtypes, and 1 if not. What they
say on a base is told besides: a rounding may turn an output, and a near-tie is enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .command import Command
from .common import print_json, print_text, quoted, table
from .options import (
    PATH,
    alpha_option,
    interpreter_option,
    json_option,
    offline_option,
    rslora_option,
)
from .references import ARTIFACT
from .voice import status

if TYPE_CHECKING:
    from ..convert.verify import Run, Verdict

_MOST = 5  # problems shown; JSON has them all


@click.command(cls=Command)
@click.argument("a", metavar="A", type=ARTIFACT)
@click.argument("b", metavar="B", type=ARTIFACT)
@interpreter_option("Compare logits and outputs on this base.")
@click.option(
    "--inputs",
    type=PATH,
    help='On these inputs: one a line, or a .jsonl with "input".  [default: three of ours]',
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Output tokens at most.",
)
@offline_option
@alpha_option
@rslora_option
@json_option
def command(
    a: str,
    b: str,
    interpreter: str | None,
    inputs: Path | None,
    max_tokens: int,
    offline: bool,
    alpha: float | None,
    rslora: bool,
    as_json: bool,
) -> None:
    """Compare what the programs or adapters A and B compute, site by site.

    Each is a path in any layout, a name in the store, or a hub reference. Exits with 1 if they
    differ by more than the rounding of their dtypes.
    """
    if inputs and not interpreter:
        raise click.UsageError("--inputs are run on a base: name it with --interpreter")
    from .. import hub
    from ..convert.program import read_any
    from ..convert.verify import INPUTS, read_inputs, verify
    from ..interpreter.models.load import load_base

    texts = read_inputs(inputs) if inputs else INPUTS
    paths = [hub.resolve_adapter(one, offline=offline, progress=status) for one in (a, b)]
    base = None
    if interpreter:
        path = hub.resolve_base(interpreter, offline=offline, progress=status)
        base = load_base(path, progress=status)
    one, other = (
        read_any(path, base and base.profile, alpha=alpha, rslora=rslora) for path in paths
    )
    verdict = verify(one, other, base=base, inputs=texts, max_tokens=max_tokens)
    if as_json:
        print_json(verdict.record())
    else:
        print_text(_sheet(verdict))
    if not verdict.ok:
        raise click.exceptions.Exit(1)


def _sheet(verdict: Verdict) -> str:
    lines = [table(verdict.receipt.rows()), ""]
    problems = verdict.receipt.problems
    lines += problems[:_MOST]
    if len(problems) > _MOST:
        lines.append(f"and {len(problems) - _MOST} more")
    if verdict.differing:
        lines.append(f"not the same texts: {', '.join(verdict.differing).replace('_', '-')}")
    if verdict.runs:
        lines += _report_runs(verdict.runs)
    return "\n".join([*lines, str(verdict)])


def _report_runs(runs: tuple[Run, ...]) -> list[str]:
    """Say how logits and outputs compare, and show the first output that differs."""
    prompt, path = (max(getattr(r, key) for r in runs) for key in ("prompt_diff", "path_diff"))
    parted = [run for run in runs if not run.equal]
    lines = [
        f"logits differ by at most {prompt:.2g} after the prompt, {path:.2g} along A's outputs",
        f"outputs are equal for {len(runs) - len(parted)} of {len(runs)} inputs",
    ]
    for run in parted[:1]:
        texts = {"input": run.input, "A": run.outputs[0], "B": run.outputs[1]}
        lines += [f"  {name:<7}{quoted(text)}" for name, text in texts.items()]
        lines.append(
            f"  they part after {run.parted} tokens, where A's two best are {run.gap:.2g} nats "
            f"apart: {'a' if run.is_near_tie else 'no'} near-tie"
        )
    return lines
