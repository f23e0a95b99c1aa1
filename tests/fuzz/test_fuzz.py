"""The fuzzer finds what no input may do, and a short run over all readers finds nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS = 100  # inputs of each target

# Reads one input, given by its text, as a worker does; prints what it came to.
ONE = """
import sys
from pathlib import Path
from tests.fuzz import worker
sys.argv = ["worker", "faulty", "--first", "0", "--runs", "1", "--seconds", "60", "--seed", "0"]
sys.argv += ["--hang", "1", "--sandbox", {sandbox!r}, "--out", {out!r}]
from tests.fuzz.target import Target
Target.make = lambda self, number, seed: {text!r}.encode()
worker.main()
"""
FOUND = {
    "sound": "ok",
    "inside": "ok",
    "refused": "FormatError",
    "bug": "FIND KeyError at faulty.py",
    "sentence": "FIND a message of control characters, _Obedient at faulty.py",
    "hang": "FIND Hang at",
    "balloon": "FIND MemoryError at",
    "write": "FIND Escape at",
    "read": "FIND Escape at",
    "remove": "FIND Escape at",
    "run": "FIND Escape at",
    "connect": "FIND Escape at",
    "import": "FIND Escape at",
    "compile": "FIND Escape at",
}


def python(*words: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout, with a home of its own."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        cwd=ROOT,
        env=os.environ | options,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    (tmp_path / "sandbox").mkdir()
    return tmp_path / "sandbox"


@pytest.fixture
def home(sandbox: Path) -> dict[str, str]:
    return {
        "PAW_MLX_HOME": str(sandbox / "home"),
        "HF_HOME": str(sandbox / "huggingface"),
        "PAW_OFFLINE": "1",
        "MALLOC_ARENA_MAX": "2",
    }


@pytest.mark.slow
def test_a_short_run_over_all_readers_finds_nothing(sandbox: Path, home: dict[str, str]) -> None:
    words = ("--runs", str(RUNS), "--seed", "18", "--sandbox", str(sandbox))
    done = python("-m", "tests.fuzz.short", *words, **home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f": {RUNS} inputs") >= 30


@pytest.mark.parametrize("fault", FOUND)
def test_what_no_input_may_do_is_found(
    fault: str, tmp_path: Path, sandbox: Path, home: dict[str, str]
) -> None:
    if fault == "balloon" and sys.platform != "linux":
        pytest.skip("the system limits no memory here")
    (tmp_path / "outside").write_bytes(b"")
    code = ONE.format(sandbox=str(sandbox), out=str(tmp_path / "out"), text=fault)
    done = python("-c", code, **home)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    outcomes = [name for each in told for name in each["outcomes"]]
    assert len(outcomes) == 1
    assert outcomes[0].startswith(FOUND[fault]), outcomes
    assert (tmp_path / "outside").read_bytes() == b""
    finds = [*(tmp_path / "out").rglob("*.bin")]
    assert len(finds) == FOUND[fault].startswith("FIND")
    if finds and fault != "hang":
        assert finds[0].read_bytes() == fault.encode()  # nothing of it could be left out


def test_a_crash_is_kept_and_the_run_goes_on(tmp_path: Path, home: dict[str, str]) -> None:
    code = """
import sys
from pathlib import Path
from tests.fuzz import driver, targets
watch = driver._watch
def watched(command, *more):
    fault = "crash" if command[command.index("--first") + 1] == "0" else "sound"
    code = "from tests.fuzz import worker; from tests.fuzz.target import Target;"
    code += f"Target.make = lambda *a: b'{fault}'; worker.main()"
    at = command.index("-m")
    return watch([*command[:at], "-c", code, *command[at + 2:]], *more)
driver._watch = watched
asked = driver.Asked(("faulty",), 5, 60, 0, 1, Path(sys.argv[1]), False)
sys.exit(driver.fuzz(asked))
"""
    done = python("-c", code, str(tmp_path), **home)
    assert done.returncode == 1, done.stderr
    counts = json.loads((tmp_path / "counts.json").read_text())["faulty"]
    assert counts["runs"] == 5
    crash, sound = sorted(counts["outcomes"])
    assert crash.startswith("FIND exit -11 at")
    assert (sound, counts["outcomes"][sound]) == ("ok", 4)
    (kept,) = (tmp_path / "finds").glob("*.bin")
    assert kept.read_bytes() == b"crash"
    assert "Segmentation fault" in kept.with_suffix(".txt").read_text()


def test_inputs_follow_from_their_numbers(tmp_path: Path, home: dict[str, str]) -> None:
    code = """
import sys
from pathlib import Path
from tests.fuzz.targets import make
target = make("gguf", Path(sys.argv[1]))
print([hash(target.make(number, 3)) for number in range(40)])
"""
    said = {python("-c", code, str(tmp_path), PYTHONHASHSEED="0", **home).stdout for _ in range(2)}
    assert len(said) == 1
    assert len(set(json.loads(said.pop()))) > 35
