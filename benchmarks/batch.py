"""One at a time against batches: what decoding many calls together is worth.

    python -m paw_mlx.benchmarks.batch [--json] [--num 1000]

Every ratio compares two ways of doing the same on the same machine in the same run, with the
interpreter warm. A single row reads all weights for one token, so decoding alone is bound by
bandwidth (on fast chips by kernel launches); a batch reads them once for all rows. A prompt's
evaluation is bound by arithmetic already, and gains least.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import click

from paw_mlx import formats, hub
from paw_mlx.adapter import Adapter
from paw_mlx.benchmarks.asking import inputs
from paw_mlx.benchmarks.machine import card
from paw_mlx.cases import read_cases
from paw_mlx.interpreter import Function, Interpreter, Options, Result
from paw_mlx.program import Program

EXAMPLES = Path(__file__).parents[1] / "examples"
NUM_PROGRAMS = 16


@click.command()
@click.option("--interpreter", "base", default="smollm2-135m", show_default=True, metavar="REF")
@click.option("--program", type=click.Path(path_type=Path), default=EXAMPLES / "email-triage")
@click.option("--copying", type=click.Path(path_type=Path), default=EXAMPLES / "json-repair")
@click.option("--num", default=1000, show_default=True, help="Inputs.")
@click.option("--max-rows", default=64, show_default=True, help="Calls that decode at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(base: str, program: Path, copying: Path, num: int, max_rows: int, as_json: bool) -> None:
    """Measure batches, mixed programs, prefixes, switching and drafts; print the ratios."""
    path = hub.resolve_base(base)
    with Interpreter.load(str(path), max_rows=max_rows) as interpreter:
        loaded = formats.load(program / "program.paw")
        copier = formats.load(copying / "program.paw")
        cases = [case.input for case in read_cases(copying / "test.jsonl")]
        report: dict[str, object] = {"num": num, "max_rows": max_rows, "base": Path(path).name}
        report |= batches(interpreter, loaded, list(islice(inputs(), num)))
        report |= prefixes(interpreter, loaded)
        report |= switching(interpreter, loaded)
        report |= drafts(interpreter.function(copier), cases)
        report |= card()
        report["device"] = interpreter.device
        report["dtype"] = str(interpreter.base.dtype).removeprefix("mlx.core.")
    if as_json:
        click.echo(json.dumps(report))
    else:
        for key, value in report.items():
            shown = f"{value:.3g}" if isinstance(value, float) else value
            click.echo(f"{key:<22}{shown}")


def variants(program: Program, num: int) -> list[Program]:
    """Programs whose adapters differ a little: alpha by a thousandth each."""
    assert program.adapter is not None
    made = []
    for i in range(num):
        sites = {
            site: replace(lora, alpha=lora.alpha * (1 + i / 1000))
            for site, lora in program.adapter.sites.items()
        }
        made.append(replace(program, adapter=Adapter(sites)))
    return made


def batches(interpreter: Interpreter, program: Program, texts: Sequence[str]) -> dict[str, object]:
    """Calls per second one at a time, in batches, and in batches of 16 programs."""
    fn = interpreter.function(program)
    programs = variants(program, NUM_PROGRAMS)
    mixed = [(programs[i % NUM_PROGRAMS], text) for i, text in enumerate(texts)]
    warm = [interpreter.submit(*call) for call in mixed[: 2 * NUM_PROGRAMS]]
    _ = fn(texts[0]), [future.result() for future in warm]

    start = time.perf_counter()
    alone = [fn(text) for text in texts]
    between = time.perf_counter()
    together = list(fn.map(texts))
    after = time.perf_counter()
    futures = [interpreter.submit(*call) for call in mixed]
    _ = [future.result() for future in futures]
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


def prefixes(interpreter: Interpreter, program: Program, rounds: int = 20) -> dict[str, object]:
    """Time to the first token behind a prefix of 400 tokens against one of 40, both warm."""
    short, long = (_with_prefix(interpreter, program, tokens) for tokens in (40, 400))
    times = _alternating(interpreter, (short, long), rounds)
    return {"ttft_s": times[0], "ttft_ratio": times[1] / times[0]}


def switching(interpreter: Interpreter, program: Program, rounds: int = 20) -> dict[str, object]:
    """Time to the first token of two programs in turn, against one alone."""
    one, other = variants(program, 2)
    (alone,) = _alternating(interpreter, (one,), 2 * rounds)
    turns = _alternating(interpreter, (one, other), rounds)
    return {"switch_ratio": statistics.mean(turns) / alone}


def drafts(fn: Function, texts: Sequence[str]) -> dict[str, object]:
    """Forward passes per output token, and time, with drafts from the input and without."""
    fn(texts[0])
    plain: list[Result] = []
    drafted: list[Result] = []
    times = [0.0, 0.0]
    for text in texts:
        for i, (results, lookup) in enumerate(((plain, False), (drafted, True))):
            start = time.perf_counter()
            results.append(fn.run(text, lookup=lookup))
            times[i] += time.perf_counter() - start
    steps = sum(result.num_steps for result in drafted)
    return {
        "steps_per_token": steps / sum(result.output_tokens for result in drafted),
        "lookup_speedup": times[0] / times[1],
        "lookup_identical": [r.text for r in plain] == [r.text for r in drafted],
    }


def _with_prefix(interpreter: Interpreter, program: Program, tokens: int) -> Program:
    """The program behind a prefix of so many tokens."""
    encode, words = interpreter.base.tokenizer.encode, " the"
    prefix = words * (tokens // len(encode(words)))
    return replace(program, template=replace(program.template, prefix=prefix))


def _alternating(interpreter: Interpreter, programs: Sequence[Program], rounds: int) -> list[float]:
    """The median time to a first token of each program, taken in turn, warm."""
    times: list[list[float]] = [[] for _ in programs]
    for i in range(rounds + 2):
        for program, found in zip(programs, times, strict=True):
            result = interpreter.run(program, "server down", Options(max_tokens=1))
            found += [result.prefill_s] if i > 1 else []
    return [statistics.median(found) for found in times]


if __name__ == "__main__":
    main()
