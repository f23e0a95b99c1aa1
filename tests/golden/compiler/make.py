"""Make the golden compilers: two tiny repos, their interpreters, and what they must give.

    python tests/golden/compiler/make.py

Uses torch and transformers, by tests/parity/compiler_oracle.py, and never this package. For
each interpreter: `<kind>/repo` is a compiler in the published layout, `<kind>/interpreter` the
base its programs are for, and `<kind>/expected.npz` holds

    spec, pseudo_program           strings
    tokens                         (T,) int32, what the compiler reads
    hidden                         (L, P, H) float32
    <layer>.<module>.A and .B      (r, d_in) and (d_out, r) float32, every site
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import transformers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "parity"))
import compiler_oracle as by  # noqa: E402

# One of each: how many layers teach, whether the template may think, one file or shards,
# configs as transformers 5 or 4 writes them. Seeds under which rounding shows least.
VARIANTS = {
    "qwen3": {"chat_template": by.INSTRUCT, "num_layers": 5, "max_shard_size": "150KB", "seed": 1},
    "gpt2": {"chat_template": by.HYBRID, "num_layers": 4, "old_style": True, "seed": 3},
}


def make(kind: str) -> None:
    folder = HERE / kind
    shutil.rmtree(folder, ignore_errors=True)
    compilers = by.make_tokenizer(folder / "qwen3.json", "qwen3")
    interpreters = by.make_tokenizer(folder / "interpreter.json", kind)
    by.make_interpreter(folder / "interpreter", kind, interpreters)
    repo = by.make_repo(
        folder / "repo",
        interpreter=kind,
        tokenizer_json=compilers,
        num_bases=2,
        **VARIANTS[kind],
    )
    compilers.unlink()
    interpreters.unlink()
    tokens = by.oracle_tokens(repo, by.SPEC, by.PSEUDO_PROGRAM)
    hidden, sites = by.oracle(repo, by.SPEC, by.PSEUDO_PROGRAM)
    expected = {
        "spec": np.array(by.SPEC),
        "pseudo_program": np.array(by.PSEUDO_PROGRAM),
        "tokens": np.array(tokens, np.int32),
        "hidden": hidden.numpy(),
    }
    for (layer, module), (A, B) in sites.items():
        expected |= {f"{layer}.{module}.A": A.numpy(), f"{layer}.{module}.B": B.numpy()}
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    for kind in VARIANTS:
        make(kind)
