"""What `train-compiler` leaves is a compiler: it makes the LoRA that was trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tiny
import toy_compilers as toy

import paw_mlx as paw
from paw_mlx.adapter import Adapter
from paw_mlx.compiler.base_encoder import BaseEncoder, SpecReader, encode_spec
from paw_mlx.compiler.mapper import make_pairs
from paw_mlx.compiler.writer import write_pseudo_program
from paw_mlx.formats.checkpoint import MAPPER, META, TRAINED_ENCODER, Checkpoint
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.training.compiler import CompilerTraining

SPECS = [toy.FUNCTIONS[0].specs[0], toy.HELD_OUT[0].specs[1]]
VARIANTS = {
    "mapper": {},
    "prefix": {"prefix_tokens": 3},
    "lora": {"train_encoder": "lora"},
    "both": toy.ENCODER,
    "fixed": {"fixed": True},
}
Trained = tuple[CompilerTraining, Path]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return toy.write_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def train(base, tmp_path_factory) -> Callable[[str], Trained]:
    """Train each variant once."""
    found: dict[str, Trained] = {}

    def once(variant: str) -> Trained:
        if variant not in found:
            out = tmp_path_factory.mktemp(variant) / "out"
            recipe = replace(toy.TOY, learning_rate=5e-2, **VARIANTS[variant])
            found[variant] = toy.train(base, out, recipe), out
        return found[variant]

    return once


def compile_all(out: Path, base: Path, specs: list[str] = SPECS) -> list[paw.Program]:
    compiler = paw.Compiler.load(str(out), interpreter=str(base))
    return [compiler.compile(spec) for spec in specs]


def expected(training: CompilerTraining, spec: str) -> dict[str, np.ndarray]:
    """A and B of every site, from the arrays that were trained, as float16 keeps them."""
    arrays = {n: a.astype(mx.float16).astype(mx.float32) for n, a in training.arrays.items()}
    trainer = training.trainer
    pooled = trainer.read(arrays, encode_spec(trainer.reader.base.tokenizer, spec))
    pairs = make_pairs(arrays, pooled, trainer.sizes)
    return {
        f"{layer}.{module}.{half}": np.array(matrix[layer])
        for module, pair in pairs.items()
        for half, matrix in zip("AB", pair, strict=True)
        for layer in range(trainer.sizes.num_layers)
    }


def apart(one: Adapter, other: Adapter) -> float:
    """The largest difference between two adapters' deltas, relative to the largest number."""
    return max(
        np.abs(one.delta(site) - other.delta(site)).max() / np.abs(one.delta(site)).max()
        for site in one.sites
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_program_s_lora_is_what_was_trained(base, train, variant):
    training, out = train(variant)
    for spec, program in zip(SPECS, compile_all(out, base), strict=True):
        wanted = expected(training, spec)
        assert len(wanted) == 2 * len(program.adapter.sites)
        for site, lora in program.adapter.sites.items():
            assert (lora.rank, lora.alpha) == (2, 4.0)
            for half in "AB":
                found, right = getattr(lora, half).dense(), wanted[f"{site}.{half}"]
                np.testing.assert_allclose(found, right, atol=1e-5 * np.abs(right).max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_specs_make_different_loras_unless_one_was_trained_for_all(base, train, variant):
    one, other = compile_all(train(variant)[1], base)
    assert one.id != other.id
    difference = apart(one.adapter, other.adapter)
    assert difference == 0 if variant == "fixed" else difference > 1e-3


@pytest.mark.parametrize("variant", ["mapper", "both"])
def test_what_was_trained_of_the_encoder_matters(base, train, variant, tmp_path):
    training, out = train(variant)
    assert (out / TRAINED_ENCODER).exists() == (variant == "both")
    if variant == "both":
        changed = shutil.copytree(out, tmp_path / "changed")
        arrays = dict(mx.load(str(out / TRAINED_ENCODER)))
        stirred = {n: mx.array(np.array(a[::-1])) for n, a in arrays.items()}
        mx.save_safetensors(str(changed / TRAINED_ENCODER), stirred)
        found = [compile_all(folder, base)[0].adapter for folder in (out, changed)]
        assert apart(*found) > 1e-3
    reader = training.trainer.reader
    plain = np.array(reader.states(encode_spec(reader.base.tokenizer, SPECS[0])))
    encoder = BaseEncoder(Checkpoint.read(out), base)
    (read,) = encoder.hidden([encoder.tokens(SPECS[0], "")], 2)
    assert read.shape == ((2, 3, 64) if variant == "both" else plain.shape)
    assert variant == "both" or np.abs(read - plain).max() < 1e-4


def test_a_compiled_program_scores_as_its_training_said(base, train):
    training, out = train("mapper")
    function = toy.HELD_OUT[0]
    spec, cases = function.specs[0], function.cases[:8]
    (program,) = compile_all(out, base, [spec])
    assert program.pseudo_program == write_pseudo_program(spec)
    with paw.Interpreter.load(str(base)) as interpreter:
        score = interpreter.score(program, cases)
        outputs = list(interpreter.function(program).map([case.input for case in cases]))
    checked = training.last_check
    assert score.loss == pytest.approx(checked.loss, rel=1e-2)
    assert score.accuracy == checked.accuracy
    right = [output == case.output for output, case in zip(outputs, cases, strict=True)]
    assert np.mean(right) == checked.accuracy


def test_pairs_in_a_spec_become_examples_and_no_model_is_asked(base, train):
    spec = "Is disk there? 1 or 0\nInput: disk full\nOutput: 1\nInput: picnic\nOutput: 0"
    program = paw.compile(spec, compiler=str(train("mapper")[1]), interpreter=str(base))
    assert program.pseudo_program == (
        "[PSEUDO_PROGRAM]\nTask: Is disk there? 1 or 0\n\nExamples:\nInput: disk full\nOutput: 1\n"
        "Input: picnic\nOutput: 0\n[END_PSEUDO_PROGRAM]"
    )
    assert program.spec == spec
    record = program.meta["paw_mlx"]
    assert record["pseudo_compiler"] == "none: the spec as it stands"
    assert program.meta["compiler_fingerprint"]
    given = "[PSEUDO_PROGRAM]\nTask: Say 1.\n[END_PSEUDO_PROGRAM]"  # it needs no examples here
    with paw.Compiler.load(str(train("mapper")[1]), interpreter=str(base)) as compiler:
        assert compiler.compile(spec, pseudo_program=given).pseudo_program == given


def test_control_tokens_in_a_spec_are_plain_text(base, train):
    encoder = BaseEncoder(Checkpoint.read(train("mapper")[1]), base)
    tokenizer = load_base(base).tokenizer
    control = tokenizer.ids(tiny.CONTROL)
    assert len(control) == 3
    for added in (*tiny.CONTROL, "".join(tiny.CONTROL)):
        found = encoder.tokens(SPECS[0] + added, "")
        assert not set(control) & set(found)
        assert tokenizer.decode(found) == f"[SPEC]\n{SPECS[0]}{added}\n[END_SPEC]"


def test_a_spec_that_exceeds_the_window_is_refused(base, train):
    """The prefix tokens stand in it, too."""
    encoder = BaseEncoder(Checkpoint.read(train("prefix")[1]), base)
    room = 1024 - 3 - len(encoder.tokens("", ""))
    assert len(encoder.tokens("0" * room, "")) == 1021
    with pytest.raises(paw.CompileError, match=r"takes 1025 tokens, .* is 1024"):
        encoder.tokens("0" * (room + 1), "")


def lacking(folder: Path) -> None:
    (folder / TRAINED_ENCODER).unlink()


def cut(folder: Path) -> None:
    data = (folder / TRAINED_ENCODER).read_bytes()
    (folder / TRAINED_ENCODER).write_bytes(data[:-300])


def emptied(folder: Path) -> None:
    (folder / TRAINED_ENCODER).write_bytes(b"")


def renamed(folder: Path) -> None:
    data = (folder / TRAINED_ENCODER).read_bytes()
    (folder / TRAINED_ENCODER).write_bytes(data.replace(b"prefix_tokens", b"suffix_tokens"))


def of_other_sizes(folder: Path) -> None:
    arrays = dict(mx.load(str(folder / TRAINED_ENCODER)))
    arrays["prefix_tokens"] = mx.zeros((4, 64))
    mx.save_safetensors(str(folder / TRAINED_ENCODER), arrays)


def of_numbers_no_more(folder: Path) -> None:
    arrays = dict(mx.load(str(folder / TRAINED_ENCODER)))
    arrays["prefix_tokens"] = arrays["prefix_tokens"] * float("nan")
    mx.save_safetensors(str(folder / TRAINED_ENCODER), arrays)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lacking, TRAINED_ENCODER),
        (cut, TRAINED_ENCODER),
        (emptied, TRAINED_ENCODER),
        (renamed, "2 tensors do not fit in the encoder: prefix_tokens is missing"),
        (of_other_sizes, r"prefix_tokens is \(4, 64\), not \(3, 64\)"),
        (of_numbers_no_more, "NaN or infinite"),
    ],
)
def test_a_damaged_encoder_gives_one_sentence(base, train, tmp_path, damage, says):
    folder = shutil.copytree(train("both")[1], tmp_path / "damaged")
    damage(folder)
    with pytest.raises(paw.PawError, match=says) as raised:
        compile_all(folder, base)
    assert isinstance(raised.value, paw.FormatError | paw.NotFound)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"encoder_model": 5}, "encoder_model"),
        ({"prefix_steps": -1}, "prefix_steps as -1"),
        ({"encoder_rank": None}, "encoder_rank"),
        ({"lora_rank": 3}, "do not fit in the mapper"),
        ({"compiler_prompt_style": "maximal"}, "minimal, spec"),
    ],
)
def test_a_record_that_does_not_fit_gives_one_sentence(base, train, tmp_path, changes, says):
    folder = shutil.copytree(train("both")[1], tmp_path / "damaged")
    record = json.loads((folder / META).read_text())
    (folder / META).write_text(json.dumps(record | changes))
    with pytest.raises(paw.FormatError, match=says):
        compile_all(folder, base)


def test_a_mapper_may_be_float32_or_float16(base, train, tmp_path):
    _, out = train("mapper")
    assert {a.dtype for a in mx.load(str(out / MAPPER)).values()} == {mx.float16}
    wide = shutil.copytree(out, tmp_path / "wide")
    arrays = {n: a.astype(mx.float32) for n, a in mx.load(str(out / MAPPER)).items()}
    mx.save_safetensors(str(wide / MAPPER), arrays)
    one, other = (compile_all(folder, base)[0].adapter for folder in (out, wide))
    assert apart(one, other) == 0
    narrow = shutil.copytree(out, tmp_path / "narrow")
    arrays = {n: a.astype(mx.bfloat16) for n, a in arrays.items()}
    mx.save_safetensors(str(narrow / MAPPER), arrays)
    with pytest.raises(paw.FormatError, match="not float32 or float16"):
        compile_all(narrow, base)


def test_a_base_of_another_kind_is_no_encoder(tmp_path):
    gpt2 = load_base(tiny.write_base(tmp_path / "gpt2", "gpt2"))
    with pytest.raises(paw.FormatError, match="cannot be the encoder"):
        SpecReader(gpt2, 2)


def test_a_compiler_for_another_interpreter_is_refused(train, tmp_path):
    other = tiny.write_base(tmp_path / "other", "qwen3")
    with pytest.raises(paw.AdapterMismatch, match="2 layers"):
        compile_all(train("mapper")[1], other)
