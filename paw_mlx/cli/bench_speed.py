"""`paw-mlx bench speed`: tokens and calls per second, and memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..errors import OptionError
from .bench import measured, output_option, program_option
from .command import Command
from .options import BITS, FiniteRange, interpreter_option, json_option, offline_option
from .voice import say, status


def _parse_bits(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[int, ...]:
    """Return `4,8` as numbers."""
    try:
        found = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        found = (0,)
    if any(bits not in BITS for bits in found):
        raise click.BadParameter(f"{text!r} is no list of {', '.join(map(str, BITS))}")
    return found


@click.command(cls=Command)
@interpreter_option("[default: the program's, or qwen3-0.6b]")
@program_option
@click.option(
    "--baseline-model", "baseline", metavar="REF",
    help="Prompted through mlx-lm.  [default: mlx-community/Qwen3-32B-4bit]",
)  # fmt: skip
@click.option("--no-baseline", is_flag=True, help="Leave the large model out.")
@click.option(
    "--bits", callback=_parse_bits, metavar="4,8,…",
    help="Forms of the base.  [default: as stored]",
)  # fmt: skip
@click.option("--synthetic", is_flag=True, help="Random weights of exact shapes; no download.")
@click.option("--quick", is_flag=True, help="Reduced sizes, one round: shows that it runs.")
@click.option("--rounds", type=click.IntRange(1), help="[default: 5, behind 2 that warm up]")
@click.option(
    "--cooldown", type=FiniteRange(0), metavar="S",
    help="Seconds before each model.  [default: 30 on a Mac's GPU, else 0]",
)  # fmt: skip
@offline_option
@output_option
@json_option
def command(
    interpreter: str | None,
    program: str | None,
    baseline: str | None,
    no_baseline: bool,
    bits: tuple[int, ...],
    synthetic: bool,
    quick: bool,
    rounds: int | None,
    cooldown: float | None,
    offline: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure the base, a program on it, and a large model prompted instead.

    Each runs in a process of its own, so that peaks are its own. With --synthetic, REF names
    a shape: qwen3-0.6b, qwen3-1.7b, qwen3-4b, qwen3-8b, qwen3-32b.
    """
    if baseline and no_baseline:
        raise OptionError("give --baseline-model or --no-baseline, not both")
    from ..benchmarks.speed import speed

    tell = status if as_json else say
    plan = replace(speed.QUICK if quick else speed.SpeedPlan(), cooldown_s=speed.cooldown_s(quick))
    changes: dict[str, Any] = {"rounds": rounds, "cooldown_s": cooldown}
    plan = replace(plan, **{key: value for key, value in changes.items() if value is not None})
    default = speed.default_baseline(synthetic, quick, interpreter)
    models = speed.Models(
        interpreter=interpreter or ("tiny" if synthetic and quick else None),
        program=program,
        baseline=None if no_baseline else baseline or default,
        bits=bits or (None,),
        synthetic=synthetic,
        offline=offline,
        insist=baseline is not None,
    )
    settings = speed.settings(models, plan, tell)
    with measured("speed", settings, output, as_json, synthetic=synthetic) as rows:
        rows.extend(speed.run(models, plan, tell))
