"""Damaged and malicious files give one PawError, quickly, and nothing else."""

from __future__ import annotations

import io
import json
import random
import shutil
import stat
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from paw_mlx import formats
from paw_mlx.adapter import Adapter
from paw_mlx.errors import FormatError, NotFound, PawError, UnknownLayout
from paw_mlx.profiles import Profile
from paw_mlx.program import Program

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = [
    "adapter-f16.gguf",
    "adapter-q4_0.gguf",
    "legacy.paw",
    "program.paw",
    "peft/adapter_config.json",
    "peft/adapter_model.safetensors",
    "mlx/adapter_config.json",
    "mlx/adapters.safetensors",
    "program/adapter.gguf",
    "program/meta.json",
    "program/prompt_template.txt",
]


def load_anything(path: Path) -> None:
    """Load, and look at every number: nothing but a PawError may come out."""
    start, sentence = time.perf_counter(), "loaded"
    try:
        adapter = formats.load_adapter(path)
        for site in adapter.sites:
            adapter.delta(site)
        formats.summarize(path)
    except PawError as error:
        sentence = str(error)
    assert sentence
    assert "\n" not in sentence
    assert time.perf_counter() - start < 2


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Copy a golden layout; gives the file to damage and the path to load."""

    def copy(name: str) -> tuple[Path, Path]:
        top = name.split("/")[0]
        target = tmp_path / top
        if (GOLDEN / top).is_dir():
            shutil.copytree(GOLDEN / top, target)
        else:
            shutil.copy(GOLDEN / top, target)
        return tmp_path / name, target

    return copy


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")
@pytest.mark.parametrize("name", FILES)
def test_file_cut_anywhere_gives_one_sentence(copied, name: str) -> None:
    file, target = copied(name)
    data = file.read_bytes()
    cuts = {*range(0, min(len(data), 64)), *range(0, len(data), 1 + len(data) // 150)}
    for cut in sorted(cuts):
        file.write_bytes(data[:cut])
        load_anything(target)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")
@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_give_one_sentence_or_an_adapter(copied, name: str) -> None:
    file, target = copied(name)
    data, chance = file.read_bytes(), random.Random(3)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 3))):
            # Headers are short and data is long: half of the damage goes to the header.
            span = chance.choice((min(len(data), 600), len(data)))
            at = (
                chance.randrange(span)
                if chance.random() < 0.8
                else len(data) - 1 - (chance.randrange(min(len(data), 300)))
            )
            damaged[at] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        load_anything(target)


def test_a_damaged_archive_is_not_written_anew(copied) -> None:
    file, target = copied("program.paw")
    data, chance = file.read_bytes(), random.Random(5)
    at = data.rindex(b"PK\1\2")
    for start, patch in ((0, b"PX\1\2"), (6, b"\xff\xff"), (8, b"\0\x08"), (46, b"\xff")):
        place = at + start if patch != b"\xff" else at + 46
        file.write_bytes(data[:place] + patch + data[place + len(patch) :])
        with suppress(PawError):
            formats.check_rewritable(target)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[chance.randrange(at - 300, len(data))] = chance.randrange(256)
        file.write_bytes(damaged)
        with suppress(PawError):
            formats.check_rewritable(target)
    write_zip(target, {f"{i:0200}": b"" for i in range(6000)})
    with pytest.raises(FormatError, match="lists its members"):
        formats.check_rewritable(target)


@pytest.mark.parametrize("name", ["peft/adapter_config.json", "mlx/adapter_config.json"])
@pytest.mark.parametrize("number", [10**400, -(10**400), 10**39])
def test_numbers_that_no_float32_holds_are_refused(copied, name: str, number: int) -> None:
    file, target = copied(name)
    config = json.loads(file.read_bytes())
    where = config if "r" in config else config["lora_parameters"]
    where["r" if "r" in config else "rank"] = number
    file.write_text(json.dumps(config))
    with pytest.raises(FormatError, match="not a finite float32"):
        formats.load_adapter(target)


def test_truncated_container_gives_one_sentence(copied) -> None:
    file, target = copied("program.paw")
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(FormatError, match="cut short"):
        formats.load(target)


# --- ZIP ---------------------------------------------------------------------------------

MEMBERS = {
    name: (GOLDEN / "program" / name).read_bytes()
    for name in ("adapter.gguf", "prompt_template.txt", "meta.json", "pseudo_program.txt")
}


def write_zip(path: Path, members: dict[str, bytes], **extra: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, **extra}.items():
            archive.writestr(name, data)
    return path


def peak_of(path: Path, sentence: str) -> int:
    """The bytes allocated while loading fails with `sentence`."""
    tracemalloc.start()
    with pytest.raises(FormatError, match=sentence):
        formats.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.fixture(scope="module")
def zeros() -> bytes:
    """600 MiB of zeros, deflated: about 600 kB."""
    packer, chunk = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 20)
    return b"".join(packer.compress(chunk) for _ in range(600)) + packer.flush()


def bomb(zeros: bytes, name: bytes, claimed: int) -> bytes:
    """A ZIP with one member that claims `claimed` bytes."""
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(zeros), claimed, len(name), 0)
    local = b"PK\3\4" + fields + name
    central = b"PK\1\2" + b"\x14\0" + fields + bytes(14 - 4) + bytes(4) + name
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local) + len(zeros), 0)
    return local + zeros + central + b"PK\5\6" + end


def test_bomb_is_refused_by_its_declared_size(zeros: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.paw").write_bytes(bomb(zeros, b"prompt_template.txt", 600 << 20))
    assert peak_of(tmp_path / "x.paw", "629145600 bytes") < 8 << 20


def test_bomb_that_lies_about_its_size_inflates_no_further(zeros: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.paw").write_bytes(bomb(zeros, b"prompt_template.txt", 1000))
    assert peak_of(tmp_path / "x.paw", "not a readable ZIP") < 8 << 20
    (tmp_path / "y.paw").write_bytes(bomb(zeros, b"prompt_template.txt", 500 << 20))
    assert peak_of(tmp_path / "y.paw", "inflates to more than 16777216") < 64 << 20


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", "C:evil", "..", "\\\\host\\evil"]
)
def test_member_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "x.paw", MEMBERS | {name: b"x"})
    with pytest.raises(FormatError, match="unsafe path"):
        formats.load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.paw"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_member_that_is_no_file_is_refused(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.paw", "w") as archive:
        for name, data in MEMBERS.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((kind if name == "meta.json" else stat.S_IFREG) | 0o644) << 16
            archive.writestr(info, data)
    with pytest.raises(FormatError, match=r"'meta\.json' is no regular file"):
        formats.load(tmp_path / "x.paw")


def test_member_given_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.paw", "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("meta.json", b"{}")
    with pytest.raises(FormatError, match=r"'meta\.json' twice"):
        formats.load(tmp_path / "x.paw")


def test_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(write_zip(tmp_path / "x.paw", MEMBERS).read_bytes())
    for sign, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(sign) + flags] |= 1
    (tmp_path / "x.paw").write_bytes(data)
    with pytest.raises(FormatError, match="encrypted"):
        formats.load(tmp_path / "x.paw")


def test_compression_other_than_deflate_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.paw", "w", zipfile.ZIP_LZMA) as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    with pytest.raises(FormatError, match="compression 14"):
        formats.load(tmp_path / "x.paw")


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.paw", MEMBERS, **{f"m{i}": b"" for i in range(253)})
    with pytest.raises(FormatError, match="257 members"):
        formats.load(path)


def test_list_of_members_too_long_to_read_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.paw", {f"{i:0200}": b"" for i in range(6000)})
    assert peak_of(path, "lists its members") < 4 << 20


def test_archive_over_the_limit_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.paw").open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate((256 << 20) + 1)
    with pytest.raises(FormatError, match="268435457 bytes"):
        formats.load(tmp_path / "x.paw")


@pytest.mark.parametrize("name", ["adapter.gguf", "prompt_template.txt", "meta.json"])
def test_missing_member_is_named(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "x.paw", {k: v for k, v in MEMBERS.items() if k != name})
    with pytest.raises(FormatError, match=f"no {name}"):
        formats.load(path)


# --- texts and numbers -------------------------------------------------------------------

META = json.loads(MEMBERS["meta.json"])


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("prompt_template.txt", b"no input", "this has 0"),
        ("prompt_template.txt", b"{INPUT_PLACEHOLDER} {INPUT_PLACEHOLDER}", "this has 2"),
        ("prompt_template.txt", b"\xff{INPUT_PLACEHOLDER}", "prompt_template.txt is not UTF-8"),
        ("pseudo_program.txt", b"\xc3", "pseudo_program.txt is not UTF-8"),
        ("meta.json", b'{"spec": "\xff"}', "meta.json is not UTF-8"),
        ("meta.json", b"{", "not valid JSON"),
        ("meta.json", b"[]", "holds list, not a JSON object"),
        ("meta.json", b"[" * 100_000 + b"]" * 100_000, "nested deeper"),
        ("meta.json", b'{"a":' * 500 + b"1" + b"}" * 500, "nested deeper"),
        ("meta.json", b'{"spec": "\\ud800"}', "not valid JSON"),
        ("meta.json", b'{"a": NaN}', "not valid JSON"),
        ("meta.json", b'{"a": 1e999}', "not valid JSON"),
        ("meta.json", b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        ("meta.json", json.dumps(META | {"interpreter": None}).encode(), "interpreter"),
        ("meta.json", json.dumps(META | {"interpreter": 5}).encode(), "interpreter is 5"),
        ("meta.json", json.dumps(META | {"spec": ["x"]}).encode(), "spec is"),
        ("meta.json", json.dumps(META | {"program_id": "../../x"}).encode(), "hex digits"),
        ("adapter.gguf", b"GGUF" + bytes(100), "104 bytes"),
        ("adapter.gguf", bytes(2000), "magic GGUF"),
    ],
)
def test_bad_member_is_named_with_its_fault(
    tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    path = write_zip(tmp_path / "x.paw", MEMBERS | {name: data})
    with pytest.raises(FormatError, match=sentence):
        formats.load(path)


@pytest.mark.parametrize("layout", ["peft", "gguf", "mlx"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    llama: Profile, make, tmp_path: Path, layout: str, value: float
) -> None:
    adapter: Adapter = make(llama)
    formats.save_adapter(adapter, tmp_path / "a", layout, llama)
    file = next(iter(tmp_path.rglob("*.safetensors")), tmp_path / "a")
    file.write_bytes(file.read_bytes()[:-4] + struct.pack("<f", value))
    with pytest.raises(FormatError, match="1 sites hold NaN or infinite"):
        formats.load_adapter(tmp_path / "a")


def test_infinite_block_scale_is_refused(llama: Profile, make, tmp_path: Path) -> None:
    formats.save_adapter(make(llama), tmp_path / "a", "gguf", llama, "q4_0")
    data = bytearray((tmp_path / "a").read_bytes())
    data[-18:-16] = struct.pack("<e", np.inf)
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FormatError, match="NaN or infinite"):
        formats.load_adapter(tmp_path / "a")


def test_unknown_things_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file or folder"):
        formats.load(tmp_path / "none")
    with pytest.raises(UnknownLayout, match="neither"):
        formats.load(tmp_path)
    (tmp_path / "x").write_bytes(b"hello")
    with pytest.raises(UnknownLayout, match="b'hell'"):
        formats.load(tmp_path / "x")
    with pytest.raises(UnknownLayout) as caught:
        formats.load(GOLDEN / "peft" / "adapter_model.safetensors")
    assert "adapter_config.json" in caught.value.hints[0]


def test_folder_of_several_adapters_names_them(tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(GOLDEN / "peft", tmp_path / "all" / name)
    with pytest.raises(UnknownLayout, match="'first', 'second'") as caught:
        formats.load_adapter(tmp_path / "all")
    assert "first" in caught.value.hints[0]
    assert formats.load_adapter(tmp_path / "all" / "first").sites


# --- safetensors -------------------------------------------------------------------------


def two_tensors(path: Path, change: Callable[[dict], None], tail: bytes = b"") -> Path:
    """A PEFT folder with A and B of one site, after a change of the header."""
    shape = [4, 4]
    names = [f"base_model.model.model.layers.0.self_attn.v_proj.lora_{h}.weight" for h in "AB"]
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [64 * i, 64 * i + 64]}
        for i, name in enumerate(names)
    }
    change(header)
    text = json.dumps(header).encode()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["v_proj"]}
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps(config))
    (path / "adapter_model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + np.ones(32, "<f4").tobytes() + tail
    )
    return path


def first(header: dict) -> dict:
    return next(iter(header.values()))


@pytest.mark.parametrize(
    ("change", "tail", "sentence"),
    [
        (lambda h: None, b"more", "its tensors end at"),
        (lambda h: [e.update(data_offsets=[64, 128]) for e in h.values()], b"", "was expected"),
        (lambda h: [e.update(data_offsets=[0, 64]) for e in h.values()], b"", "was expected"),
        (lambda h: first(h).update(data_offsets=[4, 68]), b"", "was expected"),
        (lambda h: first(h).update(data_offsets=[-64, 0]), b"", "the tensor .* is"),
        (lambda h: first(h).update(data_offsets=[1 << 60, (1 << 60) + 64]), b"", "the tensor"),
        (lambda h: first(h).update(shape=[1 << 60, 4]), b"", "the tensor .* is"),
        (lambda h: first(h).update(shape=[True, 16]), b"", "the tensor .* is"),
        (lambda h: first(h).update(dtype="F31"), b"", "the tensor .* is"),
        (lambda h: h.update(x=[1]), b"", "the tensor 'x' is"),
        (lambda h: h.update(x={"a": "b" * (17 << 20)}), b"", "its header has 17"),
    ],
)
def test_safetensors_header_that_lies_is_refused(
    tmp_path: Path, change: Callable[[dict], None], tail: bytes, sentence: str
) -> None:
    path = two_tensors(tmp_path / "a", change, tail)
    with pytest.raises(FormatError, match=sentence):
        formats.load_adapter(path)


def test_safetensors_header_may_be_unpadded_and_unsorted(tmp_path: Path) -> None:
    def swap(header: dict) -> None:
        one, other = header.values()
        one["data_offsets"], other["data_offsets"] = other["data_offsets"], one["data_offsets"]
        header["__metadata__"] = {"format": "pt" * 3}

    assert formats.load_adapter(two_tensors(tmp_path / "a", swap)).scales == (1.0,)


def test_safetensors_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = two_tensors(tmp_path / "a", lambda header: None)
    with (path / "adapter_model.safetensors").open("ab") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(FormatError, match="1073741825 bytes"):
        formats.load_adapter(path)


# --- the legacy container ----------------------------------------------------------------


def legacy(record: dict, tensors: dict[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    text = json.dumps(record).encode()
    return b"PAW\x02" + struct.pack("<II", 2, len(text)) + text + save(tensors)


def pair(prefix: str = "lora_transformer.h.0.attn.c_proj") -> dict[str, np.ndarray]:
    return {
        f"{prefix}.lora_A": np.ones((1, 768), np.float32),
        f"{prefix}.lora_B": np.ones((768, 1), np.float32),
    }


RECORD = {
    "interpreter_model": "gpt2",
    "pseudo_program": " Say it louder. ",
    "lora_config": {"rank": 1, "alpha": 2, "target_modules": ["attn_c_proj"]},
}
KV = {"layer_0_key": np.zeros((1, 2), np.float32), "layer_0_value": np.zeros((1, 2), np.float32)}


def refusals() -> Iterator[tuple[dict, dict, str]]:
    yield RECORD, {**pair(), **KV}, r"KV prefix \(2 tensors\)"
    yield RECORD | {"lora_config": {"rank": 1}}, pair(), "no alpha"
    yield RECORD | {"lora_config": {"rank": 4, "alpha": 2}}, pair(), "rank 4.*1 rows"
    yield RECORD | {"lora_config": None}, pair(), "no lora_config"
    yield RECORD, {}, "no lora_config"
    gap = pair() | pair("lora_transformer.h.2.attn.c_proj")
    yield RECORD | {"lora_config": {"alpha": 2}}, gap, "1.attn_c_proj"
    yield RECORD, pair("lora_lm_head"), "2 tensors are no A or B"
    yield RECORD, dict(list(pair().items())[:1]), "0.attn_c_proj has no B"
    yield RECORD | {"lora_config": {"alpha": 2, "target_modules": ["c_fc"]}}, pair(), "0.c_fc"


@pytest.mark.parametrize(("record", "tensors", "sentence"), list(refusals()))
def test_legacy_container_is_refused_with_the_reason(
    tmp_path: Path, record: dict, tensors: dict, sentence: str
) -> None:
    (tmp_path / "x.paw").write_bytes(legacy(record, tensors))
    with pytest.raises(FormatError, match=sentence):
        formats.load(tmp_path / "x.paw")


def test_legacy_container_becomes_a_program_with_its_prompt(tmp_path: Path) -> None:
    record = RECORD | {"lora_config": {"rank": 1, "alpha": 2}, "author": "me"}
    (tmp_path / "x.paw").write_bytes(legacy(record, pair()))
    program: Program = formats.load(tmp_path / "x.paw")
    assert program.template.render("hi") == "Say it louder.\n\n[INPUT]\nhi\n[END_INPUT]"
    assert program.meta == {"author": "me"}
    assert program.adapter is not None
    assert program.adapter.scales == (2.0,)
    unknown = record | {"interpreter_model": "someone/else"}
    (tmp_path / "x.paw").write_bytes(legacy(unknown, pair()))
    with pytest.raises(FormatError, match="someone/else"):
        formats.load(tmp_path / "x.paw")
    assert formats.load_adapter(tmp_path / "x.paw").ranks == (1,)


def test_legacy_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.paw").write_bytes(b"PAW\x02" + struct.pack("<II", 2, 2**32 - 1) + b"{}")
    with pytest.raises(FormatError, match="claims 4294967295 bytes"):
        formats.load(tmp_path / "x.paw")
    (tmp_path / "x.paw").write_bytes(b"PAW\x02" + struct.pack("<II", 9, 2) + b"{}")
    with pytest.raises(FormatError, match="version 9"):
        formats.load(tmp_path / "x.paw")


def test_zip_without_an_end_is_no_crash(tmp_path: Path) -> None:
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    (tmp_path / "x.paw").write_bytes(b"PK\3\4" + empty.getvalue())
    with pytest.raises(FormatError, match="it holds nothing"):
        formats.load(tmp_path / "x.paw")
