"""Threads that compute are lent and taken back: MLX never gives up what it keeps for one."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from weakref import ref

import pytest
import tiny
from engine_room import inside, thread_of
from leftovers import rss

from paw_mlx import ClosedError, Interpreter, OptionError, Options
from paw_mlx.interpreter.base.tokenizer import Tokenizer
from paw_mlx.interpreter.engine.threads import Errand, compute

PROGRAM = tiny.program("llama", 1)
TASKS = Path("/proc/self/task")
said: ContextVar[str] = ContextVar("said", default="nothing")


class Model:
    """What a thread must not keep."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.write_base(tmp_path_factory.mktemp("threads") / "base", "llama"))


def call(interpreter: Interpreter) -> threading.Thread:
    """Call a program; the thread that computed."""
    interpreter.run(PROGRAM, "picnic", Options(max_tokens=2))
    thread = thread_of(interpreter)
    assert thread
    return thread


def open_and_close(base: str) -> None:
    with Interpreter.load(base) as interpreter:
        call(interpreter)


def in_a_new_thread(work: Callable[[str], None], base: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work, base).result()


def in_this_thread(work: Callable[[str], None], base: str) -> None:
    work(base)


@pytest.mark.skipif(not TASKS.exists(), reason="no Linux")
@pytest.mark.parametrize("somewhere", [in_this_thread, in_a_new_thread])
def test_interpreters_opened_and_closed_leave_no_thread_and_no_memory(base, somewhere):
    for _ in range(3):
        somewhere(open_and_close, base)
    threads, memory = len([*TASKS.iterdir()]), tiny.active_bytes()
    for _ in range(7):
        somewhere(open_and_close, base)
    assert len([*TASKS.iterdir()]) <= threads + 2  # one that ends may be seen a moment longer
    assert tiny.active_bytes() <= memory + 100


def test_two_at_once_have_two_threads_and_the_next_ones_take_them(base):
    def both() -> set[threading.Thread]:
        with Interpreter.load(base) as one, Interpreter.load(base) as two:
            threads = {call(one), call(two)}
        assert len(threads) == 2
        return threads

    assert both() == both()


def test_a_forgotten_interpreter_lends_its_thread_to_the_next(base):
    interpreter = Interpreter.load(base)
    thread = call(interpreter)
    del interpreter
    until, taken = time.monotonic() + 10, None
    while taken is not thread and time.monotonic() < until:
        gc.collect()
        with Interpreter.load(base) as following:
            taken = call(following)
    assert taken is thread


def test_a_closed_interpreter_stays_closed_in_the_thread_of_the_next(base):
    with Interpreter.load(base) as old:
        thread = call(old)
    with Interpreter.load(base) as new:
        assert call(new) is thread
        with pytest.raises(ClosedError):
            inside(new, lambda _: call(old))
        with pytest.raises(OptionError, match="waits for itself"):
            inside(new, lambda _: call(new))
        old.close()
        assert call(new) is thread


def test_a_thread_that_waits_keeps_nothing_of_its_last_work():
    model = Model()
    known = ref(model)

    def work(model: Model = model) -> None:
        said.set("something")

    errand = Errand(work)
    del model, work
    errand.wait()
    assert known() is None
    heard: Future[tuple[str, bool]] = Future()
    following = Errand(lambda: heard.set_result((said.get(), errand.is_here)))
    assert heard.result(10) == ("nothing", False)
    assert following.thread is errand.thread


def test_work_that_raises_ends_its_thread_and_nobody_elses(monkeypatch):
    errors: Future[str] = Future()
    monkeypatch.setattr(threading, "excepthook", lambda told: errors.set_result(str(told[1])))

    def work() -> None:
        raise ValueError("a bug")

    errand = Errand(work)
    errand.wait()
    assert errors.result(10) == "a bug"
    errand.thread.join(10)
    heard: Future[str] = Future()
    following = Errand(lambda: heard.set_result("goes on"))
    assert heard.result(10) == "goes on"
    assert following.thread is not errand.thread


def test_an_error_of_a_load_in_a_thread_keeps_no_model():
    """Reference counts free it: a collection comes late, and a base is large."""

    def load() -> None:
        model = Model()
        known.append(ref(model))
        raise OptionError("damaged")

    def work() -> None:
        with pytest.raises(OptionError, match="damaged"):
            compute(load)

    known: list[ref[Model]] = []
    gc.disable()
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work).result()
        assert known[0]() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not TASKS.exists(), reason="no Linux")
def test_a_tokenizer_that_goes_leaves_no_words_in_a_thread(base):
    text = " ".join(f"word{number}" for number in range(1000))

    def encode() -> None:
        assert len(Tokenizer.from_file(Path(base, "tokenizer.json")).encode(text)) > 1000

    encode()
    before = rss(os.getpid())
    for _ in range(20):
        encode()
    assert rss(os.getpid()) < before + 2_500_000
