"""`paw-mlx convert`: any layout to any other, proved, and DST as it was if that fails."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result

import paw_mlx as paw
from paw_mlx import formats
from paw_mlx.adapter import Adapter, Lora, Matrix
from paw_mlx.cli import cli
from paw_mlx.convert import convert, matrix
from paw_mlx.errors import FormatError

SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "max_position_embeddings": 8192,
    "vocab_size": 49152,
}
QWEN3 = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "max_position_embeddings": 40960,
    "vocab_size": 151936,
}
NAMES = {"paw": "x.paw", "dir": "x", "peft": "x", "gguf": "x.gguf", "mlx": "x"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.write_base(tmp_path / "base", "qwen3")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """A PEFT adapter of rank 32 for the tiny base."""
    profile = tiny.profile("qwen3")
    path = tmp_path / "adapter"
    formats.save_adapter(tiny.adapter(profile, rank=32), path, "peft", profile)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in ("convert", *words)])


def deltas(path: Path) -> dict[str, np.ndarray]:
    adapter = formats.load_adapter(path, tiny.profile("qwen3"))
    return {str(site): adapter.delta(site) for site in adapter.sites}


@pytest.mark.parametrize("to", list(NAMES))
def test_every_layout_is_written_and_proved(adapter, base, tmp_path, to):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Task\n{INPUT_PLACEHOLDER}\n")
    out = tmp_path / "out" / NAMES[to]
    words = [adapter, out, "--to", to, "--interpreter", base, "--json"]
    done = run(*words, *(["--template", prompt] if to in ("paw", "dir") else []))
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["out"]["path"] == str(out)
    assert record["receipt"]["exact"]
    wanted = deltas(adapter)
    assert all(np.array_equal(delta, wanted[site]) for site, delta in deltas(out).items())
    if to in ("paw", "dir"):
        assert formats.load(out).template.text == "Task\n{INPUT_PLACEHOLDER}\n"


def test_the_receipt_is_a_table_on_stderr_and_one_line_on_stdout(adapter, base, tmp_path):
    done = run(adapter, tmp_path / "x.gguf", "--dtype", "q4_0", "--interpreter", base)
    assert done.exit_code == 0
    assert "q_proj" in done.stderr
    assert done.stdout.startswith(f"wrote {tmp_path / 'x.gguf'}: peft → gguf, ")


def test_a_pseudo_program_makes_a_program_that_runs(adapter, base, tmp_path):
    pseudo, spec = tmp_path / "pseudo.txt", tmp_path / "spec.txt"
    pseudo.write_text("[PSEUDO_PROGRAM]\nTask: Say yes.\n[END_PSEUDO_PROGRAM]\n")
    spec.write_text("Say yes.")
    out = tmp_path / "yes.paw"
    words = ["--pseudo-program", pseudo, "--spec", spec, "--interpreter", base]
    assert run(adapter, out, *words).exit_code == 0
    program = paw.load(out)
    assert program.interpreter == str(base)  # not what the PEFT config says
    assert (program.spec, program.pseudo_program) == ("Say yes.", pseudo.read_text().strip())
    fn = paw.function(out, interpreter=str(base))
    assert isinstance(fn("Is it?", max_tokens=3), str)


def test_a_program_keeps_its_id_and_gets_a_new_one_with_a_new_prompt(base, tmp_path):
    profile = tiny.profile("qwen3")
    program = tiny.program("qwen3")
    program = paw.Program(
        program.template, tiny.adapter(profile, rank=32), "tiny", meta={"program_id": "ab" * 16}
    )
    formats.save(program, tmp_path / "a.paw", dtype="f32", profile=profile)
    convert(tmp_path / "a.paw", tmp_path / "b.paw", dtype="q4_0", interpreter=str(base))
    assert paw.load(tmp_path / "b.paw").id == "ab" * 16
    convert(
        tmp_path / "a.paw",
        tmp_path / "c.paw",
        interpreter=str(base),
        template="Else: {INPUT_PLACEHOLDER}",
    )
    assert paw.load(tmp_path / "c.paw").id != "ab" * 16


def test_what_fails_its_receipt_never_takes_its_place(adapter, base, tmp_path, monkeypatch):
    out = tmp_path / "x.gguf"
    assert run(adapter, out, "--interpreter", base).exit_code == 0
    before = out.read_bytes()
    save = formats.save_adapter

    def a_percent_off(adapter: Adapter, *arguments) -> None:
        sites = {
            site: Lora(lora.A, Matrix.from_array(lora.B.dense() * np.float32(1.01)), lora.alpha)
            for site, lora in adapter.sites.items()
        }
        save(Adapter(sites), *arguments)

    monkeypatch.setattr(formats, "save_adapter", a_percent_off)
    done = run(adapter, out, "--interpreter", base)
    assert done.exit_code == 1
    assert "is not what was read" in done.stderr
    assert "3 wrong" in done.stderr  # its table, a row for each module
    done = run(adapter, out, "--interpreter", base, "--json")
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["receipt"]["ok"]) == ("ReceiptError", False)
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "base", "x.gguf"]


def test_a_name_in_the_store_is_a_source(base, tmp_path, adapter):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("{INPUT_PLACEHOLDER}")
    out = tmp_path / "x.paw"
    assert run(adapter, out, "--interpreter", base, "--template", prompt).exit_code == 0
    assert CliRunner().invoke(cli, ["pull", str(out), "--as", "mine"]).exit_code == 0
    assert run("mine@v1", tmp_path / "y.gguf", "--interpreter", base).exit_code == 0
    assert deltas(tmp_path / "y.gguf").keys() == deltas(adapter).keys()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{adapter}", "x"], 1, "does not follow from its name"),
        (["{adapter}", "x.gguf"], 1, "does not name a base that is known"),
        (["{adapter}", "x.paw", "--interpreter", "{base}"], 1, "a program needs a prompt"),
        (["{adapter}", "x.gguf", "--interpreter", "gpt2"], 1, "42 tensors are no A or B"),
        (["{adapter}", "x.gguf", "--interpreter", "{base}", "--alpha", "8"], 1, "torch"),
        (["{adapter}", "x.gguf", "--interpreter", "{base}", "--spec", "{spec}"], 1, "no prompt"),
        (["{adapter}", "x.gguf", "--bits", "4"], 2, "--dtype"),
        (["{base}", "x", "--base", "--dtype", "f16"], 2, "no option of adapters"),
        (["{adapter}", "x", "--to", "peft", "--dtype", "q4_0", "--interpreter", "{base}"], 1,
         "q4_0"),
        (["missing", "x.gguf"], 1, "missing"),
        (["{adapter}", "{adapter}", "--to", "gguf", "--interpreter", "{base}"], 1, "are one"),
        (["{adapter}", "{adapter}/x.gguf", "--interpreter", "{base}"], 1, "lies in the other"),
        (["{adapter}", "{base}", "--to", "gguf", "--interpreter", "{base}"], 1, "is a folder"),
        (["{adapter}", "{spec}", "--to", "gguf", "--interpreter", "{base}"], 1,
         "is no adapter or program"),
        (["base/typo", "x.gguf", "--interpreter", "{base}"], 1, "no such file or folder"),
    ],
)  # fmt: skip
def test_a_wrong_call_gets_one_sentence_and_writes_nothing(
    adapter, base, tmp_path, monkeypatch, words, code, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.txt").write_text("Say yes.")
    before = sorted(tmp_path.rglob("*"))
    known = {"adapter": adapter, "base": base, "spec": tmp_path / "spec.txt"}
    done = run(*(word.format(**known) for word in words))
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_fine_tune_keeps_its_name(tmp_path):
    """Sizes tell families apart, and no more: what was trained on a fine-tune names it."""
    profile = paw.Profile.from_config(SMOLLM2)
    made = replace(profile, repos=("me/smollm2-tuned",))
    formats.save_adapter(tiny.adapter(made, rank=1), tmp_path / "a", "peft", made)
    base = ["--interpreter", "me/SmolLM2-135M-Instruct"]
    for to in ("peft", "mlx", "gguf"):
        assert run(tmp_path / "a", tmp_path / to, "--to", to, *base, "--offline").exit_code == 0
        found = formats.read_adapter(tmp_path / to)
        assert found.interpreter == "me/SmolLM2-135M-Instruct"


def test_the_prompt_that_stays_behind_is_named(base, tmp_path, monkeypatch):
    said: list[str] = []
    profile = tiny.profile("qwen3")
    program = replace(tiny.program("qwen3"), adapter=tiny.adapter(profile, rank=32))
    formats.save(program, tmp_path / "a.paw", dtype="f32", profile=profile)
    convert(tmp_path / "a.paw", tmp_path / "x.gguf", interpreter=str(base), progress=said.append)
    assert said == [f"the prompt of {tmp_path / 'a.paw'} stays behind: gguf holds an adapter alone"]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads VmHWM")
def test_a_full_size_adapter_takes_little_memory(tmp_path):
    """40 million parameters, f32: under 400 MB above start, receipt included."""
    profile = paw.Profile.from_config(QWEN3)
    formats.save_adapter(tiny.adapter(profile, rank=64), tmp_path / "a", "peft", profile)
    code = (
        "import re, sys, paw_mlx.convert.program as c\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "start = peak()\n"
        "c.convert(sys.argv[1], sys.argv[2], dtype='q4_0', interpreter='qwen3-0.6b')\n"
        "print((peak() - start) // 1000)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "x.gguf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400


def test_convert_is_a_function_of_its_package_whatever_was_imported(adapter, base, tmp_path):
    import paw_mlx.convert.checkpoint  # noqa: F401  a submodule, which binds its package's name

    made = convert(adapter, tmp_path / "x.gguf", interpreter=str(base))
    assert made.receipt.exact
    with pytest.raises(FormatError):
        convert(base, tmp_path / "y.gguf", interpreter=str(base))


def test_a_base_is_converted(base, tmp_path):
    done = run(base, tmp_path / "out", "--base", "--bits", 32, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["path"] == str(tmp_path / "out")
    with paw.Interpreter.load(str(tmp_path / "out")) as interpreter:
        assert interpreter.profile.num_layers == 3


def test_the_support_matrix_is_what_the_code_does():
    assert set(matrix.ABOUT) == {*formats.DTYPES, "torch"}
    readme = Path(__file__).parents[2] / "convert" / "README.md"
    assert readme.read_text(encoding="utf-8") == f"{matrix.page()}\n"
