"""Training a compiler on a tiny base: it learns, and stops and goes on without a trace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tiny
import toy_compilers as toy

from paw_mlx import CompileError, FormatError, OptionError
from paw_mlx.compiler.base_encoder import SpecReader
from paw_mlx.compiler.mapper import HEAD
from paw_mlx.formats.checkpoint import MAPPER, META, Checkpoint
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.training.arrays import read_arrays
from paw_mlx.training.compiler import CHECKPOINT, LOG, TRAINING
from paw_mlx.training.encodings import Encodings
from paw_mlx.training.mapper import MapperTrainer, whiten
from paw_mlx.training.optimizer import schedule
from paw_mlx.training.recipe import PRESETS, CompilerRecipe


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("training") / "base", "llama")


VARIANTS = {"mapper": {}, "fixed": {"fixed": True}, "encoder": toy.ENCODER}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_falls_and_the_log_tells(base, tmp_path, variant):
    steps = []
    training = toy.make_training(base, tmp_path / "out", replace(toy.TOY, **VARIANTS[variant]))
    training.run(steps.append)
    assert [step.number for step in steps] == list(range(1, 13))
    assert steps[-1].loss < 0.5 * steps[0].loss
    assert [step.number for step in steps if step.checked] == [4, 8, 12]
    assert training.last_check == steps[-1].checked
    assert training.last_check.by_kind == {"names": training.last_check.accuracy}
    log = toy.read_log(tmp_path / "out")
    assert [line["loss"] for line in log] == [step.loss for step in steps]
    assert log[3]["checked"]["loss"] == steps[3].checked.loss
    assert not (tmp_path / "out" / CHECKPOINT).exists()


def test_a_fixed_adapter_moves_the_bases_alone(base, tmp_path):
    training = toy.make_training(base, tmp_path / "out", replace(toy.TOY, fixed=True))
    training.run(lambda step: None)
    begun = training.trainer.initial(None)
    for name, array in training.arrays.items():
        assert np.array_equal(array, begun[name]) == (name in HEAD), name
    assert not mx.any(training.arrays["coeff_head.weight"]).item()


def test_prefix_tokens_and_the_encoder_s_lora_are_trained(base, tmp_path):
    training = toy.train(base, tmp_path / "out", replace(toy.TOY, **toy.ENCODER))
    begun = training.trainer.initial(None)
    assert {name.split(".")[0] for name in begun if name not in HEAD and "bases" not in name} == {
        "prefix_tokens",
        "lora",
    }
    still = [name for name, array in begun.items() if np.array_equal(array, training.arrays[name])]
    assert still == []


def unbroken(base: Path, folder: Path, recipe: CompilerRecipe) -> tuple[bytes, list]:
    toy.train(base, folder, recipe)
    return (folder / MAPPER).read_bytes(), toy.read_log(folder)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_was_stopped_ends_in_the_same_bits(base, tmp_path, variant):
    recipe = replace(toy.TOY, **VARIANTS[variant])
    expected = unbroken(base, tmp_path / "unbroken", recipe)
    out = tmp_path / "stopped"
    for number in (2, 6, 7, 11):  # before the first state, after it, and twice after one
        with pytest.raises(KeyboardInterrupt):
            toy.make_training(base, out, recipe).run(toy.stop_at(number))
    assert not (out / META).exists()
    taken = []
    last = toy.make_training(base, out, recipe)
    last.probe()
    last.run(lambda step: taken.append(step.number))
    assert taken == [9, 10, 11, 12]  # from the last state on
    assert ((out / MAPPER).read_bytes(), toy.read_log(out)) == expected


def test_one_object_that_was_interrupted_goes_on_as_another_would(base, tmp_path):
    expected = unbroken(base, tmp_path / "unbroken", toy.TOY)
    training = toy.make_training(base, tmp_path / "out")
    for number in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            training.run(toy.stop_at(number))
    training.run(lambda step: None)
    assert ((tmp_path / "out" / MAPPER).read_bytes(), toy.read_log(tmp_path / "out")) == expected


def test_a_probe_takes_no_step(base, tmp_path):
    expected = unbroken(base, tmp_path / "unbroken", toy.TOY)
    training = toy.make_training(base, tmp_path / "out")
    probed = training.probe()
    assert probed.seconds > 0 < probed.peak_bytes
    assert not (tmp_path / "out" / CHECKPOINT).exists()
    training.run(lambda step: None)
    assert ((tmp_path / "out" / MAPPER).read_bytes(), toy.read_log(tmp_path / "out")) == expected


@pytest.fixture(scope="module")
def stopped(base, tmp_path_factory) -> Path:
    """A folder with a state after step 4; take a copy."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    with pytest.raises(KeyboardInterrupt):
        toy.make_training(base, out).run(toy.stop_at(5))
    return out


@pytest.fixture
def state(stopped, tmp_path) -> Path:
    out = tmp_path / "out"
    out.mkdir()
    for name in (CHECKPOINT, LOG, TRAINING):
        (out / name).write_bytes((stopped / name).read_bytes())
    return out


def test_a_run_is_not_taken_up_on_other_terms(base, tmp_path, state):
    other = tiny.write_base(tmp_path / "other", "llama", seed=1)
    for changes, says in (
        (
            {"recipe": replace(toy.TOY, learning_rate=0.5, rank=4)},
            "rank was 2, not 4; learning_rate was 0.02, not 0.5",
        ),
        ({"functions": toy.FUNCTIONS[:3]}, "num_functions was 4, not 3; corpus_sha256 was"),
        ({"held_out": []}, "num_held_out was 1, not 0"),
        ({"base": other}, "interpreter_fingerprint was .*encoder_fingerprint was"),
    ):
        before = {path: path.read_bytes() for path in state.iterdir()}
        with pytest.raises(OptionError, match=f"begun on other terms: {says}"):
            toy.make_training(**{"base": base, "folder": state} | changes).run(lambda step: None)
        assert {path: path.read_bytes() for path in state.iterdir()} == before


def test_a_finished_folder_is_left_alone(base, tmp_path):
    out = tmp_path / "out"
    toy.train(base, out, replace(toy.TOY, steps=1))
    before = {path: path.read_bytes() for path in out.iterdir()}
    for recipe in (replace(toy.TOY, steps=1), replace(toy.TOY, steps=2)):
        for act in ("probe", "run"):
            with pytest.raises(OptionError, match="holds a finished compiler"):
                getattr(toy.make_training(base, out, recipe), act)(*[print] * (act == "run"))
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def shortened(data: bytes) -> bytes:
    return data[:-500]


def flipped(data: bytes) -> bytes:
    return data[:9] + b"\xff" + data[10:]


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (CHECKPOINT, shortened),
        (CHECKPOINT, flipped),
        (CHECKPOINT, lambda data: data[:20]),
        (CHECKPOINT, lambda data: b""),
        (CHECKPOINT, lambda data: data.replace(b'"step"', b'"stop"', 1)),
        (CHECKPOINT, lambda data: data.replace(b"coeff_head.bias", b"coeff_feet.bias", 1)),
        (CHECKPOINT, lambda data: data.replace(b'"shape":[8]', b'"shape":[4]', 1)),
        (TRAINING, shortened),
        (TRAINING, lambda data: b"[]"),
        (TRAINING, lambda data: b"\xff" + data),
    ],
)
def test_a_damaged_state_gives_one_sentence(base, state, file, change):
    damaged = change((state / file).read_bytes())
    assert damaged != (state / file).read_bytes()
    (state / file).write_bytes(damaged)
    with pytest.raises(FormatError, match=file):
        toy.make_training(base, state).run(lambda step: None)


def test_a_training_that_diverges_says_so_and_keeps_no_state(base, tmp_path):
    recipe = replace(toy.TOY, learning_rate=1e30)
    with pytest.raises(CompileError, match=r"diverged: the loss of step \d+ is (nan|inf)"):
        toy.train(base, tmp_path / "out", recipe)
    assert not (tmp_path / "out" / MAPPER).exists()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_blocks_that_are_computed_twice_change_no_gradient(base, tmp_path, family):
    """The interpreter is of every family, the encoder of Llama's kind."""
    interpreter = load_base(tiny.write_base(tmp_path / "base", family), trainable=True)
    reader = SpecReader(load_base(base, trainable=True), interpreter.profile.num_layers)
    recipe, found = replace(toy.TOY, **toy.ENCODER), []
    drawn = toy.sampler(interpreter).batch(1)
    for checkpointing in (False, True):
        trainer = MapperTrainer(interpreter, reader, recipe, checkpointing=checkpointing)
        arrays, batch = toy.stirred(trainer.initial(None)), trainer.prepare(drawn, None)
        found.append(mx.value_and_grad(trainer.loss)(arrays, batch))
    (loss, plain), (again, twice) = found
    assert float(loss) == pytest.approx(float(again), rel=1e-5)
    for name, gradient in plain.items():
        largest = float(mx.abs(gradient).max())
        assert largest > 0, name
        np.testing.assert_allclose(twice[name], gradient, atol=1e-4 * largest, err_msg=name)


def test_training_goes_on_from_a_compiler(base, tmp_path):
    fixed = replace(toy.TOY, fixed=True)
    first = toy.train(base, tmp_path / "fixed", fixed)
    begin = read_arrays(Checkpoint.read(tmp_path / "fixed"))
    mapper = toy.make_training(base, tmp_path / "mapper", start_from=begin)
    mapper.probe()
    before = mapper.check()
    assert before.loss == pytest.approx(first.last_check.loss, rel=1e-2)  # it was kept in float16
    assert mx.any(mapper.arrays["trunk.0.weight"] != begin["trunk.0.weight"]).item()  # read anew
    assert len(set(mapper.arrays["A_bases_q_proj"].reshape(-1).tolist())) > 10
    wider = toy.make_training(base, tmp_path / "wider", replace(toy.TOY, rank=4), start_from=begin)
    with pytest.raises(FormatError, match="have other sizes: A_bases_down_proj"):
        wider.run(lambda step: None)


def test_one_encoder_says_other_things_to_another_interpreter(base, tmp_path):
    """What is kept of a spec is the mean of the layers that teach, and these differ."""
    encoder, spec = load_base(base, trainable=True), toy.FUNCTIONS[0].specs[0]
    deep = load_base(tiny.write_base(tmp_path / "deep", "qwen3"), trainable=True)  # 3 layers
    for interpreter in (encoder, deep, encoder):
        reader = SpecReader(encoder, interpreter.profile.num_layers)
        trainer = MapperTrainer(interpreter, reader, toy.TOY, checkpointing=False)
        (expected,) = toy.pooled(trainer, [spec])
        np.testing.assert_allclose(Encodings(reader)[spec], expected, rtol=1e-5, atol=1e-6)


def test_a_trunk_begins_as_components_of_variance_one():
    chance = np.random.default_rng(0)
    seen = (chance.normal(size=(200, 3)) * [100, 1, 0.5] + [1000, 2, 3]) @ chance.normal(
        size=(3, 8)
    )
    weight, bias = whiten(seen.astype(np.float32), 5, seed=0)
    made = seen @ weight.T + bias
    np.testing.assert_allclose(made.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(made[:, :3].T), np.eye(3), atol=0.02)
    once = whiten(np.ones((1, 8), np.float32), 5, seed=0)  # one spec has no components
    assert all(np.isfinite(part).all() for part in once)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rank": 0}, "must be at least 1"),
        ({"bases": 0}, "must be at least 1"),
        ({"check_every": 0}, "must be at least 1"),
        ({"batch": 13}, "13 cases is not the same number of each of 4"),
        ({"alpha": 0}, "above 0"),
        ({"prefix_tokens": -1}, "at least 0"),
        ({"train_encoder": "whole"}, "'whole'"),
        ({"fixed": True, "prefix_tokens": 4}, "reads no spec"),
        ({"seed": -1}, "seed must lie"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes, says):
    with pytest.raises(OptionError, match=says):
        CompilerRecipe(**changes)


def test_presets_are_recipes_and_the_record_is_json(base, tmp_path):
    assert {"embedded", "paper"} <= PRESETS.keys()
    toy.train(base, tmp_path / "out", replace(toy.TOY, steps=1))
    record = json.loads((tmp_path / "out" / TRAINING).read_text())
    assert (record["recipe"]["rank"], record["num_functions"], record["num_held_out"]) == (2, 4, 1)


def test_the_rate_of_a_compiler_rises_for_a_tenth_of_the_way_and_falls_to_nothing():
    rates = [float(schedule(100, 2.0)(mx.array(step))) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0, rel=1e-5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 <= rates[99] < 1e-3
