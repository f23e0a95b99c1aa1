"""One at a time against batches: what decoding many calls together is worth.

    python -m paw_mlx.benchmarks.batch [--json] [--num 1000]

Every ratio compares two ways of doing the same on the same machine in the same run, with the
interpreter warm. A single row reads all weights for one token, so decoding alone is bound by
bandwidth (on fast chips by kernel launches); a batch reads them once for all rows. A prompt's
evaluation is bound by arithmetic already, and gains least.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import mean, median

import click

from paw_mlx import formats, hub
from paw_mlx.adapter import Adapter
from paw_mlx.benchmarks.speed.subject import inputs
from paw_mlx.benchmarks.speed.synthetic import filler
from paw_mlx.cases import read_cases
from paw_mlx.functions import Function
from paw_mlx.interpreter import Interpreter
from paw_mlx.interpreter.interpreter import MAX_ROWS
from paw_mlx.machine import card
from paw_mlx.program import Program
from paw_mlx.runner import Options, Result

EXAMPLES = Path(__file__).parents[1] / "examples"
NUM_PROGRAMS = 16


@click.command()
@click.option("--interpreter", "base", default="smollm2-135m", show_default=True, metavar="REF")
@click.option("--program", type=click.Path(path_type=Path), default=EXAMPLES / "email-triage")
@click.option("--copying", type=click.Path(path_type=Path), default=EXAMPLES / "json-repair")
@click.option("--num", default=1000, show_default=True, help="Inputs.")
@click.option("--max-rows", default=MAX_ROWS, show_default=True, help="Calls that decode at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(base: str, program: Path, copying: Path, num: int, max_rows: int, as_json: bool) -> None:
    """Measure batches, mixed programs, prefixes, switching and drafts; print the ratios."""
    path = hub.resolve_base(base)
    with Interpreter.load(str(path), max_rows=max_rows) as interpreter:
        loaded = formats.load(program / "program.paw")
        copier = formats.load(copying / "program.paw")
        cases = [case.input for case in read_cases(copying / "test.jsonl")]
        report: dict[str, object] = {"num": num, "max_rows": max_rows, "base": Path(path).name}
        report |= measure_batches(interpreter, loaded, list(islice(inputs(), num)))
        report |= measure_prefixes(interpreter, loaded)
        report |= measure_switching(interpreter, loaded)
        report |= measure_drafts(interpreter.function(copier), cases)
        report |= card()
        report["device"] = interpreter.device
        report["dtype"] = str(interpreter.base.dtype).removeprefix("mlx.core.")
    if as_json:
        click.echo(json.dumps(report))
        return
    for key, value in report.items():
        click.echo(f"{key:<22}{f'{value:.3g}' if isinstance(value, float) else value}")


def vary(program: Program, num: int) -> list[Program]:
    """Make programs whose adapters differ a little: alpha by a thousandth each."""
    assert program.adapter is not None
    sites = program.adapter.sites.items()
    adapters = (
        Adapter({site: replace(lora, alpha=lora.alpha * (1 + i / 1000)) for site, lora in sites})
        for i in range(num)
    )
    return [replace(program, adapter=adapter) for adapter in adapters]


def measure_batches(
    interpreter: Interpreter, program: Program, texts: Sequence[str]
) -> dict[str, object]:
    """Measure calls per second one at a time, in batches, and in batches of 16 programs."""
    fn, programs = interpreter.function(program), vary(program, NUM_PROGRAMS)

    def mix(texts: Sequence[str]) -> None:
        calls = [(programs[i % NUM_PROGRAMS], text) for i, text in enumerate(texts)]
        for future in [interpreter.submit(*call) for call in calls]:
            future.result()

    fn(texts[0])
    mix(texts[: 2 * NUM_PROGRAMS])
    start = time.perf_counter()
    alone = [fn(text) for text in texts]
    between = time.perf_counter()
    together = list(fn.map(texts))
    after = time.perf_counter()
    mix(texts)
    end = time.perf_counter()
    one_s, batch_s, mixed_s = between - start, after - between, end - after
    return {
        "one_by_one_calls_s": len(texts) / one_s,
        "batch_calls_s": len(texts) / batch_s,
        "mixed_calls_s": len(texts) / mixed_s,
        "batch_ratio": one_s / batch_s,
        "mixed_ratio": batch_s / mixed_s,
        "identical": alone == together,
    }


def measure_prefixes(interpreter: Interpreter, program: Program) -> dict[str, object]:
    """Time the first token behind a prefix of 400 tokens against one of 40, both warm."""
    prefixes = (filler(interpreter.base.tokenizer, tokens) for tokens in (40, 400))
    templates = [replace(program.template, prefix=prefix) for prefix in prefixes]
    programs = [replace(program, template=template) for template in templates]
    short, long = _first_tokens(interpreter, programs, 20)
    return {"ttft_s": short, "ttft_ratio": long / short}


def measure_switching(interpreter: Interpreter, program: Program) -> dict[str, object]:
    """Time the first token of two programs in turn, against one alone."""
    two = vary(program, 2)
    (alone,) = _first_tokens(interpreter, two[:1], 40)
    return {"switch_ratio": mean(_first_tokens(interpreter, two, 20)) / alone}


def measure_drafts(fn: Function, texts: Sequence[str]) -> dict[str, object]:
    """Count forward passes per output token, and time, with drafts from the input and without."""
    fn(texts[0])
    results: dict[bool, list[Result]] = {False: [], True: []}
    seconds = {False: 0.0, True: 0.0}
    for text in texts:
        for lookup, found in results.items():
            start = time.perf_counter()
            found.append(fn.run(text, lookup=lookup))
            seconds[lookup] += time.perf_counter() - start
    steps = sum(result.num_steps for result in results[True])
    return {
        "steps_per_token": steps / sum(result.output_tokens for result in results[True]),
        "lookup_speedup": seconds[False] / seconds[True],
        "lookup_identical": [r.text for r in results[False]] == [r.text for r in results[True]],
    }


def _first_tokens(interpreter: Interpreter, programs: Sequence[Program], num: int) -> list[float]:
    """The median time to a first token of each program, taken in turn, warm."""
    rounds = [
        [
            interpreter.run(program, "server down", Options(max_tokens=1)).prefill_s
            for program in programs
        ]
        for _ in range(num + 2)
    ]
    return [median(times) for times in zip(*rounds[2:], strict=True)]


if __name__ == "__main__":
    main()
