"""`paw-mlx inspect`: the whole sheet, fast, harmless, and without a model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from paw_mlx import formats
from paw_mlx.cli import cli
from paw_mlx.profiles import Profile
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
