"""Archives and folders as others make them: read where it is clear, else called what they are."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tiny

from paw_mlx import formats
from paw_mlx.errors import AdapterMismatch, FormatError, OptionError, UnknownLayout
from paw_mlx.formats.fingerprint import fingerprint
from paw_mlx.interpreter.base.read import read_source

GOLDEN = Path(__file__).parents[1] / "golden"
DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(4072)


def repack(path: Path, **folders: str) -> Path:
    """Write the golden program's members into folders of a new ZIP, deflated, as Finder does."""
    with (
        zipfile.ZipFile(GOLDEN / "program.paw") as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for folder in folders.values():
            target.mkdir(folder.rstrip("/"))
            for name in source.namelist():
                target.writestr(f"{folder}{name}", source.read(name))
                target.writestr(f"__MACOSX/{folder}._{name}", DOUBLE)
    return path


def rename(file: Path, name: str) -> Path:
    return file.rename(file.with_name(name))


def set_config(folder: Path, lora: dict[str, object] | None = None, **changes: object) -> None:
    """Change adapter_config.json: a value of None takes a key out."""
    config = json.loads((folder / "adapter_config.json").read_text()) | changes
    config["lora_parameters"] |= lora or {}
    for part in (config, config["lora_parameters"]):
        for key in [key for key, value in part.items() if value is None]:
            del part[key]
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.fixture
def mlx_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "mlx", tmp_path / "mlx"))


# ZIPs.


@pytest.mark.parametrize("folder", ["triage/", "work/triage/"])
def test_a_zip_with_a_folder_around_its_files_is_read(tmp_path: Path, folder: str) -> None:
    path = repack(tmp_path / "x.paw", one=folder)
    assert formats.load(path).digest() == formats.load(GOLDEN / "program.paw").digest()


def test_two_programs_in_a_zip_are_named(tmp_path: Path) -> None:
    path = repack(tmp_path / "x.paw", one="a/", other="b/")
    with pytest.raises(FormatError, match="holds 2 programs: 'a', 'b'") as caught:
        formats.load(path)
    assert "Unpack" in caught.value.hints[0]


@pytest.mark.parametrize(
    ("members", "words", "hint"),
    [
        (
            ["x/adapter_config.json", "x/adapter_model.safetensors"],
            "'x/adapter_config",
            "unpack it",
        ),
        (["model.layers.0.self_attn.q_proj.lora_a.npy"], "lora_a.npy", "mx.save_safetensors"),
        (["[Content_Types].xml", "word/document.xml"], "document.xml", "prompt_template.txt"),
        (["__MACOSX/._x"], "it holds nothing", "prompt_template.txt"),
    ],
)
def test_a_zip_that_is_no_program_says_what_it_holds(
    tmp_path: Path, members: list[str], words: str, hint: str
) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in members:
            archive.writestr(name, b"")
    with pytest.raises(FormatError, match="is a ZIP and no program") as caught:
        formats.load(tmp_path / "x.zip")
    assert words in str(caught.value)
    assert hint in caught.value.hints[0]


def test_a_folder_of_programs_names_them(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "program", tmp_path / "triage")
    (tmp_path / "__MACOSX").mkdir()
    with pytest.raises(UnknownLayout, match="programs in folders of their own: 'triage'") as caught:
        formats.load(tmp_path)
    assert str(tmp_path / "triage") in caught.value.hints[0]


# mlx-lm.


def test_numbered_checkpoints_are_named_and_read_by_name(mlx_folder: Path) -> None:
    expected = formats.read_adapter(mlx_folder)
    file = rename(mlx_folder / "adapters.safetensors", "0000100_adapters.safetensors")
    shutil.copy(file, mlx_folder / "0000200_adapters.safetensors")
    with pytest.raises(FormatError, match="2 checkpoints of a training: 0000100_ad") as caught:
        formats.read_adapter(mlx_folder)
    assert str(mlx_folder / "0000200_adapters.safetensors") in caught.value.hints[0]
    found = formats.read_adapter(file)
    assert found.interpreter == expected.interpreter
    assert found.adapter.sites.keys() == expected.adapter.sites.keys()
    assert formats.summarize(file).layout == "mlx"


def test_an_mlx_folder_without_weights_is_not_called_peft(mlx_folder: Path) -> None:
    (mlx_folder / "adapters.safetensors").unlink()
    with pytest.raises(FormatError, match=r"mlx-lm's, by its adapter_config\.json, and has no ada"):
        formats.read_adapter(mlx_folder)


@pytest.mark.parametrize("with_config", [False, True])
def test_adapters_npz_comes_with_the_way_out(mlx_folder: Path, with_config: bool) -> None:
    (mlx_folder / "adapters.safetensors").unlink()
    np.savez(mlx_folder / "adapters.npz", **{"x.lora_a": np.zeros(1)})
    if not with_config:
        (mlx_folder / "adapter_config.json").unlink()
    for path in (mlx_folder, mlx_folder / "adapters.npz"):
        with pytest.raises(FormatError) as caught:
            formats.load(path) if path.is_file() else formats.read_adapter(path)
        assert "mx.save_safetensors" in caught.value.hints[0]


def test_the_older_name_of_num_layers_is_read(mlx_folder: Path) -> None:
    expected = formats.read_adapter(mlx_folder).adapter
    num_layers = json.loads((mlx_folder / "adapter_config.json").read_text())["num_layers"]
    set_config(mlx_folder, num_layers=None, lora_layers=num_layers, fine_tune_type=None)
    assert formats.read_adapter(mlx_folder).adapter.scales == expected.scales


def test_an_old_alpha_is_asked_about_and_a_newer_one_ignored(mlx_folder: Path) -> None:
    """mlx-lm multiplied by scale * alpha / rank until it did not, and wrote the same config."""
    parameters = json.loads((mlx_folder / "adapter_config.json").read_text())["lora_parameters"]
    rank, scale = parameters["rank"], parameters["scale"]
    set_config(mlx_folder, {"alpha": 2 * rank})
    assert formats.read_adapter(mlx_folder).adapter.scales == (scale,)
    set_config(mlx_folder, num_layers=None, lora_layers=3)
    with pytest.raises(FormatError, match=f"alpha of {2 * rank} besides the scale") as caught:
        formats.read_adapter(mlx_folder)
    assert f"set scale to {2 * scale:g}" in caught.value.hints[0]
    set_config(mlx_folder, {"alpha": rank})
    assert formats.read_adapter(mlx_folder).adapter.scales == (scale,)


def test_old_dora_is_refused(mlx_folder: Path) -> None:
    set_config(mlx_folder, fine_tune_type=None, use_dora=True)
    with pytest.raises(FormatError, match="'dora'"):
        formats.read_adapter(mlx_folder)


@pytest.mark.parametrize("modules", [("q_proj", "v_proj"), ("q_proj",)])
def test_without_keys_q_and_v_are_whole_and_others_are_not(
    tmp_path: Path, modules: tuple[str, ...]
) -> None:
    """mlx-lm adapted these two, where nothing else was asked for, until autumn 2025."""
    profile = tiny.profile("llama")
    whole = tiny.adapter(profile)
    sites = {site: lora for site, lora in whole.sites.items() if site.module in modules}
    formats.save_adapter(type(whole)(sites), tmp_path / "mlx", "mlx", profile)
    set_config(tmp_path / "mlx", {"keys": None})
    if len(modules) == 2:
        assert formats.read_adapter(tmp_path / "mlx").adapter.modules == modules
    else:
        with pytest.raises(AdapterMismatch, match="should be there"):
            formats.read_adapter(tmp_path / "mlx")


# What systems leave.


def test_what_macos_leaves_beside_files_is_passed_over(tmp_path: Path) -> None:
    base, peft = tiny.write_base(tmp_path / "base", "llama"), tmp_path / "peft"
    profile = tiny.profile("llama")
    formats.save_adapter(tiny.adapter(profile), peft, "peft", profile)
    before = fingerprint(base), sorted(read_source(base).layers)
    for file in (*base.iterdir(), *peft.iterdir()):
        file.with_name(f"._{file.name}").write_bytes(DOUBLE)
    (peft / "Thumbs.db").write_bytes(b"")
    assert (fingerprint(base), sorted(read_source(base).layers)) == before
    formats.save_adapter(tiny.adapter(profile, seed=1), peft, "peft", profile)
    (peft / "notes.txt").write_bytes(b"")
    with pytest.raises(OptionError, match=r"also holds notes\.txt, which"):
        formats.save_adapter(tiny.adapter(profile), peft, "peft", profile)


# Bases with a file too much.


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("layout", ["peft", "mlx"])
def test_an_adapter_in_a_bases_folder_is_named(tmp_path: Path, family: str, layout: str) -> None:
    base, profile = tiny.write_base(tmp_path / "base", family), tiny.profile(family)
    formats.save_adapter(tiny.adapter(profile), tmp_path / "lora", layout, profile)
    (weights,) = (tmp_path / "lora").glob("*.safetensors")
    shutil.copy(weights, base)
    with pytest.raises(FormatError, match=f"{weights.name} is an adapter") as caught:
        read_source(base)
    assert f"Move {weights.name} out" in caught.value.hints[0]


def test_a_second_copy_of_a_model_is_named(tmp_path: Path) -> None:
    base = tiny.write_base(tmp_path / "base", "llama")
    shutil.copy(base / "model.safetensors", base / "model-00001-of-00001.safetensors")
    with pytest.raises(FormatError, match=r"model-00001-of-00001\.safetensors and again"):
        read_source(base)


def test_what_is_nothing_of_the_base_is_named(tmp_path: Path) -> None:
    base = tiny.write_base(tmp_path / "base", "llama")
    mx.save_safetensors(str(base / "consolidated.safetensors"), {"layers.0.wq": mx.zeros((2, 2))})
    with pytest.raises(FormatError, match=r"consolidated\.safetensors holds nothing of the base"):
        read_source(base)


def test_weights_packed_for_torch_are_called_so(tmp_path: Path) -> None:
    base = tiny.write_base(tmp_path / "base", "llama")
    packed = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(tiny.changed("llama", quantization_config=packed))
    with pytest.raises(FormatError, match="quantized with 'bitsandbytes'"):
        read_source(base)
