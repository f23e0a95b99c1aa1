"""The layouts as others write them: see tests/golden/make.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paw_mlx import formats
from paw_mlx.adapter import Site
from paw_mlx.errors import FormatError
from paw_mlx.profiles import Profile

GOLDEN = Path(__file__).parent.parent / "golden"
LAYOUTS = {
    "peft": "peft",
    "adapter-f16.gguf": "gguf",
    "adapter-q4_0.gguf": "gguf",
    "mlx": "mlx",
    "legacy.paw": "paw-v2",
    "program.paw": "paw",
    "program": "directory",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_known_by_its_bytes(name: str, tmp_path: Path) -> None:
    assert formats.sniff(GOLDEN / name) == LAYOUTS[name]
    if (GOLDEN / name).is_file():
        renamed = tmp_path / "x.txt"
        renamed.write_bytes((GOLDEN / name).read_bytes())
        assert formats.sniff(renamed) == LAYOUTS[name]


@pytest.mark.parametrize("name", LAYOUTS)
def test_adapter_adds_to_every_weight_what_its_maker_says(name: str) -> None:
    adapter = formats.load_adapter(GOLDEN / name)
    packed = name not in ("peft", "adapter-f16.gguf", "mlx", "legacy.paw")
    with np.load(GOLDEN / ("deltas_q4_0.npz" if packed else "deltas.npz")) as deltas:
        assert len(adapter.sites) == len(deltas.files)
        for path in deltas.files:
            _, _, layer, _, module = path.split(".")
            np.testing.assert_allclose(
                adapter.delta(Site(int(layer), module)), deltas[path], rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("name", ["program.paw", "program"])
def test_program_keeps_its_texts_and_record(name: str) -> None:
    program = formats.load(GOLDEN / name)
    assert program.id == "0123456789abcdef"
    assert program.interpreter == "tiny"
    assert program.spec == program.pseudo_program == "Say it louder."
    assert program.template.render("x").endswith("[INPUT]\nx\n[END_INPUT]")
    assert program.meta["compiler_snapshot"] == "golden"


@pytest.mark.parametrize("name", ["peft", "adapter-f16.gguf", "mlx"])
def test_bare_adapter_is_no_program(name: str) -> None:
    with pytest.raises(FormatError, match="no prompt"):
        formats.load(GOLDEN / name)


def test_q4_0_is_written_as_gguf_packs_it(tmp_path: Path, llama: Profile) -> None:
    profile = Profile("tiny", llama.family, 2, 2, 1, llama.shapes, 128)
    source = formats.load_adapter(GOLDEN / "adapter-f16.gguf")
    formats.save_adapter(source, tmp_path / "q.gguf", "gguf", profile, "q4_0")
    ours = formats.load_adapter(tmp_path / "q.gguf")
    theirs = formats.load_adapter(GOLDEN / "adapter-q4_0.gguf")
    for site, lora in theirs.sites.items():
        assert np.array_equal(lora.A.data, ours.sites[site].A.data)
        assert np.array_equal(lora.B.data, ours.sites[site].B.data)
