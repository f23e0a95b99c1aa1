"""`paw-mlx train` as a shell sees it: rows that teach nothing, kills, curves, gates."""

from __future__ import annotations

import json
import time

import pytest
import tiny
from shell import paw, start

from paw_mlx import load


@pytest.fixture
def base(tmp_path):
    return tiny.write_base(tmp_path / "base", "llama")


def write_training(base, folder, rows):
    """Write a spec and rows, and return the words that train on them."""
    (folder / "spec.txt").write_text("Say wait.")
    lines = [json.dumps({"input": text, "output": output}) + "\n" for text, output in rows]
    (folder / "rows.jsonl").write_text("".join(lines))
    words = ["train", "-f", folder / "spec.txt", "--examples", folder / "rows.jsonl"]
    words += ["-o", folder / "out.paw", "--interpreter", base, "--batch-size", 2]
    return [*words, "--rank", 2, "--alpha", 4]


def test_examples_that_teach_nothing_are_refused(base, tmp_path):
    train = write_training(
        base, tmp_path, [(f"Invoice {i}", "wait" if i else " wait") for i in range(20)]
    )
    done = paw(*train, "--json")
    message = "all 20 examples have the output 'wait'"
    assert done.returncode == 1
    assert message in json.loads(done.stdout)["error"]["message"]
    assert not (tmp_path / "out.paw").exists()


def test_examples_that_contradict_or_repeat_are_named_and_left_out(base, tmp_path):
    rows = [(f"Invoice {i}", "wait" if i % 2 else "now") for i in range(30)]
    train = write_training(base, tmp_path, [*rows, ("Invoice 3", "now"), ("Invoice 4", "now")])
    done = paw(*train, "--steps", 1)
    assert done.returncode == 0, done.stderr
    contradictory, repeated = done.stderr.splitlines()[:2]
    assert contradictory.endswith(": line 4, line 31")
    assert repeated.endswith(": line 32")
    training = load(tmp_path / "out.paw").meta["training"]
    assert training["num_trained"] + training["num_held_out"] + 4 == 29  # four are shown


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_and_leaves_its_curve_alone(base, tmp_path):
    """And at its end its folder is gone; the gate is held against what was held out."""
    rows = [(f"Invoice {i}", "wait" if i % 2 else "now") for i in range(60)]
    train = [*write_training(base, tmp_path, rows), "--steps", 400, "--learning-rate", 1e-9]
    work = tmp_path / "out.paw.training" / "checkpoint.safetensors"
    process = start(*train)
    while not work.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (tmp_path / "out.paw").exists()
    done = paw(*train, "--gate", "accuracy>=0.99", "--json")
    assert done.returncode == 1
    record = json.loads(done.stdout)
    assert [missed.split()[0] for missed in record["missed"]] == ["accuracy"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == [
        "out.curve.jsonl",
        "out.paw",
    ]
    curve = [json.loads(line) for line in (tmp_path / "out.curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == list(range(1, record["steps"] + 1))
    assert len([row for row in curve if "held_out" in row]) == record["steps"] // 40
