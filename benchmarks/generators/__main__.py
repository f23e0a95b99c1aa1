"""Generate functions whose outputs code knows, for a compiler to be trained on.

    python -m paw_mlx.benchmarks.generators --seed 0 --functions 600 -o generated.jsonl

The same seed and number give the same bytes on every machine and Python. What is drawn, which
functions are never drawn, and how the kinds are named: functions/README.md.
"""

from __future__ import annotations

from pathlib import Path

import click

from paw_mlx.benchmarks.generators.corpus import draw_corpus, to_text
from paw_mlx.files import replacing


@click.command()
@click.option("--seed", default=0, show_default=True)
@click.option("--functions", default=600, show_default=True, help="How many.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(seed: int, functions: int, output: Path) -> None:
    """Write generated functions as a JSONL file of the corpus."""
    with replacing(output) as partial:
        partial.write_text(to_text(draw_corpus(seed, functions)), encoding="utf-8")


if __name__ == "__main__":
    main()
