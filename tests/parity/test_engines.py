"""Three engines on one GGUF base and one adapter say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny_gguf import write_gguf

from paw_mlx import formats
from paw_mlx.benchmarks.speed import versus
from paw_mlx.benchmarks.speed.llamacpp import LlamaCpp
from paw_mlx.benchmarks.speed.versus import VersusPlan
from paw_mlx.errors import FormatError

pytest.importorskip("llama_cpp")
pytest.importorskip("mlx_lm")
gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.filterwarnings("ignore")

PLAN = VersusPlan(num_prompt=16, num_decode=5, rounds=2, num_calls=2, max_tokens=4)
TEXTS = ["the disk is full", "spring picnic on Friday", "server", "all are welcome"]


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base in F32; llama.cpp wants Qwen3's value_length besides key_length."""

    class Writer(gguf.GGUFWriter):
        def add_key_length(self, length: int) -> None:
            super().add_key_length(length)
            self.add_value_length(length)

    monkeypatch.setattr(gguf, "GGUFWriter", Writer)
    write_gguf(
        tmp_path / "base.gguf", tiny.write_base(tmp_path / "base", "qwen3"), "qwen3", ["F32"]
    )
    return tmp_path / "base.gguf"


def test_llama_cpp_mlx_lm_and_paw_mlx_on_one_gguf(base: Path) -> None:
    found = list(versus.run(base, tiny.program("qwen3"), TEXTS, PLAN))
    rows: dict[str, Any] = {row["engine"]: row for row in found}
    assert not any(row.get("skipped") for row in found)
    assert rows["mlx-lm"]["same_outputs"] == "4/4"
    assert rows["llama.cpp"]["same_outputs"] == "4/4"
    assert rows["llama.cpp"]["decode_tok_s"]["num"] == PLAN.rounds
    assert rows["llama.cpp"]["version"]


def test_what_llama_cpp_refuses_is_one_sentence(base: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    path = tmp_path / "p.paw"
    formats.save(tiny.program("qwen3"), path, None, profile=tiny.profile("qwen3"))
    made = LlamaCpp(str(base), program=str(path), adapter=str(tmp_path / "a.gguf"), context=256)
    with pytest.raises(FormatError, match=r"llama\.cpp does not load it"):
        made.load()
