"""`paw-mlx bench versus`: paw-mlx, mlx-lm and llama.cpp in turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from .bench import measured, output_option, program_option
from .command import Command
from .options import PATH, bits_option, interpreter_option, json_option, offline_option
from .voice import say, status


@click.command(cls=Command)
@interpreter_option("[default: the program's, or qwen3-0.6b]")
@program_option
@bits_option("Quantize the base.")
@click.option(
    "--cases", metavar="FILE.jsonl", type=PATH,
    help="Inputs that outputs are compared on.  [default: made up]",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), help="[default: 5, behind 1 that warms up]")
@click.option("--quick", is_flag=True, help="Reduced sizes: shows that it runs.")
@offline_option
@output_option
@json_option
def command(
    interpreter: str | None,
    program: str | None,
    bits: int | None,
    cases: Path | None,
    rounds: int | None,
    quick: bool,
    offline: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Run one base and one adapter under paw-mlx, mlx-lm and llama.cpp, round by round.

    llama.cpp takes part if llama-cpp-python is installed and the base is a GGUF file.
    """
    from .. import formats, hub
    from ..benchmarks.speed import speed, versus
    from ..cases import read_cases
    from ..profiles import base_name

    tell = status if as_json else say
    texts = [case.input for case in read_cases(cases)] if cases else []
    loaded = None
    if program:
        loaded = formats.load(hub.resolve_program(program, offline=offline))
    reference = interpreter or (base_name(loaded.interpreter) if loaded else "qwen3-0.6b")
    base = hub.resolve_base(reference, offline=offline, progress=tell)
    plan = versus.QUICK if quick else versus.VersusPlan()
    plan = replace(plan, rounds=rounds) if rounds else plan
    settings = versus.settings(plan, bits, len(texts), made_up=loaded is None)
    settings |= {"interpreter": base.name, "program": speed.MADE_UP}
    if program and loaded:
        settings |= speed.describe(program, loaded, base)
    with measured("versus", settings, output, as_json) as rows:
        rows.extend(versus.run(base, loaded, texts, plan, bits, tell))
