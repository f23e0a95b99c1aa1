"""`paw-mlx train-compiler` as its user meets it, on a tiny base and a toy corpus."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import toy_compilers as toy
from shell import Done, Paw, paw, start

from paw_mlx import load
from paw_mlx.formats.checkpoint import MAPPER, META

WORDS = [
    "--rank",
    "2",
    "--alpha",
    "4",
    "--trunk",
    "8",
    "--steps",
    "6",
    "--functions-per-batch",
    "2",
    "--batch",
    "4",
]
WORDS += ["--max-tokens", "160", "--check-every", "2", "--learning-rate", "0.02", "--offline"]
LONGER = ["--steps", "30"]  # so that there is something to interrupt
KINDS = {"has": toy.WORDS[:6], "says": toy.WORDS[:2], "names": toy.WORDS[6:]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and a corpus of three kinds, two of which may be held out."""
    folder = tmp_path_factory.mktemp("train-compiler")
    toy.write_base(folder / "base")
    functions = [toy.function(word, kind) for kind, words in KINDS.items() for word in words]
    (folder / "corpus").mkdir()
    toy.write_corpus(folder / "corpus" / "some.jsonl", functions[:5])
    toy.write_corpus(folder / "corpus" / "more.jsonl", functions[5:])
    (folder / "kinds.txt").write_text("says\nnames\n")
    return folder


def words(folder: Path, out: Path) -> list[object]:
    """The command's words for a run with both kinds held out."""
    known = [folder / "corpus", "-o", out, "--interpreter", folder / "base", *WORDS]
    return ["train-compiler", *known, "--hold-out", f"@{folder / 'kinds.txt'}"]


@pytest.fixture
def run(folder: Path, tmp_path: Path, call: Paw) -> Paw:
    """`paw-mlx train-compiler`, into `out`."""
    return lambda *more: call(*words(folder, tmp_path / "out"), *more)


@pytest.fixture(scope="module")
def unbroken(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The mapper that a longer run makes, in a process of its own."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    assert paw(*words(folder, out), *LONGER).returncode == 0
    return (out / MAPPER).read_bytes()


def test_help_says_what_it_takes_and_makes(call):
    done = call("train-compiler", "--help")
    assert done.returncode == 0
    text = done.stdout.decode()
    for said in ("DATA", "--hold-out", "--dry-run", "embedded|qwen3-0.6b|paper", "--fixed"):
        assert said in text
    assert "train-compiler" in call("--help").stdout.decode()


def test_a_run_says_what_it_does_and_what_came_of_it(run, tmp_path):
    done, out = run(), tmp_path / "out"
    assert done.returncode == 0, done.stderr
    plan, cost, *steps = done.stderr.splitlines()
    assert plan.startswith("a mapper for llama-2x64: ")
    assert "6 functions of 1 kinds; held out are 0 of these kinds and 4 of others" in plan
    assert cost.startswith("steps 1 to 6, ")
    assert [line.split()[1] for line in steps] == ["2/6", "4/6", "6/6"]
    assert all("held-out loss" in line and "right" in line for line in steps)
    table = done.stdout.decode().splitlines()
    assert table[0].split() == ["held-out", "kind", "right"]
    assert [line.split()[0] for line in table[1:-1]] == ["names", "says"]
    assert all(line.endswith("%") for line in table[1:-1])
    assert table[-1].startswith(f"wrote {out}: ")
    assert (out / META).exists()


def test_a_dry_run_says_what_it_would_cost_and_trains_nothing(run, tmp_path):
    done = run("--dry-run")
    assert (done.returncode, done.stdout) == (0, b"")
    assert "steps 1 to 6" in done.stderr
    record = json.loads(run("--dry-run", "--json").stdout)
    assert record["seconds"] == pytest.approx(6 * record["step_s"])
    assert record["peak_bytes"] > 0
    assert not (tmp_path / "out" / MAPPER).exists()
    assert run("--rank", "4").returncode == 0  # it fixed no terms either


def test_json_tells_the_same(run, tmp_path):
    record = json.loads(run("--json").stdout)
    out = tmp_path / "out"
    assert record["path"] == str(out)
    assert record["bytes"] == sum(path.stat().st_size for path in out.iterdir())
    assert record["by_kind"].keys() == {"names", "says"}
    assert 0 <= record["accuracy"] <= 1
    assert record["seconds"] > 0


def test_kinds_may_be_named_one_by_one(folder, tmp_path, call):
    known = [folder / "corpus", "-o", tmp_path / "out", "--interpreter", folder / "base", *WORDS]
    plan = call("train-compiler", *known, "--hold-out", "says", "--dry-run").stderr
    assert "8 functions of 2 kinds; held out are 0 of these kinds and 2 of others" in plan


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--hold-out", "dates"], "no function of the corpus is of the kinds dates"),
        (["--hold-out", "@nowhere.txt"], "cannot read nowhere.txt"),
        (["--batch", "5"], "5 cases is not the same number"),
        (["--functions-per-batch", "8", "--batch", "8"], "takes 8 functions, and there are 6"),
        (["--rank", "0"], "at least 1"),
        (["--fixed", "--prefix-tokens", "2"], "a fixed adapter reads no spec"),
        (["--interpreter", "nowhere"], "nowhere"),
        (["--from", "nowhere"], "no compiler 'nowhere'"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(run, tmp_path, more, says):
    done = run(*more)
    assert done.returncode == 1, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / MAPPER).exists()


def test_a_finished_folder_is_not_trained_again_but_gone_on_from(run, folder, tmp_path, call):
    assert run("--fixed").returncode == 0
    done = run()
    assert done.returncode != 0
    assert "holds a finished compiler" in done.stderr
    other = words(folder, tmp_path / "other")
    done = call(*other, "--from", tmp_path / "out", "--steps", "2")
    assert done.returncode == 0, done.stderr


def interrupted(folder: Path, out: Path) -> Done:
    """A run that is interrupted when its first check is told."""
    process = start(*words(folder, out), *LONGER)
    assert process.stderr
    said = b""
    while b"step 2/30" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    return Done(process.returncode, stdout, (said + stderr).decode())


@pytest.mark.slow
def test_an_interrupted_run_is_taken_up_and_ends_in_the_same_bits(folder, tmp_path, unbroken):
    out = tmp_path / "out"
    done = interrupted(folder, out)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert not (out / META).exists()
    more = start(*words(folder, out), *LONGER, "--json")
    stdout, stderr = more.communicate()
    assert more.returncode == 0, stderr
    first = int(stderr.split(b"steps ")[1].split()[0])
    assert first > 2
    assert (out / MAPPER).read_bytes() == unbroken
    assert json.loads(stdout)["by_kind"].keys() == {"names", "says"}


def test_other_terms_are_named(folder, tmp_path, call):
    out = tmp_path / "out"
    assert interrupted(folder, out).returncode == 130
    done = call(*words(folder, out), *LONGER, "--rank", "4")
    assert done.returncode == 1
    assert "begun on other terms: rank was 2, not 4" in done.stderr


def test_the_compiler_compiles(run, folder, tmp_path, call):
    assert run().returncode == 0
    known = ["--compiler", tmp_path / "out", "--interpreter", folder / "base"]
    program = tmp_path / "picnic.paw"
    done = call("compile", "Is picnic there? 1 or 0", *known, "--labels", "1,0", "-o", program)
    assert done.returncode == 0, done.stderr
    assert load(program).adapter.dtypes == ("f16",)  # of rank 2
    done = call("run", program, "disk full", "--interpreter", folder / "base")
    assert done.stdout.strip() in (b"1", b"0")
