"""A process forked after a base was loaded: MLX would wait there for ever, so nothing is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tiny

TESTS = Path(__file__).parents[1]
BEGIN = """
import multiprocessing, os, signal, sys
sys.path.insert(0, sys.argv[2])
import tiny
from paw_mlx import Interpreter, PawError
from paw_mlx.cases import Case

folder, program = sys.argv[1], tiny.program("llama")

def ask(call, *arguments):
    try:
        print(type(call(*arguments)).__name__, flush=True)
    except PawError as error:
        print(type(error).__name__, error.hints[0][:28], flush=True)

def child(work):
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        work()
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
REFUSED = 'ClosedError Start processes with "spawn"'


def lines(code: str, folder: Path) -> list[str]:
    """What some lines print that may fork, in a process of their own."""
    command = [sys.executable, "-W", "ignore", "-c", BEGIN + code, str(folder), str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_whatever_computes_is_refused_in_a_forked_child_and_the_parent_goes_on(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    code = """
loaded = Interpreter.load(folder)
fn = loaded.function(program)

def work():
    ask(fn, "picnic")
    ask(fn.stream, "picnic")
    ask(lambda: list(fn.map(["picnic"])))
    ask(lambda: loaded.submit(program, "picnic").result())
    ask(loaded.score, program, [Case("picnic", "wait")])
    ask(Interpreter.load, folder)
    ask(loaded.close)

for _ in range(2):  # before the first call, and after it
    child(work)
    ask(fn, "picnic")
"""
    assert lines(code, folder) == [*[REFUSED] * 6, "NoneType", "0", "str"] * 2


def test_the_error_comes_out_of_a_pool(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    code = """
fn = Interpreter.load(folder).function(program)

def call(text):
    return fn(text)

with multiprocessing.get_context("fork").Pool(1) as pool:
    ask(pool.map_async(call, ["picnic"]).get, 60)
"""
    assert lines(code, folder) == [REFUSED]


def test_a_child_forked_before_a_base_was_loaded_loads_its_own(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    code = """
def work():
    ask(Interpreter.load(folder).function(program), "picnic")

child(work)
work()
"""
    assert lines(code, folder) == ["str", "0", "str"]
