"""The type of a program's outputs in its files."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paw_mlx import formats
from paw_mlx.errors import FormatError, OptionError
from paw_mlx.output import TEXT, Labels, Output, Regex, Schema
from paw_mlx.profiles import Profile
from paw_mlx.program import Program

TYPES = [
    Labels(("ALERT", "QUIET", "Äußerst still")),
    Labels(("ALERT", "QUIET"), temperature=1.25, threshold=0.8, otherwise="UNSURE"),
    Schema.of({"type": "object", "properties": {"total": {"type": "number"}}}),
    Regex(r"[A-Z]{2}\d{1,4}|NONE"),
]


def read_meta(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return json.loads((path / "meta.json").read_text())
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("meta.json"))


def write_meta(folder: Path, **changes: Any) -> Path:
    (folder / "meta.json").write_text(json.dumps(read_meta(folder) | changes))
    return folder


@pytest.mark.parametrize("layout", ["paw", "directory"])
@pytest.mark.parametrize("output", TYPES, ids=lambda output: output.kind)
def test_a_type_comes_back_as_it_was(
    program: Program, llama: Profile, tmp_path: Path, layout: str, output: Output
) -> None:
    typed = replace(program, output=output)
    formats.save(typed, tmp_path / "p", None, layout=layout, profile=llama)
    got = formats.load(tmp_path / "p")
    assert got.output == output
    assert read_meta(tmp_path / "p")["output"] == output.record()
    assert got.id == typed.digest() != program.digest()
    formats.save(got, tmp_path / "again", None, layout=layout, profile=llama)
    assert read_meta(tmp_path / "again") == read_meta(tmp_path / "p")
    if layout == "paw":
        assert (tmp_path / "again").read_bytes() == (tmp_path / "p").read_bytes()


def test_a_program_without_a_type_is_written_as_before_there_were_types(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    formats.save(program, tmp_path / "p", layout="directory", profile=llama)
    text = (tmp_path / "p" / "meta.json").read_text()
    assert text == (
        '{\n  "compiler_snapshot": "by-hand",\n  "created_at": "2026-07-01T00:00:00Z",\n'
        f'  "version": 3,\n  "program_id": "{program.digest()}",\n  "spec": "Say it louder.",\n'
        '  "interpreter": "tiny",\n  "lora_rank": 32,\n  "lora_alpha": 8,\n  "prefix_steps": 0\n}\n'
    )
    assert formats.load(tmp_path / "p").output == TEXT


def test_what_else_stands_there_is_kept_as_long_as_the_type_is(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    formats.save(replace(program, output=TYPES[0]), folder, layout="directory", profile=llama)
    told = {"type": "labels", "labels": ["a", "b"], "temperature": 1.0, "by": {"who": [1, None]}}
    write_meta(folder, output=told, more={"of": "others"})
    got = formats.load(folder)
    assert got.output == Labels(("a", "b"))
    formats.save(got, tmp_path / "kept.paw", profile=llama)
    assert read_meta(tmp_path / "kept.paw")["output"] == told
    assert read_meta(tmp_path / "kept.paw")["more"] == {"of": "others"}
    formats.save(replace(got, output=Regex("a+")), tmp_path / "other.paw", profile=llama)
    assert read_meta(tmp_path / "other.paw")["output"] == {"type": "regex", "regex": "a+"}
    formats.save(replace(got, output=TEXT), tmp_path / "text.paw", profile=llama)
    assert "output" not in read_meta(tmp_path / "text.paw")
    assert read_meta(tmp_path / "text.paw")["more"] == {"of": "others"}


@pytest.mark.parametrize(
    "output",
    [
        "labels",
        7,
        [],
        {"type": "grammar"},
        {"type": "labels", "labels": ["a", {"b": [[[[]]]]}]},
        {"type": "labels", "labels": ["a", "b" * 1_000_000]},
        {"type": "labels", "labels": [f"label {n}" for n in range(100_000)]},
        {"type": "labels", "labels": ["a", "b"], "threshold": "high"},
        {"type": "labels", "labels": ["a", "b"], "temperature": 10**400},
        {"type": "schema", "schema": "object"},
        {"type": "regex", "regex": {"of": "what"}},
    ],
    ids=lambda output: repr(output)[:40],
)
def test_a_type_that_is_none_is_one_sentence_and_no_memory(
    program: Program, llama: Profile, tmp_path: Path, output: object
) -> None:
    formats.save(program, tmp_path / "p", layout="directory", profile=llama)
    write_meta(tmp_path / "p", output=output)
    size = (tmp_path / "p" / "meta.json").stat().st_size
    tracemalloc.start()
    with pytest.raises(FormatError, match="the output's type") as caught:
        formats.load(tmp_path / "p")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(str(caught.value)) < 250
    assert peak < 12 * size + (20 << 20)  # a text may have 16 MiB


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def test_what_could_not_be_read_again_is_not_written(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    formats.save(program, tmp_path / "p.paw", profile=llama)
    before = (tmp_path / "p.paw").read_bytes()
    many = Labels(tuple(f"{n:05d}{'ß' * 300}" for n in range(60_000)))  # 36 MB
    for output, said in (
        (Schema.of(nested(70)), "deeper than 64 levels"),
        (many, "limit 16777216"),
    ):
        with pytest.raises(OptionError, match=said):
            formats.save(replace(program, output=output), tmp_path / "p.paw", profile=llama)
        assert (tmp_path / "p.paw").read_bytes() == before
    deep = replace(program, output=Schema.of(nested(50)))
    formats.save(deep, tmp_path / "p.paw", profile=llama)
    assert formats.load(tmp_path / "p.paw").output == deep.output
