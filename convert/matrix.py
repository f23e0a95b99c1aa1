"""`convert/README.md`, from the tables that the code works by.

`python -m paw_mlx.convert.matrix` writes it anew; a test holds them together. The sections that
comments mark are part of `docs/layouts.md`, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from paw_mlx.convert.program import LAYOUTS
from paw_mlx.formats import DTYPES
from paw_mlx.formats.peft_refusals import REFUSED, REFUSED_TYPES

# layout -> (what it is, who reads it); what `--to` calls it, and its dtypes, the code knows.
ABOUT = {
    "paw": ("a `.paw` archive: prompt and adapter", "every PAW runtime"),
    "directory": ("the same, unpacked", "this one, the PAW hub"),
    "peft": ("`adapter_config.json`, `adapter_model.safetensors`", "peft, vLLM"),
    "gguf": ("one adapter file", "llama.cpp, the official SDK"),
    "mlx": ("`adapter_config.json`, `adapters.safetensors`", "mlx-lm"),
    "paw-v2": ("the legacy `.paw`", ""),
    "torch": ("`adapter_model.bin`, or a `.pt` or `.bin` that holds A and B", ""),
}


def page() -> str:
    """Return the whole of `convert/README.md`."""
    options = {layout: f"`{to}`" for to, layout in LAYOUTS.items()}
    layouts = [
        [options.get(layout, ""), what, "✓", ", ".join(DTYPES.get(layout, ())), readers]
        for layout, (what, readers) in ABOUT.items()
    ]
    refused = [[f"`{key}`", entry.reason, entry.remedy] for key, entry in REFUSED.items()]
    types = [[f"`{key}`", entry.reason, entry.remedy] for key, entry in REFUSED_TYPES.items()]
    return "\n".join(
        [
            _INTRODUCTION,
            _table(["`--to`", "what it is", "read", "written in", "for"], layouts),
            _AFTER_LAYOUTS,
            _table(["in `adapter_config.json`", "why not", "what to do"], refused),
            "",
            _table(["`peft_type`", "why not", "what to do"], types),
            _END,
        ]
    )


_INTRODUCTION = """\
# Any LoRA in, any layout out

`paw-mlx convert SRC DST` reads an adapter or a program in any layout, writes it in any other,
reads back what it wrote, and compares: site by site, exactly, or within the bound that the
rounding of the target allows. The receipt is printed; what fails it never takes DST's place.

This page is made of the tables that the code works by, with `python -m paw_mlx.convert.matrix`.

## Layouts

<!-- --8<-- [start:layouts] -->
"""
_AFTER_LAYOUTS = """
SRC is known by its bytes, never by its name. `--dtype` chooses among what DST is written in;
without it A and B stay as they are where DST can hold that. f32 from anything is exact, and so is
q4_0 to `mlx-q4` and back. `mlx-q4` is q4_0 in MLX's own 4-bit packing, which mlx-lm does not load
as an adapter. q8_0 and q4_0 are quantized by the gguf package's own rules, bit for bit.

A torch checkpoint says no alpha: give `--alpha` (alpha / rank is the scale, and with `--rslora`
alpha / sqrt(rank)), and nothing is guessed. Its pickle is read by a small machine that knows
tensors and nothing else; whatever else it would call is refused by name.

<!-- --8<-- [end:layouts] -->
<!-- --8<-- [start:refused] -->

## What is refused

What PEFT can say and A and B alone cannot:
"""
_END = """
<!-- --8<-- [end:refused] -->"""


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    Path(__file__).with_name("README.md").write_text(f"{page()}\n", encoding="utf-8")
