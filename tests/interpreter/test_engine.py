"""The batch engine: many calls at once give what each gives alone."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from weakref import ref

import mlx.core as mx
import pytest
import tiny
from engine_room import batch_of, inside, num_queued, submit

from paw_mlx import (
    AdapterMismatch,
    CallTimeout,
    ClosedError,
    InputTooLong,
    Interpreter,
    OptionError,
    Options,
    Program,
    Template,
)
from paw_mlx.adapter import Adapter
from paw_mlx.cases import Case
from paw_mlx.interpreter.engine import batch, prefixes
from paw_mlx.interpreter.engine.budget import Share
from paw_mlx.interpreter.engine.draft import Lookup
from paw_mlx.interpreter.engine.kv import KV, Slots
from paw_mlx.runner import Result

WORDS = ["the", "disk", "is", "full", "picnic", "server", "down", "0", "1", "Grüße", "世界", "🙂"]


def programs(family: str, num: int = 3) -> list[Program]:
    """Programs with prefixes of several lengths, one of them without an adapter."""
    made = [tiny.program(family, seed) for seed in range(1, num)] + [tiny.program(family, None)]
    return [
        replace(p, template=Template(" ".join(WORDS[: 2 * i]), p.template.suffix))
        for i, p in enumerate(made)
    ]


def texts(num: int, seed: int = 0) -> list[str]:
    """Inputs of one to twelve words."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 12))) for _ in range(num)]


def limits(num: int) -> list[Options]:
    """Rows that stop at different times; some are drawn, each with its own seed."""
    return [
        Options(max_tokens=1 + i % 13, temperature=1.0 if i % 5 == 4 else 0.0, seed=i)
        for i in range(num)
    ]


def submit_all(
    interpreter: Interpreter, calls: Sequence[tuple[Program, str, Options]]
) -> list[Future[Result]]:
    """Hand all over before any of them begins."""
    return inside(interpreter, lambda _: [interpreter.submit(*call) for call in calls])


def results(futures: list[Future[Result]]) -> list[str]:
    return [future.result(60).text for future in futures]


def test_mixed_rows_give_what_each_gives_alone(interpreter, family, ahead):
    pool, inputs, options = programs(family), texts(40), limits(40)
    calls = [(pool[i % len(pool)], text, options[i]) for i, text in enumerate(inputs)]
    alone = [interpreter.run(*call).text for call in calls]
    assert len(set(alone)) > 25
    assert results([interpreter.submit(*call) for call in calls]) == alone
    assert results([interpreter.submit(*call) for call in calls[::-1]]) == alone[::-1]


def test_map_gives_what_run_gives(interpreter, family, ahead):
    fn = interpreter.function(tiny.program(family, 1))
    inputs = texts(60)
    assert list(fn.map(inputs, max_tokens=9)) == [fn(text, max_tokens=9) for text in inputs]


def test_a_batch_may_be_smaller_than_its_budget(folder, family, monkeypatch):
    """Too little memory for two rows, or for two adapters: slower, and the same."""
    pool, inputs = programs(family), texts(12)
    with Interpreter.load(str(folder)) as roomy:
        calls = [(pool[i % 3], text, Options(max_tokens=6)) for i, text in enumerate(inputs)]
        expected = results([roomy.submit(*call) for call in calls])
    monkeypatch.setattr("paw_mlx.interpreter.engine.budget._UNKNOWN_BYTES", 1)
    with Interpreter.load(str(folder)) as narrow:
        assert results([narrow.submit(*call) for call in calls]) == expected


@pytest.mark.slow
def test_two_hundred_threads_may_call_at_once(interpreter, family):
    pool, inputs = programs(family), texts(200)
    calls = [(pool[i % 3], text, Options(max_tokens=5)) for i, text in enumerate(inputs)]
    expected = [interpreter.run(*call).text for call in calls]
    got: list[str] = [""] * 200

    def call(i: int) -> None:
        got[i] = interpreter.run(*calls[i]).text

    threads = [threading.Thread(target=call, args=(i,)) for i in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def test_tasks_may_call_at_once_and_be_cancelled(interpreter, family):
    fn, inputs = interpreter.function(tiny.program(family, 1)), texts(30)
    expected = [fn(text, max_tokens=6) for text in inputs]

    async def main() -> list[str]:
        dropped = asyncio.create_task(fn.arun(inputs[0], max_tokens=200))
        calls = asyncio.gather(*(fn.arun(text, max_tokens=6) for text in inputs))
        await asyncio.sleep(0.01)
        dropped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dropped
        return [result.text for result in await calls]

    assert asyncio.run(main()) == expected


def long_input(fn) -> str:
    """One whose output does not end by itself within 150 tokens."""
    return next(t for t in texts(300, 5) if fn.run(t, max_tokens=150).finish_reason == "length")


def test_cancelled_late_and_failing_rows_leave_the_others_alone(interpreter, family, ahead):
    fn = interpreter.function(tiny.program(family, 1))
    inputs, endless = texts(20), long_input(fn)
    expected = [fn(text, max_tokens=20) for text in inputs]

    def fail(piece: str) -> None:
        raise ValueError("nobody listens")

    cancelled, failing = (
        interpreter._call(fn.program, endless, Options(max_tokens=150)) for _ in range(2)
    )
    failing.on_piece = fail
    for call in (cancelled, failing):
        submit(interpreter, call)
    late = interpreter.submit(fn.program, endless, Options(max_tokens=150, timeout_s=1e-3))
    futures = [interpreter.submit(fn.program, t, Options(max_tokens=20)) for t in inputs]
    time.sleep(0.02)
    cancelled.future.cancel()
    assert results(futures) == expected
    assert cancelled.future.cancelled()
    with pytest.raises(CallTimeout, match=r"no result within 0\.001 s"):
        late.result(60)
    with pytest.raises(ValueError, match="nobody listens"):
        failing.future.result(60)


def test_a_cancelled_call_stops_decoding(interpreter, family):
    fn = interpreter.function(tiny.program(family, 1))
    future = fn.submit(long_input(fn), max_tokens=200)
    time.sleep(0.01)
    assert future.cancel()
    assert gone(interpreter)


def gone(interpreter: Interpreter) -> bool:
    """Whether no row decodes any more, within the next steps."""
    return any(not inside(interpreter, lambda batch: len(batch.rows)) for _ in range(5))


def test_a_program_that_fails_fails_alone(interpreter, family, monkeypatch):
    good, bad = tiny.program(family, 1), tiny.program(family, 2)
    expected = [interpreter.run(good, text, Options(max_tokens=5)).text for text in texts(10)]
    bank = inside(interpreter, lambda batch: batch.bank)
    use = bank.use

    def refuse(wanted, **options):
        if bad in wanted:
            raise RuntimeError("out of memory")
        use(wanted, **options)

    monkeypatch.setattr(bank, "use", refuse)
    wrong = interpreter.submit(bad, "the disk")
    futures = [interpreter.submit(good, text, Options(max_tokens=5)) for text in texts(10)]
    long = interpreter.submit(good, "x " * 300)
    assert results(futures) == expected
    with pytest.raises(RuntimeError, match="out of memory"):
        wrong.result(60)
    with pytest.raises(InputTooLong):
        long.result(60)


def test_a_dropped_stream_is_cancelled(interpreter, family):
    fn = interpreter.function(tiny.program(family, 1))
    stream = fn.stream(long_input(fn), max_tokens=200)
    next(stream)
    stream.close()
    assert gone(interpreter)
    fn.stream(long_input(fn), max_tokens=200)  # never asked for a piece
    gc.collect()
    assert gone(interpreter)


def test_a_function_that_nobody_keeps_finishes_its_calls(folder, family):
    program = tiny.program(family, 1)
    with Interpreter.load(str(folder)) as kept:
        expected = kept.run(program, "picnic", Options(max_tokens=20)).text
    load = Interpreter.load
    assert load(str(folder)).submit(program, "picnic", Options(max_tokens=20)).result(60).text == (
        expected
    )
    pieces = load(str(folder)).function(program).stream("picnic", max_tokens=20)
    assert "".join(pieces).strip() == expected


def test_whoever_waits_for_a_cancelled_call_hears_of_it(interpreter, family):
    fn = interpreter.function(tiny.program(family, 1))
    endless = long_input(fn)
    futures = [fn.submit(endless, max_tokens=150) for _ in range(2)]
    assert futures[0].cancel()
    assert not wait(futures, timeout=60).not_done


def test_a_callback_cannot_wait_for_its_own_thread(interpreter, family):
    fn, caught = interpreter.function(tiny.program(family, 1)), Future()
    future = fn.submit(long_input(fn), max_tokens=100)

    def again(_: object) -> None:
        try:
            fn("picnic")
        except OptionError as error:
            caught.set_result(error)

    future.add_done_callback(again)
    assert "waits for itself" in str(caught.result(60))


def test_a_callback_that_throws_anything_costs_no_call(interpreter, family):
    fn = interpreter.function(tiny.program(family, 1))
    expected, endless = fn("picnic", max_tokens=5), long_input(fn)

    def leave(_: object) -> None:
        raise SystemExit

    future, beside = (fn.submit(endless, max_tokens=num) for num in (60, 100))
    future.add_done_callback(leave)
    assert future.result(60).output_tokens == 60
    assert beside.result(60).output_tokens == 100
    assert fn("picnic", max_tokens=5) == expected


@pytest.mark.parametrize("end", ["expired", "closed"])
def test_a_callback_that_throws_anything_costs_no_other_call_that_waits(folder, family, end):
    program, timeout_s = tiny.program(family, 1), 1e-3 if end == "expired" else None

    def leave(_: object) -> None:
        raise SystemExit

    with Interpreter.load(str(folder), max_rows=1) as interpreter:

        def submit(batch):
            """All wait before the owner looks at any."""
            first = interpreter.submit(program, "picnic", Options(5, timeout_s=timeout_s))
            first.add_done_callback(leave)
            others = [interpreter.submit(program, t, Options(max_tokens=5)) for t in texts(4)]
            time.sleep(0.01)
            if end == "closed":
                interpreter.close()
            return [first, *others]

        futures = inside(interpreter, submit)
        assert not wait(futures, timeout=20).not_done
        errors = [future.exception() for future in futures]
        if end == "expired":
            assert [type(error) for error in errors] == [CallTimeout] + [type(None)] * 4
        else:
            assert {type(error) for error in errors} == {ClosedError}


def test_numbers_that_overflow_are_an_error_and_harm_nobody(interpreter, family, ahead):
    """What is not a number stays in a slot, and would spoil whoever comes next."""
    good, bad = tiny.program(family, 1), overflowing(family)
    inputs = texts(20)
    expected = [interpreter.run(good, text, Options(max_tokens=12)).text for text in inputs]
    for _ in range(2):
        calls = [(bad if i % 4 == 0 else good, text) for i, text in enumerate(inputs)]
        futures = [interpreter.submit(*call, Options(max_tokens=12)) for call in calls]
        for i, future in enumerate(futures):
            if i % 4:
                assert future.result(60).text == expected[i]
            else:
                with pytest.raises(AdapterMismatch, match="leave the range of float32"):
                    future.result(60)


def overflowing(family: str) -> Program:
    program = tiny.program(family, 2)
    assert program.adapter
    sites = program.adapter.sites.items()
    return replace(program, adapter=Adapter({s: replace(o, alpha=1e37) for s, o in sites}))


def give_rows(most_bytes: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the slots of all rows take so much; return what they take whenever tokens are chosen."""
    held, choose = [], batch.Batch._choose_tokens

    def spy(running, *arguments):
        held.append(running.slots.nbytes)
        return choose(running, *arguments)

    monkeypatch.setattr(Share, "bytes", lambda _: most_bytes)
    monkeypatch.setattr(batch.Batch, "_choose_tokens", spy)
    return held


def row_bytes(family: str) -> int:
    """What a short row's slot takes: a block of float32 keys and values."""
    return 128 * tiny.profile(family).num_kv_elements * 4


def test_a_long_input_takes_the_memory_of_one(folder, family, monkeypatch):
    """Beside many short ones, and only while it is there."""
    program, inputs = tiny.program(family, 1), [*texts(40), "disk " * 150, *texts(40, 1)]
    most_bytes = 8 * row_bytes(family)  # of eight short rows; a long one fills the window, twice it
    held = give_rows(most_bytes, monkeypatch)
    with Interpreter.load(str(folder), max_rows=8) as interpreter:
        results(submit_all(interpreter, [(program, t, Options(max_tokens=3)) for t in inputs]))
        assert inside(interpreter, lambda batch: batch.slots.rows) == 8
    assert max(held) == most_bytes


def test_rows_that_join_are_counted_with_those_there_are(folder, family, monkeypatch):
    """Half of what may run at once fits: the others join when there is room."""
    program, inputs = tiny.program(family, 1), texts(16)
    most_bytes = 4 * row_bytes(family)
    held = give_rows(most_bytes, monkeypatch)
    with Interpreter.load(str(folder), max_rows=8) as interpreter:
        calls = [(program, text, Options(max_tokens=12)) for text in inputs]
        expected = [interpreter.run(*call).text for call in calls]
        assert results(submit_all(interpreter, calls)) == expected
    assert max(held) == most_bytes


def test_a_long_prefix_beside_a_long_input_leaves_both_alone(interpreter, family):
    """Evaluated together, the input's tokens would stand behind the prefix, beyond the window."""
    long, short = tiny.program(family, 1, prefix="0 " * 110), tiny.program(family, 2)
    calls = [(long, "disk", Options(max_tokens=8)), (short, "1 " * 100, Options(max_tokens=8))]
    alone = [interpreter.run(*call) for call in calls]
    assert alone[0].prefix_tokens + alone[1].input_tokens > 384  # the window, in whole blocks
    for order in (1, -1):
        futures = submit_all(interpreter, calls[::order])
        assert results(futures) == [result.text for result in alone[::order]]


def test_a_prefix_that_was_cut_off_is_written_again():
    prefix = KV.of([(mx.random.normal((1, 2, 200, 8)), mx.random.normal((1, 2, 200, 8)))])
    slots = Slots(1)
    for _ in range(2):
        slots.reserve(2, 256)
        slots.load(1, prefix)
        for buffer, whole in zip(slots.arrays, prefix.arrays, strict=True):
            assert mx.array_equal(buffer[1:2, :, :200], whole)
        slots.trim(2, 128)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trim", "reserve", "move", "load"])
def test_a_failure_between_steps_ends_calls_and_hangs_nobody(
    interpreter, family, monkeypatch, name, ahead
):
    fn = interpreter.function(tiny.program(family, 1))
    inputs = texts(30)
    expected = [fn(text, max_tokens=6) for text in inputs]
    slots = inside(interpreter, lambda batch: batch.slots)
    work, calls = getattr(slots, name), []

    def refuse(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) % 3 == 2:
            raise RuntimeError("out of memory")
        work(*arguments)

    monkeypatch.setattr(slots, name, refuse)
    futures = [fn.submit(text, max_tokens=1 + i % 6) for i, text in enumerate(inputs)]
    assert not wait(futures, timeout=60).not_done
    monkeypatch.undo()
    assert [fn(text, max_tokens=6) for text in inputs] == expected


def test_calls_that_were_about_to_join_hear_of_a_failure_too(interpreter, family, monkeypatch):
    fn = interpreter.function(tiny.program(family, 1))
    running = batch_of(interpreter)

    def refuse() -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(running, "_settle", refuse)
    futures = [fn.submit(text, max_tokens=4) for text in texts(10)]
    assert not wait(futures, timeout=60).not_done
    assert {str(future.exception()) for future in futures} == {"out of memory"}


def test_a_held_prefix_takes_the_bytes_of_its_keys_and_values(folder, family):
    program = replace(tiny.program(family, None), template=Template("the disk " * 50, ""))

    def held(batch) -> tuple[int, int]:
        encode = batch.base.tokenizer.encode
        before = tiny.active_bytes()
        kv = batch.prefixes.get(program, encode(program.template.prefix, control=True))
        return tiny.active_bytes() - before, kv.nbytes

    with Interpreter.load(str(folder)) as fresh:
        took, expected = inside(fresh, held)
    assert expected <= took <= 1.2 * expected


def test_a_program_lives_no_longer_than_its_user(interpreter, family):
    fn = interpreter.function(tiny.program(family, 5))
    fn("picnic", max_tokens=1)
    interpreter.score(fn.program, [Case("picnic", "0")])
    program = ref(fn.program)
    del fn
    until = time.monotonic() + 10
    while program() is not None and time.monotonic() < until:
        time.sleep(0.01)
        gc.collect()
    assert program() is None


def test_no_cases_are_an_error(interpreter, family):
    with pytest.raises(OptionError, match="no cases"):
        interpreter.score(tiny.program(family, 1), [])


def test_closing_fails_what_waits(folder, family):
    interpreter = Interpreter.load(str(folder), max_rows=2)
    fn = interpreter.function(tiny.program(family, 1))
    futures = [fn.submit(text, max_tokens=150) for text in texts(20)]
    interpreter.close()
    done = wait(futures, timeout=60)
    assert not done.not_done
    assert any(isinstance(future.exception(), ClosedError) for future in futures)


def test_a_task_that_waits_when_it_is_closed_is_done_and_a_later_one_refused(folder, family):
    interpreter = Interpreter.load(str(folder))
    with ThreadPoolExecutor(1) as pool:

        def close(_: object) -> Future[str]:
            waiting = pool.submit(inside, interpreter, lambda batch: "done")
            while not num_queued(interpreter) and not waiting.done():
                time.sleep(0.001)
            interpreter.close()
            return waiting

        assert inside(interpreter, close).result(60) == "done"
        with pytest.raises(ClosedError, match="is closed"):
            pool.submit(inside, interpreter, lambda batch: "late").result(60)


@pytest.mark.parametrize("num_rows", [1, 3])
def test_drafts_change_the_steps_and_no_output(interpreter, family, monkeypatch, num_rows, ahead):
    """Drafts that are right for a while, then wrong, whatever the program would propose."""
    program, inputs = tiny.program(family, 1), texts(num_rows, 9)
    plain = [interpreter.run(program, t, Options(max_tokens=40, lookup=False)) for t in inputs]
    right = chosen_tokens(interpreter, program, inputs)

    class Oracle(Lookup):
        def __init__(self, tokens, habit=None):
            super().__init__(tokens, habit)
            self.coming = list(right[tuple(tokens)])

        def propose(self, limit=7):
            draft = self.coming[: min(limit, 4)]
            return [*draft[:3], 7] if len(draft) == 4 else draft

        def push(self, tokens):
            del self.coming[: len(tokens)]

    monkeypatch.setattr("paw_mlx.interpreter.engine.call.Lookup", Oracle)
    futures = [interpreter.submit(program, t, Options(max_tokens=40)) for t in inputs]
    drafted = [future.result(60) for future in futures]
    assert [r.text for r in drafted] == [r.text for r in plain]
    assert [r.output_tokens for r in drafted] == [r.output_tokens for r in plain]
    assert [r.num_steps for r in plain] == [r.output_tokens for r in plain]
    assert all(r.num_steps <= 0.5 * r.output_tokens + 3 for r in drafted)


def chosen_tokens(
    interpreter: Interpreter, program: Program, inputs: list[str]
) -> dict[tuple[int, ...], list[int]]:
    """The greedy output tokens of each input, by its prompt's tokens."""
    seen: dict[tuple[int, ...], list[int]] = {}
    take = batch.Generation.take

    def spy(row, tokens):
        seen.setdefault(tuple(row.call.tokens), []).extend(tokens)
        return take(row, tokens)

    batch.Generation.take = spy
    try:
        for text in inputs:
            interpreter.run(program, text, Options(max_tokens=40, lookup=False))
    finally:
        batch.Generation.take = take
    return seen


def test_an_invariant_interpreter_runs_every_call_alone_and_hot(folder, family, monkeypatch):
    """So that whatever else runs changes neither shapes nor arithmetic."""
    inputs, pool = texts(12), programs(family)
    calls = [(pool[i % 3], text, Options(max_tokens=6)) for i, text in enumerate(inputs)]
    with Interpreter.load(str(folder), invariant=True) as interpreter:
        expected = [interpreter.run(*call).text for call in calls]
        seen, hidden = set(), type(interpreter.base.model).hidden

        def spy(self, tokens, kv):
            forms = {type(group.form).__name__ for group in interpreter.base.groups}
            seen.add((tokens.shape[0], *sorted(forms)))
            return hidden(self, tokens, kv)

        monkeypatch.setattr(type(interpreter.base.model), "hidden", spy)
        assert results([interpreter.submit(*call) for call in calls]) == expected
    assert seen == {(1, "HotForm"), (1, "NoneType")}


def test_a_prefix_is_read_from_disk_by_the_next_interpreter(folder, family, monkeypatch):
    program = tiny.program(family, 1, prefix="the disk is full, the server is down " * 3)
    with Interpreter.load(str(folder)) as first:
        expected = [first.run(program, text, Options(max_tokens=6)).text for text in texts(5)]
        inside(first, lambda batch: batch.rest())
    monkeypatch.setattr("paw_mlx.interpreter.engine.prefixes.prefill", None)
    with Interpreter.load(str(folder)) as second:
        again = replace(program)
        assert [second.run(again, t, Options(max_tokens=6)).text for t in texts(5)] == expected


def test_an_invariant_interpreter_reads_no_prefix_of_a_batch(folder, family, monkeypatch):
    """Which was evaluated by other arithmetic: its bits are others."""
    program = tiny.program(family, 1, prefix="the disk is full, the server is down " * 3)
    evaluated, prefill = [], prefixes.prefill
    monkeypatch.setattr(prefixes, "prefill", lambda *a: (evaluated.append(a), prefill(*a))[1])
    counts = []
    for invariant in (False, True, True, False):
        with Interpreter.load(str(folder), invariant=invariant) as interpreter:
            interpreter.run(program, "picnic", Options(max_tokens=1))
            counts.append(len(evaluated))
    assert counts == [1, 2, 2, 2]


@pytest.mark.slow
def test_memory_is_flat_over_many_inputs(tmp_path):
    held = []
    with Interpreter.load(str(tiny.write_base(tmp_path / "base", "llama"))) as interpreter:
        fn = interpreter.function(tiny.program("llama", 1))
        for _ in fn.map((f"{i} the disk" for i in range(20_000)), max_tokens=2):
            held.append(mx.get_active_memory())
    # The least: how much a step has in flight when it is looked at is chance.
    early, late = min(held[1000:3000]), min(held[18_000:])
    assert len(held) == 20_000
    assert late <= early + 100_000
