"""fn.map, fn.arun and fn.submit: many inputs at once give what each gives alone."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
import time
import tracemalloc
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import tiny
from limits import limited

from paw_mlx import Function, InputTooLong, Interpreter, OptionError, Options, PawError
from paw_mlx.errors import FormatError
from paw_mlx.rows import flow
from paw_mlx.runner import Result

TEXTS = ["the disk is full", "picnic", "", "server down " * 4, "世界 Grüße", "0", "spring " * 9]


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """What would wait for good fails."""
    with limited(60):
        yield


@pytest.fixture(scope="module")
def fn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    base = tiny.write_base(tmp_path_factory.mktemp("base"), "qwen3")
    with Interpreter.load(str(base)) as interpreter:
        yield interpreter.function(tiny.program("qwen3"))


class Engine:
    """Stands where the engine does: calls end when, and in the order that, a test says."""

    def __init__(self, max_in_flight: int = 16) -> None:
        self.max_in_flight, self.calls = max_in_flight, list[tuple[str, Future[Result]]]()
        self.most = 0  # calls in flight

    def submit(self, program: object, text: str, options: Options) -> Future[Result]:
        self.calls.append((text, Future()))
        self.most = max(self.most, sum(not future.done() for _, future in self.calls))
        return self.calls[-1][1]

    @property
    def texts(self) -> list[str]:
        return [text for text, _ in self.calls]

    def end(self, index: int, error: BaseException | None = None) -> None:
        text, future = self.calls[index]
        if not future.set_running_or_notify_cancel():
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(Result(text.upper(), "stop", 0, 1, 1, 0.0, 0.0))

    def end_soon(
        self, *indices: int, error: BaseException | None = None, after_s: float = 0.05
    ) -> None:
        """End calls in another thread, in this order, a moment after there are all of them."""

        def work() -> None:
            while len(self.calls) <= max(indices):
                time.sleep(0.001)
            time.sleep(after_s)
            for index in indices:
                self.end(index, error)

        threading.Thread(target=work, daemon=True).start()


class Instant(Engine):
    """Every call has ended when submit returns."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def submit(self, program: object, text: str, options: Options) -> Future[Result]:
        future = super().submit(program, text, options)
        self.end(-1, InputTooLong("too long") if text == "wrong" else None)
        self.num_calls += 1
        self.calls.clear()
        return future


def bound(engine: Any) -> Function:
    return Function(engine, None)  # type: ignore[arg-type]


def outcomes(engine: Any, rows: Any, **how: Any) -> Generator[flow.Outcome[Any]]:
    return flow.outcomes(engine, None, rows, Options(), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 7}], ids=["greedy", "seeded"])
def test_map_is_run(fn: Function, options: dict[str, Any]) -> None:
    texts = TEXTS * 3
    random.Random(1).shuffle(texts)
    each = [fn(text, max_tokens=6, **options) for text in texts]
    assert len(set(each)) > 4
    assert list(fn.map(texts, max_tokens=6, **options)) == each
    assert list(fn.map(iter(texts), batch_size=1, max_tokens=6, **options)) == each


def test_order_is_kept_whatever_ends_first() -> None:
    engine = Engine()
    found = bound(engine).map(["a", "b", "c"], batch_size=3)
    engine.end_soon(2, 1, 0)
    assert list(found) == ["A", "B", "C"]


def test_without_order_rows_come_as_they_end() -> None:
    engine = Engine()
    rows = [(i, text) for i, text in enumerate("abca")]
    found = outcomes(engine, rows, batch_size=9, ordered=False)
    engine.end_soon(2, 0, 1)
    came = [(outcome.item, outcome.repeated) for outcome in found]
    assert came == [(2, False), (0, False), (3, True), (1, False)]


def test_so_many_calls_are_in_flight_and_no_more() -> None:
    engine, pulled = Engine(), itertools.count()
    source = (f"{next(pulled)}" for _ in range(1000))
    found = bound(engine).map(source, batch_size=5)
    engine.end_soon(*range(5))
    assert next(found) == "0"
    assert (engine.most, len(engine.calls)) == (5, 5)
    found.close()
    engine = Engine(max_in_flight=24)
    engine.end_soon(*range(24))
    assert next(bound(engine).map(map(str, range(1000)))) == "0"
    assert engine.most == 24


def test_more_calls_are_in_flight_than_rows_are_decoded(fn: Function) -> None:
    assert isinstance(fn.runner, Interpreter)
    assert fn.runner.max_in_flight == 8 * fn.runner.max_rows


def test_a_slow_row_does_not_stop_the_others_and_holds_back_only_so_many() -> None:
    engine = Engine()
    found = bound(engine).map(map(str, itertools.count()), batch_size=4)
    stop = threading.Event()

    def serve() -> None:
        done = 1  # all but the first
        while not stop.is_set():
            while done < len(engine.calls):
                engine.end(done)
                done += 1
            if done == 16:
                time.sleep(0.2)
                engine.end(0)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert next(found) == "0"
        assert len(engine.calls) == 4 * flow.ROWS_PER_CALL
    finally:
        stop.set()
        thread.join()
        found.close()


def test_equal_inputs_are_computed_once_unless_drawn_at_random() -> None:
    for options, num_calls in [
        ({}, 3),
        ({"temperature": 1.0, "seed": 3}, 3),
        ({"temperature": 1.0}, 9),
    ]:
        engine = Instant()
        assert list(bound(engine).map([*"abcabcaaa"], **options)) == [*"ABCABCAAA"]
        assert engine.num_calls == num_calls
    engine = Engine()
    found = bound(engine).map(["a", "a", "b", "a"])
    engine.end_soon(1, 0)
    assert list(found) == ["A", "A", "B", "A"]
    assert engine.texts == ["a", "b"]


def test_a_row_that_is_wrong_in_itself_is_no_repeated_call() -> None:
    rows = [(1, "a"), (2, FormatError("no JSON")), (3, "a"), (4, FormatError("no JSON"))]
    found = list(outcomes(Instant(), rows))
    assert [outcome.repeated for outcome in found] == [False, False, True, False]


@pytest.mark.parametrize("rows", ["a", "ab"], ids=["at its end", "when it is full"])
def test_a_processor_is_left_alone_while_a_call_computes(rows: str) -> None:
    engine = Engine()
    engine.end_soon(0, after_s=1.0)
    found, before = bound(engine).map([*rows], batch_size=1), time.thread_time()
    assert next(found) == "A"
    assert time.thread_time() - before < 0.05
    found.close()


def test_no_more_results_are_remembered_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow, "MAX_REMEMBERED", 2)
    engine = Instant()
    list(bound(engine).map([*"abacab"]))
    assert engine.num_calls == 4  # a b c b: the last b was forgotten, a was used


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_inputs() -> None:
    found = bound(Instant()).map(f"{i} {'x' * 2000}" for i in range(30_000))
    for _ in itertools.islice(found, 10_000):
        pass
    tracemalloc.start()
    try:
        for _ in itertools.islice(found, 10_000):
            pass
        gc.collect()
        early = tracemalloc.get_traced_memory()[0]
        for _ in itertools.islice(found, 9_000):
            pass
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < early * 1.2 + 100_000
    finally:
        tracemalloc.stop()


def test_no_memory_is_kept_of_inputs_that_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "MAX_REMEMBERED", 16)
    found = bound(Instant()).map(map(str, itertools.count()))
    for _ in itertools.islice(found, 1000):
        pass
    tracemalloc.start()
    try:
        for _ in itertools.islice(found, 20_000):
            pass
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 50_000
    finally:
        tracemalloc.stop()


def test_no_more_is_held_than_so_many_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "MAX_HELD_CHARS", 100)
    engine = Engine()
    rows = ((i, "x" * 5 + str(i)) for i in range(1000))
    found = outcomes(engine, rows, batch_size=50, weigh=lambda _: 19)
    engine.end_soon(0)
    assert next(found).item == 0
    assert len(engine.calls) == 4
    found.close()


def test_an_error_is_raised_in_its_place_or_returned(fn: Function) -> None:
    texts = ["picnic", "x" * 1000, "0", 5, "\ud800"]
    found = fn.map(texts, on_error="return", max_tokens=4)  # type: ignore[arg-type]
    right, long, after, number, half = found
    assert [right, after] == [fn(text, max_tokens=4) for text in ("picnic", "0")]
    assert isinstance(long, InputTooLong)
    assert long.__traceback__ is None
    assert isinstance(number, OptionError)
    assert "of type int" in str(number)
    assert isinstance(half, OptionError)
    found = fn.map(texts, max_tokens=4)  # type: ignore[arg-type]
    assert next(found) == right
    with pytest.raises(InputTooLong):
        next(found)
    assert list(found) == []


@pytest.mark.parametrize("value", [None, float("nan"), b"picnic", ["picnic"], 5])
def test_an_input_that_is_no_text_is_one_error_everywhere(fn: Function, value: Any) -> None:
    calls: list[Any] = [
        fn,
        fn.run,
        fn.stream,
        lambda value: fn.submit(value).result(),
        lambda value: asyncio.run(fn.arun(value)),
        lambda value: list(fn.map([value])),
        lambda value: fn.runner.run(fn.program, value, Options()),
        lambda value: fn.runner.cut_tokens(fn.program, value, Options()),
    ]
    for call in calls:
        with pytest.raises(OptionError, match=f"of type {type(value).__name__}") as raised:
            call(value)
        assert bool(raised.value.hints) == (not isinstance(value, int | list))


def test_what_was_streamed_has_a_result(fn: Function) -> None:
    pieces = fn.stream("picnic", max_tokens=4)
    assert "".join(pieces) == pieces.result.text == fn("picnic", max_tokens=4)


def test_an_error_of_a_repeated_input_is_each_ones_own_and_not_remembered() -> None:
    engine = Instant()
    found = list(bound(engine).map(["wrong", "a", "wrong"], on_error="return"))
    assert [isinstance(outcome, PawError) for outcome in found] == [True, False, True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"on_error": "ignore"}, "'ignore'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_a_wrong_call_fails_at_once(words: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        bound(Engine()).map(["a"], **words)
    with pytest.raises(OptionError, match="this is one"):
        bound(Engine()).map("a text")


def test_whoever_stops_early_cancels_what_is_in_flight() -> None:
    engine = Engine()
    found = bound(engine).map(map(str, itertools.count()), batch_size=6)
    engine.end_soon(0)
    next(found)
    found.close()
    assert all(future.cancelled() for _, future in engine.calls[1:])


def test_an_error_of_the_source_comes_after_what_was_read_before_it() -> None:
    def texts() -> Iterator[str]:
        yield from "abc"
        raise LookupError("no more")

    engine = Engine()
    found = bound(engine).map(texts())
    engine.end_soon(2, 1, 0)
    assert list(itertools.islice(found, 3)) == ["A", "B", "C"]
    with pytest.raises(LookupError):
        next(found)


def test_an_interrupt_of_the_source_ends_it_at_once() -> None:
    def texts() -> Iterator[str]:
        yield from "abc"
        raise KeyboardInterrupt

    engine = Engine()
    with pytest.raises(KeyboardInterrupt):
        list(bound(engine).map(texts()))
    assert [future.cancelled() for _, future in engine.calls] == [True] * 3


def test_what_an_error_leaves_in_flight_is_cancelled() -> None:
    engine = Engine()
    found = bound(engine).map([*"abc"])
    engine.end_soon(0, error=InputTooLong("a"))
    with pytest.raises(InputTooLong) as raised:  # which keeps the frames alive
        list(found)
    assert [future.cancelled() for _, future in engine.calls] == [False, True, True], raised


def test_what_is_no_error_of_ours_is_raised_even_where_errors_are_returned() -> None:
    engine = Engine()
    found = bound(engine).map(["a"], on_error="return")
    engine.end_soon(0, error=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        list(found)


def test_a_closed_interpreter_ends_the_map(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tiny.write_base(tmp_path_factory.mktemp("base"), "llama")
    interpreter = Interpreter.load(str(base))
    fn = interpreter.function(tiny.program("llama"))
    found = fn.map(map(str, itertools.count()), on_error="return", max_tokens=4)
    next(found)
    interpreter.close()
    with pytest.raises(PawError, match="closed"):
        for _ in found:
            pass


def test_a_silent_source_does_not_keep_back_what_is_ready() -> None:
    """The source blocks until a call has ended, and then for good."""
    engine, woken = Engine(), threading.Event()

    def rows() -> Iterator[tuple[int, str] | None]:
        yield 1, "a"
        assert woken.wait(5)
        yield None
        raise AssertionError("asked for more before what was ready had been taken")

    found = outcomes(engine, rows(), wake=woken.set)
    engine.end_soon(0)
    assert next(found).item == 1


def test_run_cancels_its_call_when_it_is_interrupted(
    fn: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Future):  # type: ignore[type-arg]
        def result(self, timeout: float | None = None) -> Any:
            raise KeyboardInterrupt

    future = Interrupted()
    monkeypatch.setattr(fn.runner, "submit", lambda *_: future)
    with pytest.raises(KeyboardInterrupt):
        fn.run("a")
    assert future.cancelled()


def test_tasks_run_at_once_and_get_what_a_call_gets(fn: Function) -> None:
    async def all_of_them() -> list[Result]:
        return await asyncio.gather(*(fn.arun(text, max_tokens=6) for text in TEXTS))

    found = asyncio.run(all_of_them())
    assert [result.text for result in found] == [fn(text, max_tokens=6) for text in TEXTS]


def test_a_cancelled_task_cancels_its_call() -> None:
    engine = Engine()

    async def cancel() -> None:
        task = asyncio.create_task(bound(engine).arun("a"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert engine.calls[0][1].cancelled()


def test_submit_returns_at_once(fn: Function) -> None:
    futures = [fn.submit(text, max_tokens=6) for text in TEXTS]
    assert [future.result().text for future in futures] == [
        fn(text, max_tokens=6) for text in TEXTS
    ]
