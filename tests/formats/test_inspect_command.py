"""`paw-mlx inspect`: the whole sheet, fast, harmless, and without a model."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hub_server import make_program

from paw_mlx import formats
from paw_mlx.cli import cli
from paw_mlx.formats.fingerprint import fingerprint
from paw_mlx.profiles import PROFILES, Profile
from paw_mlx.program import Program

GOLDEN = Path(__file__).parent.parent / "golden"


def inspect(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli, ["inspect", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_sheet_shows_a_program_with_aligned_labels() -> None:
    lines = inspect(GOLDEN / "program.paw").split("\n")
    assert lines[:9] == [
        "layout             paw",
        "program            0123456789abcdef",
        "interpreter        tiny",
        "sites              6 (2 layers x 3 modules: down_proj, k_proj, q_proj)",
        "rank               32",
        "alpha              8 (scale 0.25)",
        "parameters         13,312",
        "adapter            q4_0, 7.5 kB",
        "file               8.3 kB",
    ]
    texts = ["", "spec", "  Say it louder.", "", "pseudo-program", "  Say it louder.", ""]
    assert lines[-len(texts) :] == texts


@pytest.mark.parametrize("name", ["peft", "adapter-f16.gguf", "mlx", "legacy.paw", "program"])
def test_every_layout_has_a_sheet_and_json(name: str) -> None:
    assert "2 layers x 3 modules" in inspect(GOLDEN / name)
    found = json.loads(inspect(GOLDEN / name, "--json"))
    assert found["num_sites"] == 6
    assert found["ranks"] == [32]
    assert (found["spec"] is None) == (name != "program")


def test_json_holds_everything() -> None:
    found = json.loads(inspect(GOLDEN / "program.paw", "--json"))
    assert found["template"].endswith("{INPUT_PLACEHOLDER}\n[END_INPUT]")
    assert found["meta"]["compiler_snapshot"] == "golden"
    assert found["file_bytes"] == (GOLDEN / "program.paw").stat().st_size
    assert found["program_id"] == "0123456789abcdef"


def compiled_for(program: Program, interpreter: object, found: str) -> Program:
    """A program that records its base, that base's fingerprint, and its compiler's."""
    prints = {"interpreter_fingerprint": found, "compiler_fingerprint": "c0ffee" * 10}
    return replace(program, interpreter=str(interpreter), meta={**program.meta, **prints})


def row(sheet: str, label: str) -> str:
    """What the sheet says at a label, or nothing."""
    rows = (line for line in sheet.split("\n") if line.startswith(f"{label}  "))
    return next((line[len(label) :].strip() for line in rows), "")


def test_the_sheet_says_whether_the_base_here_is_its_own(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    base, path = tmp_path / "base", tmp_path / "x.paw"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes((GOLDEN / "mlx/adapters.safetensors").read_bytes())
    formats.save(compiled_for(program, base, fingerprint(base)), path, profile=llama)
    assert row(inspect(path), "base") == "the one on this machine matches"
    assert row(inspect(path), "interpreter fingerprint") == fingerprint(base)[:12]
    assert row(inspect(path), "compiler fingerprint") == "c0ffeec0ffee"
    assert json.loads(inspect(path, "--json"))["base_matches"] is True

    weights = (GOLDEN / "peft/adapter_model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(weights)
    assert row(inspect(path), "base") == f"differs from the one on this machine ({base})"
    assert json.loads(inspect(path, "--json"))["base_matches"] is False

    (base / "model.safetensors").write_bytes(weights[:100])
    assert row(inspect(path), "base").startswith("the one on this machine cannot be read: ")
    assert json.loads(inspect(path, "--json"))["base_matches"] is None


@pytest.mark.parametrize("name", ["smollm2-135m", "nobody/nothing", "no base at all", "a\0b"])
def test_a_base_that_is_not_here_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", connect)
    path = make_program(tmp_path / "x.paw")
    made = compiled_for(formats.load(path), name, "ab" * 32)
    formats.save(made, path, dtype=None, profile=PROFILES["smollm2-135m"])
    assert row(inspect(path), "base") == "not on this machine"
    assert json.loads(inspect(path, "--json"))["base_matches"] is None


def test_a_program_that_records_no_fingerprint_has_no_row_for_it() -> None:
    sheet = inspect(GOLDEN / "program.paw")
    assert row(sheet, "base") == ""
    assert "fingerprint" not in sheet
    for name in ("program.paw", "peft"):
        assert json.loads(inspect(GOLDEN / name, "--json"))["base_matches"] is None


def test_control_characters_never_reach_the_terminal(
    program: Program, llama: Profile, tmp_path: Path
) -> None:
    evil = "a\x1b[2J\x07\r\x9b1m\u202eb"
    meta = {"compiler_snapshot": evil, "created_at": evil}
    texts = {"spec": evil, "pseudo_program": f"{evil}\n{evil}", "interpreter": evil, "meta": meta}
    formats.save(replace(program, **texts), tmp_path / "x.paw", profile=llama)
    sheet = inspect(tmp_path / "x.paw")
    assert all(c.isprintable() or c == "\n" for c in sheet)
    assert r"a\x1b[2J\x07\r\x9b1m\u202eb" in sheet
    assert json.loads(inspect(tmp_path / "x.paw", "--json"))["spec"] == evil


def test_broken_file_gives_an_error_line_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"GGUF")
    result = CliRunner().invoke(cli, ["inspect", str(tmp_path / "x")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the GGUF file ends too early")
    result = CliRunner().invoke(cli, ["inspect", str(tmp_path / "x"), "--json"])
    assert json.loads(result.stdout)["error"]["code"] == "FormatError"


def test_inspect_imports_no_mlx_and_no_gguf() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from paw_mlx.cli import cli; "
        f"r = CliRunner().invoke(cli, ['inspect', {str(GOLDEN / 'program.paw')!r}]); "
        "assert r.exit_code == 0, r.output; "
        "bad = [m for m in sys.modules if m.split('.')[0] in ('mlx', 'gguf', 'mlx_lm', 'torch')]; "
        "assert not bad, bad"
    )
    root = Path(formats.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
