"""Bases that a name tells nothing about: an adapter's sizes do, and its name stays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner, Result

from paw_mlx import formats, load
from paw_mlx.adapter import Adapter
from paw_mlx.cli import cli
from paw_mlx.convert import convert
from paw_mlx.errors import FormatError, OptionError
from paw_mlx.profiles import PROFILES, Profile

KNOWN = PROFILES["smollm2-135m"]
OTHERS = (
    "HuggingFaceTB/SmolLM2-135M",
    "unsloth/SmolLM2-135M-Instruct-bnb-4bit",
    "me/a-fine-tune",
    "/home/me/models/base",
)


def save_peft(folder: Path, base: str, profile: Profile = KNOWN, adapter: Adapter | None = None):
    """Save a PEFT adapter of rank 32 that names a base."""
    made = adapter or tiny.adapter(profile, rank=32)
    formats.save_adapter(made, folder, "peft", replace(profile, repos=(base,)))
    return folder


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.slow
@pytest.mark.parametrize("base", OTHERS)
def test_a_base_of_known_sizes_keeps_its_own_name(tmp_path, base):
    source, said = save_peft(tmp_path / "peft", base), []
    options = {"template": "Urgent? {INPUT_PLACEHOLDER}", "progress": said.append}
    convert(source, tmp_path / "p.paw", dtype="q4_0", **options)
    assert load(tmp_path / "p.paw").interpreter == base
    assert f"{base} is not known by its name; the adapter's sizes are smollm2-135m's" in said
    for to in ("mlx", "peft", "gguf"):
        convert(source, tmp_path / f"to-{to}", to=to)
        written = formats.read_adapter(tmp_path / f"to-{to}")
        assert written.adapter.layers[-1] == KNOWN.num_layers - 1
        if to != "gguf" or base[0] != "/":  # GGUF has addresses of hubs alone
            assert written.interpreter == base


def test_the_built_in_base_is_not_run_in_its_place(tmp_path):
    source = save_peft(tmp_path / "peft", OTHERS[0])
    convert(source, tmp_path / "p.paw", template="Urgent? {INPUT_PLACEHOLDER}")
    done = run("run", tmp_path / "p.paw", "x", "--offline")
    assert done.exit_code == 1
    assert f"offline, and {OTHERS[0]} is not on this machine" in done.stderr


def test_without_a_name_or_the_last_layer_the_fitting_base_is_proposed(tmp_path):
    whole = tiny.adapter(KNOWN, rank=32)
    part = Adapter({site: lora for site, lora in whole.sites.items() if site.layer < 9})
    for source in (
        save_peft(tmp_path / "nameless", ""),
        save_peft(tmp_path / "part", "me/half-as-deep", adapter=part),
    ):
        with pytest.raises(OptionError, match="does not name a base that is known") as caught:
            convert(source, tmp_path / "x.gguf")
        (hint,) = caught.value.hints
        assert "--interpreter: smollm2-135m, whose sizes fit" in hint
        assert "qwen3" not in hint
    with pytest.raises(OptionError) as caught:
        convert(save_peft(tmp_path / "tiny", "me/tiny", tiny.profile("llama")), tmp_path / "x.gguf")
    assert caught.value.hints == [
        "Name it with --interpreter: a hub repo, or a folder with its config.json."
    ]


def test_a_folder_is_asked_for_its_sizes_whatever_it_is_called(tmp_path, monkeypatch):
    """`./gpt2` may be any base."""
    profile = tiny.profile("llama")
    tiny.write_base(tmp_path / "gpt2", "llama")
    source = save_peft(tmp_path / "peft", "me/tiny", profile)
    monkeypatch.chdir(tmp_path)
    convert(source, tmp_path / "x.gguf", interpreter="./gpt2")
    assert formats.load_adapter(tmp_path / "x.gguf", profile).layers == (0, 1)


def test_torch_files_are_inspected_without_an_alpha():
    golden = Path(__file__).parents[1] / "golden" / "torch" / "adapters"
    for name, alpha in (("bare.pt", False), ("checkpoint.pt", False), ("peft", True)):
        found = json.loads(run("inspect", golden / name, "--json").stdout)
        assert (found["layout"], bool(found["alphas"])) == ("torch", alpha)
        assert found["num_sites"]
        assert ("not said" in run("inspect", golden / name).stdout) == (not alpha)


def test_what_is_neither_a_program_nor_torchs_keeps_its_own_error(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\3\4")
    done = run("inspect", tmp_path / "x.zip")
    assert done.exit_code == 1
    assert "end is missing" in done.stderr
    with pytest.raises(FormatError):
        load(tmp_path / "x.zip")


@pytest.mark.parametrize("what", ["program", "adapter", "artifact", "receipt", "gguf", "base"])
def test_what_notebooks_show_is_short(tmp_path, what):
    """Matrices, vocabularies and 210 sites are no part of a repr."""
    from paw_mlx.convert.program import read_any
    from paw_mlx.formats.gguf_reader import read_gguf
    from paw_mlx.interpreter.base.read import read_source
    from paw_mlx.interpreter.models.load import load_base

    example = Path(__file__).parents[2] / "examples" / "email-triage" / "program.paw"
    program = load(example)
    if what == "base":
        path = tiny.write_base(tmp_path / "base", "llama")
        shown = [repr(load_base(path)), repr(read_source(path))]
    elif what == "receipt":
        shown = [repr(convert(example, tmp_path / "x.gguf"))]
        assert "exact at all 210 sites" in shown[0]
    elif what == "gguf":
        convert(example, tmp_path / "x.gguf")
        file = read_gguf(tmp_path / "x.gguf")
        shown = [repr(file), repr(next(iter(file.tensors.values())))]
    elif what == "artifact":
        shown = [repr(read_any(example)), repr(formats.read_adapter(example))]
    elif what == "adapter":
        lora = next(iter(program.adapter.sites.values()))
        shown = [repr(program.adapter), repr(lora), repr(lora.A)]
        assert shown[0] == "<Adapter: 210 sites in layers 0 to 29, rank 32, alpha 16.0, dtype q4_0>"
    else:
        shown = [repr(program), repr(replace(program, spec="x" * 10_000, adapter=None))]
        assert program.interpreter in shown[0]
    assert max(map(len, shown)) < 2000
