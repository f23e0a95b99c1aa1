"""Compiling: the same LoRA as torch's, programs that run, and one bad spec that sinks no other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tiny
from chat_models import scripted_model
from compiling_repos import (
    KINDS,
    PSEUDO_PROGRAM,
    SPEC,
    converted,
    expected,
    interpreter,
    repo,
)

import paw_mlx as paw
from paw_mlx import settings
from paw_mlx.compiler import chat, installed
from paw_mlx.compiler.compilation import Compilation
from paw_mlx.compiler.encoder import Encoder, teacher_layers
from paw_mlx.compiler.streamed_mapper import StreamedMapper
from paw_mlx.device import assume_gpu
from paw_mlx.formats.checkpoint import Checkpoint
from paw_mlx.formats.fingerprint import fingerprint
from paw_mlx.output import TEXT


def load(kind: str = "qwen3", bits: int = 32, **options) -> paw.Compiler:
    return paw.Compiler.load(
        str(converted(kind, bits)), interpreter=str(interpreter(kind)), **options
    )


def largest_error(adapter: paw.Adapter, kind: str) -> float:
    """The largest error of A or B at any site, relative to the matrix's largest element."""
    wanted = expected(kind)
    errors = [
        np.abs(getattr(lora, half).dense() - wanted[f"{site}.{half}"]).max()
        / np.abs(wanted[f"{site}.{half}"]).max()
        for site, lora in adapter.sites.items()
        for half in "AB"
    ]
    num_sites = sum("proj.A" in name or "c_attn.A" in name or "c_fc.A" in name for name in wanted)
    assert len(errors) == 2 * num_sites
    return max(errors)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_states_and_lora_are_those_of_torch(kind):
    wanted = expected(kind)
    spec, pseudo = str(wanted["spec"]), str(wanted["pseudo_program"])
    encoder = Encoder(Checkpoint.read(converted(kind)))
    tokens = encoder.tokens(spec, pseudo)
    assert tokens == wanted["tokens"].tolist()
    (hidden,) = encoder.hidden([tokens], len(wanted["hidden"]))
    assert np.abs(hidden - wanted["hidden"]).max() < 1e-4 * np.abs(wanted["hidden"]).max()
    assert (
        largest_error(StreamedMapper(Checkpoint.read(converted(kind))).adapter(hidden), kind) < 1e-4
    )
    program = load(kind).compile(spec, pseudo_program=pseudo)
    assert largest_error(program.adapter, kind) < 1e-4


CONTROL = ("<|im_end|>", "<|im_start|>", "<|endoftext|>", "<prefix_7>")


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_in_a_users_text_are_plain_text(kind):
    encoder = Encoder(Checkpoint.read(converted(kind)))
    tokenizer = chat.load_tokenizer(converted(kind) / "compiler")
    plain = encoder.tokens(SPEC, PSEUDO_PROGRAM)
    added = "".join(CONTROL)
    for texts in ((SPEC + added, PSEUDO_PROGRAM), (SPEC, PSEUDO_PROGRAM + added), (added, added)):
        found = encoder.tokens(*texts)
        assert len(found) > 40  # it is read, only otherwise
        for token in CONTROL:
            (number,) = tokenizer.encode(token, add_special_tokens=False)
            assert found.count(number) == plain.count(number)
        read = tokenizer.decode(found)
        assert all(text in read for text in texts)


def test_a_compile_reads_the_numbers_of_its_compiler_once(monkeypatch):
    compiler = converted("qwen3", 8)
    read, whose = [], Checkpoint.read.__func__
    monkeypatch.setattr(
        Checkpoint,
        "read",
        classmethod(lambda cls, folder: read.append(folder) or whose(cls, folder)),
    )
    load(bits=8).compile(SPEC, pseudo_program=PSEUDO_PROGRAM)
    assert read == [compiler]


def test_eight_bits_are_close_and_four_are_farther():
    wanted = expected("qwen3")
    texts = str(wanted["spec"]), str(wanted["pseudo_program"])
    errors = [
        largest_error(load(bits=bits).compile(texts[0], pseudo_program=texts[1]).adapter, "qwen3")
        for bits in (32, 8, 4)
    ]
    assert errors == sorted(errors)
    assert errors[1] < 0.1


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_weights_as_a_gpu_computes_with_them_give_nearly_the_same(kind, bits):
    wanted = expected(kind)
    texts = str(wanted["spec"]), str(wanted["pseudo_program"])
    dense = load(kind, bits).compile(texts[0], pseudo_program=texts[1])
    with assume_gpu():  # packed, and bfloat16 around it
        packed = load(kind, bits).compile(texts[0], pseudo_program=texts[1])
    errors = [
        np.abs(packed.adapter.delta(site) - dense.adapter.delta(site)).max()
        / np.abs(dense.adapter.delta(site)).max()
        for site in dense.adapter.sites
    ]
    assert max(errors) < (1e-4 if bits == 32 else 0.3)
    assert bits == 32 or max(errors) > 0


def test_each_layer_of_the_interpreter_has_its_teacher_and_the_last_the_last():
    # The table of the paper's two compilers, of 36 layers.
    assert teacher_layers(36, 12) == list(range(2, 36, 3))
    qwen3 = teacher_layers(36, 28)
    assert qwen3[:5] == [0, 1, 2, 4, 5]
    assert (qwen3[-1], len(set(qwen3))) == (35, 28)
    assert teacher_layers(2, 4) == [0, 0, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_program_is_saved_loaded_and_run(kind, tmp_path):
    compiler = load(kind)
    program = compiler.compile(SPEC, pseudo_program=f"Sure!\n{PSEUDO_PROGRAM}\nDone.")
    assert program.pseudo_program == PSEUDO_PROGRAM
    assert program.template.text.count("[INPUT]") == 1
    path = tmp_path / "alert.paw"
    paw.save(program, path, profile=compiler.target.profile)
    loaded = paw.load(path)
    assert (loaded.id, loaded.spec, loaded.pseudo_program) == (program.id, SPEC, PSEUDO_PROGRAM)
    with paw.Interpreter.load(str(interpreter(kind))) as base:
        outputs = [
            base.function(each)("the disk is full", max_tokens=8)
            for each in (program, paw.Program(program.template, None, program.interpreter))
        ]
    assert outputs[0] != outputs[1]  # the adapter does something


def test_an_id_depends_on_spec_pseudo_program_and_compiler_alone():
    compiler, other = load(), PSEUDO_PROGRAM.replace("Friday", "Monday")
    program = compiler.compile(SPEC, pseudo_program=PSEUDO_PROGRAM)
    again = compiler.compile(f"{SPEC}\n", pseudo_program=PSEUDO_PROGRAM)
    assert again.id == program.id
    different = {
        program.id,
        compiler.compile(f"{SPEC}!", pseudo_program=PSEUDO_PROGRAM).id,
        compiler.compile(SPEC, pseudo_program=other).id,
        load(bits=8).compile(SPEC, pseudo_program=PSEUDO_PROGRAM).id,
    }
    assert len(different) == 4


def test_a_program_records_where_it_comes_from():
    program = load(bits=8).compile(SPEC, pseudo_program=PSEUDO_PROGRAM)
    assert program.meta["compiler_fingerprint"] == load(bits=8).fingerprint
    assert program.meta["interpreter_fingerprint"] == fingerprint(interpreter("qwen3"))
    record = program.meta["paw_mlx"]
    assert (record["bits"], record["pseudo_program"]) == (8, "given")
    assert "instruction_sha256" not in record
    assert record["costs"]["encode"]["seconds"] > 0
    assert record["costs"]["map"]["peak_bytes"] > 0
    assert json.loads(json.dumps(program.meta)) == program.meta


def test_many_specs_give_what_one_by_one_gives_and_a_bad_one_sinks_no_other():
    specs = [f"{SPEC} Case {n}." for n in range(18)]  # more than go through a phase together
    jobs = [Compilation(spec, PSEUDO_PROGRAM) for spec in specs]
    jobs[3] = Compilation(specs[3], "Task: no markers")
    jobs[5] = Compilation("word " * 5000, PSEUDO_PROGRAM)
    done = list(load().compile_all(jobs))
    assert [job.spec for job in done] == [job.spec for job in jobs]
    assert [n for n, job in enumerate(done) if job.error] == [3, 5]
    assert "[PSEUDO_PROGRAM]" in str(done[3].error)
    assert "4096" in str(done[5].error)
    for n in (0, 17):
        alone = load().compile(specs[n], pseudo_program=PSEUDO_PROGRAM)
        assert alone.digest() == done[n].program.digest()
    assert done[0].program.digest() != done[1].program.digest()


def test_specs_that_are_encoded_together_share_its_seconds(monkeypatch):
    hidden = Encoder.hidden

    def slow(self, sequences, num_layers):
        time.sleep(0.2)
        return hidden(self, sequences, num_layers)

    monkeypatch.setattr(Encoder, "hidden", slow)
    compiler, start = load(), time.perf_counter()
    jobs = [Compilation(f"{SPEC} Case {n}.", PSEUDO_PROGRAM) for n in range(8)]
    seconds = [job.costs["encode"].seconds for job in compiler.compile_all(jobs)]
    assert len(set(seconds)) == 1
    assert 0.2 <= sum(seconds) <= time.perf_counter() - start


@pytest.mark.parametrize("kept", [False, True])
def test_the_pseudo_compiler_stays_in_memory_where_that_is_asked_for(tmp_path, kept):
    path = scripted_model(tmp_path / "model", PSEUDO_PROGRAM)
    weights = (path / "model.safetensors").stat().st_size
    with load(pseudo_compiler=str(path), instruction="Write.", keep_loaded=kept) as compiler:
        compiler.compile(SPEC, pseudo_program=PSEUDO_PROGRAM)  # what stays anyway
        before = tiny.active_bytes()
        assert compiler.compile("Say yes.").pseudo_program == PSEUDO_PROGRAM
        held = tiny.active_bytes() - before
        assert held > 0.9 * weights if kept else held < 0.1 * weights
    assert tiny.active_bytes() - before < 0.1 * weights


def test_outputs_are_what_is_said_or_what_the_spec_names():
    free = "Write a greeting."
    digit = paw.Regex("[0-9]")
    kept = {"pseudo_program": PSEUDO_PROGRAM, "offline": True}
    kept |= {"compiler": str(converted("qwen3")), "interpreter": str(interpreter("qwen3"))}
    for spec, words, output in (
        (SPEC, {}, paw.Labels(("ALERT", "QUIET"))),
        (SPEC, {"labels": ["PAGE", "LOG"]}, paw.Labels(("PAGE", "LOG"))),
        (SPEC, {"text": True}, TEXT),
        (free, {}, TEXT),
        (free, {"regex": "[0-9]"}, digit),
    ):
        assert paw.compile(spec, **words, **kept).output == output
    assert load().compile(SPEC, pseudo_program=PSEUDO_PROGRAM, output=digit).output == digit
    fn = paw.compile_and_load(SPEC, labels=["PAGE", "LOG"], **kept)
    assert fn("disk full") in ("PAGE", "LOG")
    with pytest.raises(paw.OptionError, match="of one type"):
        paw.compile(SPEC, labels=["A", "B"], regex="A", compiler="nowhere")


def test_the_encoder_holds_two_layers_whatever_its_depth(tmp_path):
    peaks = [encoding_peak(deep(tmp_path / str(n), n)) for n in (8, 32)]
    assert peaks[1] < 1.2 * peaks[0]


def deep(folder: Path, num_layers: int) -> Path:
    """A converted compiler of as many layers, all alike."""
    shutil.copytree(converted("qwen3"), folder)
    encoder = folder / "compiler"
    index = json.loads((encoder / "model.safetensors.index.json").read_text())["weight_map"]
    first = [name for name in index if name.startswith("model.layers.0.")]
    wide = dict(mx.load(str(encoder / index[first[0]])))
    for i in range(num_layers):
        layer = {name.replace(".0.", f".{i}."): tensor for name, tensor in wide.items()}
        mx.save_safetensors(str(encoder / f"layer-{i}.safetensors"), layer)
        index |= dict.fromkeys(layer, f"layer-{i}.safetensors")
    (encoder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    config = json.loads((encoder / "config.json").read_text())
    config |= {"num_hidden_layers": num_layers, "layer_types": ["full_attention"] * num_layers}
    (encoder / "config.json").write_text(json.dumps(config))
    return folder


def encoding_peak(compiler: Path) -> int:
    encoder = Encoder(Checkpoint.read(compiler))
    tokens = encoder.tokens("s", "p")
    before = tiny.active_bytes()
    mx.reset_peak_memory()
    encoder.hidden([tokens], 3)
    return mx.get_peak_memory() - before


def test_a_compiler_for_another_interpreter_is_refused_before_any_work():
    with pytest.raises(paw.AdapterMismatch, match=r"3 layers.*gpt2"):
        paw.Compiler.load(str(converted("qwen3")), interpreter=str(interpreter("gpt2")))


def test_a_published_compiler_is_converted_once_and_kept(tmp_path):
    said: list[str] = []
    options = {"interpreter": str(interpreter("qwen3")), "bits": 8, "progress": said.append}
    first = paw.Compiler.load(str(repo("qwen3")), **options)
    assert any("layer" in line for line in said)
    said.clear()
    assert paw.Compiler.load(str(repo("qwen3")), **options).fingerprint == first.fingerprint
    assert said == []
    with pytest.raises(paw.OptionError, match="8 bits, not 4"):
        paw.Compiler.load(str(converted("qwen3", 8)), bits=4)


@pytest.mark.slow
def test_compiling_with_what_is_here_loads_no_converter():
    code = (
        "import sys, paw_mlx.compiler.pipeline as pipeline\n"
        "compiler = pipeline.Compiler.load(sys.argv[1], interpreter=sys.argv[2])\n"
        "compiler.compile('Say yes.', pseudo_program=sys.argv[3])\n"
        "assert not [name for name in sys.modules if name.startswith('paw_mlx.convert')]"
    )
    words = [converted("qwen3"), interpreter("qwen3"), PSEUDO_PROGRAM]
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("reference", "interpreter", "message"),
    [
        ("no-such-compiler", None, "no compiler 'no-such-compiler'"),
        (None, "Qwen/Qwen3-8B", "no published compiler writes for Qwen/Qwen3-8B"),
        (None, "gpt2", "paw-4b-gpt2 is not on this machine"),
        ("paw-4b-qwen3-0.6b", None, "paw-4b-qwen3-0.6b is not on this machine"),
        ("paw-smollm2-135m", None, "smollm2-135m is not on this machine"),  # its base is not
    ],
)
def test_what_is_not_here_is_named(reference, interpreter, message):
    with pytest.raises(paw.PawError, match=message):
        paw.Compiler.load(reference, interpreter=interpreter, offline=True)


def changed_config(**changes):
    return lambda data: json.dumps(json.loads(data) | changes).encode()


def broken(folder: Path, file: str, change) -> Path:
    shutil.copytree(converted("qwen3"), folder)
    path = folder / file
    path.write_bytes(change(path.read_bytes()))
    return folder


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("mapper.safetensors", lambda data: data[:-100], "and the file has"),
        ("mapper.safetensors", lambda data: data[:40], "header"),
        ("mapper.safetensors", lambda data: data.replace(b"A_bases_k_proj", b"A_bases_z_proj"),
         "do not fit in the mapper"),
        ("meta.json", lambda data: data.replace(b'"lora_rank"', b'"lora_tank"'), "lacks lora_rank"),
        ("meta.json", lambda data: data.replace(b'"minimal"', b'"maximal"'), "maximal"),
        ("compiler/model.safetensors.index.json", lambda data: b"{}", "does not name files of 5"),
        ("compiler/model.safetensors.index.json",
         lambda data: data.replace(b"model-00002", b"../model-00002"), "does not name files of 5"),
        ("compiler/config.json", changed_config(model_type="gpt2"), "lacks 'n_embd'"),
        ("compiler/config.json", changed_config(model_type=[]), "model_type"),
        ("compiler/config.json", changed_config(num_hidden_layers=10**9), "layers"),
        ("compiler/config.json", changed_config(num_hidden_layers="a"), "num_hidden_layers"),
        ("compiler/config.json", changed_config(num_attention_heads=0), "num_attention_heads"),
        ("compiler/config.json", changed_config(max_position_embeddings="x"), "max_position"),
        ("compiler/config.json", changed_config(hidden_size=128, head_dim=32), "gives 128"),
        ("compiler/tokenizer_config.json", lambda data: b"{}", "names no eos_token"),
        ("compiler/tokenizer.json", lambda data: data.replace(b"<prefix_7>", b"<praefix_7>"),
         "<prefix_7>"),
    ],
)  # fmt: skip
def test_a_damaged_compiler_gives_one_sentence(tmp_path, file, change, message):
    folder = broken(tmp_path / "compiler", file, change)
    with pytest.raises(paw.FormatError, match=message):
        paw.Compiler.load(str(folder), interpreter=str(interpreter("qwen3")))


def test_compilers_of_one_name_are_two(monkeypatch):
    kept = settings.data_dir() / "compilers"
    shutil.copytree(converted("qwen3", 8), kept / "alice--foo-8bit")
    found = installed.installed_compiler("alice/foo", offline=True)
    assert found.folder == kept / "alice--foo-8bit"
    with pytest.raises(paw.OfflineError, match="bob/foo is not on this machine"):
        installed.installed_compiler("bob/foo", offline=True)
    with pytest.raises(paw.OfflineError):
        installed.installed_compiler("alice/foo", 4, offline=True)


def test_a_folder_that_changed_is_converted_anew(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(repo("qwen3"), folder)
    base = str(interpreter("qwen3"))
    first = paw.Compiler.load(str(folder), interpreter=base)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"lora_alpha": 8}))
    second = paw.Compiler.load(str(folder), interpreter=base)
    assert (first.checkpoint.alpha, second.checkpoint.alpha) == (16, 8)
    assert first.fingerprint != second.fingerprint


def test_states_that_are_not_finite_make_no_program(tmp_path):
    def poisoned(data: bytes) -> bytes:
        return data[:-64] + b"\xff" * 64

    folder = broken(tmp_path / "compiler", "mapper.safetensors", poisoned)
    with pytest.raises(paw.FormatError, match="NaN or infinite"):
        paw.compile(
            SPEC,
            pseudo_program=PSEUDO_PROGRAM,
            compiler=str(folder),
            interpreter=str(interpreter("qwen3")),
        )


def test_compile_and_load_gives_a_function():
    fn = paw.compile_and_load(
        SPEC,
        pseudo_program=PSEUDO_PROGRAM,
        compiler=str(converted("qwen3")),
        interpreter=str(interpreter("qwen3")),
    )
    assert isinstance(fn("the disk is full", max_tokens=4), str)
    assert fn.program.spec == SPEC


@pytest.mark.parametrize("spec", ["", "  \n"])
def test_an_empty_spec_is_refused(spec):
    with pytest.raises(paw.OptionError, match="empty"):
        load().compile(spec, pseudo_program=PSEUDO_PROGRAM)
