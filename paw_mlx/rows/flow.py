"""Many inputs through one program, a bounded number of calls in flight.

Inputs are pulled in the caller's thread, and only a little further than calls may be in flight,
so memory does not grow with their number. An input that is being computed, or was lately, is
not computed again where the outcome would be the same. An error of the source comes after the
outcomes of what was read before it; whatever else ends the iteration early cancels what is in
flight.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ..errors import ClosedError, DaemonError, OptionError, PawError

if TYPE_CHECKING:
    from ..program import Program
    from ..runner import Options, Result, Runner

ROWS_PER_CALL = 4  # held back at most for each call: repeated inputs, and rows behind a slow one
MAX_REMEMBERED = 8192  # results
MAX_PROBABILITIES = 4 << 20  # of labels, in all the results that are remembered
MAX_HELD_CHARS = 16 << 20  # of the rows that are held

Item = TypeVar("Item")


class Outcome(NamedTuple, Generic[Item]):
    """What became of an item: its result, or the error in its place; `repeated` if the call
    was another item's."""

    item: Item
    answer: Result | PawError
    repeated: bool


def outcomes(
    runner: Runner,
    program: Program,
    rows: Iterable[tuple[Item, str | PawError] | None],
    options: Options,
    *,
    batch_size: int | None = None,
    ordered: bool = True,
    wake: Callable[[], None] | None = None,
    weigh: Callable[[Item], int] = lambda _: 0,
) -> Generator[Outcome[Item]]:
    """Run a program on rows of (item, input); yield what became of each, in order or as it comes.

    A row with an error for an input is passed through in its place. `rows` may give None for
    "nothing at the moment": what is ready is then yielded before it is asked again. So that it
    need not poll, `wake` is called, from another thread, whenever a call has finished. `weigh`
    says how many characters an item holds besides its input.
    ClosedError, DaemonError, and what is no PawError, is raised.
    """
    if batch_size is not None and batch_size < 1:
        raise OptionError(f"batch_size must be at least 1, not {batch_size}")
    flow: _Flow[Item] = _Flow(
        lambda text: runner.submit(program, text, options),
        batch_size or runner.max_in_flight,
        ordered,
        once=options.repeats,
        wake=wake,
        weigh=weigh,
    )
    return flow.run(rows)


def values(found: Generator[Outcome[None]], on_error: str) -> Iterator[Any]:
    """Give the values of outcomes; errors are raised, or given in their place (`return`)."""
    with closing(found):
        for outcome in found:
            try:
                if isinstance(outcome.answer, PawError):
                    raise outcome.answer
                value = outcome.answer.value
            except PawError as error:
                if on_error == "raise":
                    raise
                value = error.with_traceback(None)  # whose frames would hold a model
            yield value


class _Call(Generic[Item]):
    """An input being computed; unless order is kept, the rows that wait for it."""

    def __init__(self, key: Hashable, answer: Result | PawError | None = None) -> None:
        self.key, self.answer = key, answer
        self.future: Future[Result] | None = None
        self.rows: list[_Held[Item]] = []


class _Held(NamedTuple, Generic[Item]):
    """A row that has entered and is not yet yielded."""

    item: Item
    call: _Call[Item]
    repeated: bool
    num_chars: int


class _Flow(Generic[Item]):
    """The calls in flight. All but `_finished.put` happens in the caller's thread."""

    def __init__(
        self,
        submit: Callable[[str], Future[Result]],
        in_flight: int,
        ordered: bool,
        once: bool,
        wake: Callable[[], None] | None,
        weigh: Callable[[Item], int],
    ) -> None:
        self._submit, self._in_flight = submit, in_flight
        self._ordered, self._once, self._wake, self._weigh = ordered, once, wake, weigh
        self._calls: dict[Hashable, _Call[Item]] = {}
        self._finished: SimpleQueue[_Call[Item]] = SimpleQueue()
        self._known: OrderedDict[Hashable, Result] = OrderedDict()
        self._rows: deque[_Held[Item]] = deque()  # in order; without order, those with an answer
        self._num_rows = self._num_chars = 0  # entered and not yet yielded

    def run(self, rows: Iterable[tuple[Item, str | PawError] | None]) -> Generator[Outcome[Item]]:
        """Let rows in, and out again when they have an answer."""
        source = iter(rows)
        end: Exception = StopIteration()
        try:
            while True:
                try:
                    row = next(source)
                except Exception as error:  # what was read before goes out first
                    end = error
                    break
                if row is not None:
                    self._enter(*row)
                self._settle(wait=False)
                yield from self._take_ready()
                while self._is_full:
                    self._settle(wait=True)
                    yield from self._take_ready()
            while self._calls:
                self._settle(wait=True)
                yield from self._take_ready()
            if not isinstance(end, StopIteration):
                raise end
        finally:
            del end  # whose frames are these
            for call in self._calls.values():
                if call.future:
                    call.future.cancel()

    @property
    def _is_full(self) -> bool:
        """Whether no more rows may enter."""
        most_rows = ROWS_PER_CALL * self._in_flight
        return (
            len(self._calls) >= self._in_flight
            or self._num_rows >= most_rows
            or self._num_chars >= MAX_HELD_CHARS
        )

    def _enter(self, item: Item, text: str | PawError) -> None:
        """Let a row join the call for its input: a finished one, one in flight, or a new one."""
        num_chars = self._weigh(item)
        if isinstance(text, PawError):
            call, repeated = _Call[Item](None, text), False
        else:
            num_chars += len(text)
            key: Hashable = object()
            if self._once:  # a digest: inputs may be long, and thousands are remembered
                data = text.encode("utf-8", "surrogatepass")
                key = hashlib.blake2b(data, digest_size=16).digest()
            found = self._find(key)
            call, repeated = found or self._start(key, text), found is not None
        row = _Held(item, call, repeated, num_chars)
        self._num_rows += 1
        self._num_chars += num_chars
        rows = self._rows if self._ordered or call.answer is not None else call.rows
        rows.append(row)

    def _find(self, key: Hashable) -> _Call[Item] | None:
        """Return the call of an equal input that is known still, or in flight."""
        if key in self._known:
            self._known.move_to_end(key)
            return _Call(key, self._known[key])
        return self._calls.get(key)

    def _start(self, key: Hashable, text: str) -> _Call[Item]:
        """Submit an input's call."""
        call = self._calls[key] = _Call[Item](key)
        call.future = self._submit(text)
        call.future.add_done_callback(lambda _: self._finish(call))
        return call

    def _finish(self, call: _Call[Item]) -> None:
        """Say that a call has ended: in the engine's thread, so no more than that."""
        self._finished.put(call)
        if self._wake:
            self._wake()

    def _settle(self, wait: bool) -> None:
        """Take the answers of all calls that have ended; `wait` for one if there is none."""
        try:
            while True:
                call = self._finished.get(wait)
                wait = False
                del self._calls[call.key]
                call.answer = answer = _take_answer(call.future)
                self._rows.extend(call.rows)
                if self._once and not isinstance(answer, PawError):
                    self._known[call.key] = answer
                    if len(self._known) > _most_remembered(answer):
                        self._known.popitem(last=False)
        except Empty:
            pass

    def _take_ready(self) -> Iterator[Outcome[Item]]:
        """Yield the rows that have an answer; in order, up to the first that has none."""
        while self._rows and self._rows[0].call.answer is not None:
            row = self._rows.popleft()
            self._num_rows -= 1
            self._num_chars -= row.num_chars
            assert row.call.answer is not None
            yield Outcome(row.item, row.call.answer, row.repeated)


def _most_remembered(result: Result) -> int:
    """Return how many results like this one may be held: with thousands of labels, fewer."""
    if not result.decision:
        return MAX_REMEMBERED
    return min(MAX_REMEMBERED, MAX_PROBABILITIES // len(result.decision.probabilities))


def _take_answer(future: Future[Result] | None) -> Result | PawError:
    """Return what an ended call has brought; what is no fault of its row is raised."""
    assert future is not None
    try:
        return future.result()
    except (ClosedError, DaemonError):  # nobody computes any more: no row's fault
        raise
    except PawError as error:
        return error
