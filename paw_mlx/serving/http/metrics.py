"""Counts and durations, as Prometheus reads them (text format 0.0.4). No input is ever in them.

Labels are bounded: a route is one of the application's, a function one of the first hundred that
were called; what is more counts as `other`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future

from ...runner import Result

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MAX_FUNCTIONS = 100
_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_HELP = {
    "paw_http_requests_total": ("counter", "Requests answered."),
    "paw_http_request_seconds": ("histogram", "Seconds from a request's head to its answer's end."),
    "paw_refused_total": ("counter", "Requests the guard refused, by its reason."),
    "paw_calls_total": ("counter", "Calls of functions that have ended."),
    "paw_call_seconds": ("histogram", "Seconds of a call, its wait for a turn included."),
    "paw_tokens_total": ("counter", "Tokens of calls: read from the cache, read, and written."),
    "paw_in_flight": ("gauge", "Requests that are being answered."),
    "paw_calls_in_flight": ("gauge", "Calls of functions that run."),
    "paw_connections_open": ("gauge", "Connections that are open."),
    "paw_connections_dropped_total": ("counter", "Connections that were dropped, by the reason."),
    "paw_start_seconds": ("gauge", "When the server began, in seconds since 1970."),
}

Series = tuple[str, tuple[tuple[str, str], ...]]  # a metric's name and its labels


class Metrics:
    """Numbers of one server, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: Counter[Series] = Counter()
        self._functions: set[str] = set()
        self._buckets: dict[Series, list[int]] = {}
        self.add("paw_start_seconds", time.time())

    def add(self, name: str, by: float = 1, **labels: str) -> None:
        """Count a metric up, or a gauge down."""
        with self._lock:
            self._numbers[_series(name, labels)] += by  # type: ignore[assignment]

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Sort a duration into a metric's buckets."""
        with self._lock:
            series = _series(name, labels)
            buckets = self._buckets.setdefault(series, [0] * (len(_BOUNDS_S) + 1))
            place = next((n for n, bound in enumerate(_BOUNDS_S) if seconds <= bound), -1)
            buckets[place] += 1
            self._numbers[series] += seconds  # type: ignore[assignment]

    def begin(self, function: str) -> Callable[[Result | None], None]:
        """Count a call that begins; what is returned is told its result, or None for none."""
        with self._lock:
            if len(self._functions) < _MAX_FUNCTIONS:
                self._functions.add(function)
            name = function if function in self._functions else "other"
        start = time.perf_counter()
        self.add("paw_calls_in_flight")

        def end(result: Result | None) -> None:
            self.add("paw_calls_in_flight", -1)
            self.add("paw_calls_total", function=name, outcome="ok" if result else "error")
            self.observe("paw_call_seconds", time.perf_counter() - start, function=name)
            for kind in ("prefix", "input", "output") if result else ():
                tokens = getattr(result, f"{kind}_tokens")
                self.add("paw_tokens_total", tokens, function=name, kind=kind)

        return end

    def watch(self, function: str, future: Future[Result]) -> None:
        """Count a call that was submitted."""
        end = self.begin(function)
        future.add_done_callback(
            lambda done: end(None if done.cancelled() or done.exception() else done.result())
        )

    def text(self) -> str:
        """Return all of them as Prometheus reads it."""
        with self._lock:
            numbers = dict(self._numbers)
            buckets = {series: list(counts) for series, counts in self._buckets.items()}
        lines = []
        for name, (kind, help) in _HELP.items():
            lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
            for series in sorted(key for key in numbers if key[0] == name):
                if series in buckets:
                    lines += _histogram(series, buckets[series], numbers[series])
                else:
                    lines.append(f"{name}{_shown(series[1])} {numbers[series]:.10g}")
        return "\n".join(lines) + "\n"


def _series(name: str, labels: Mapping[str, str]) -> Series:
    return name, tuple(sorted(labels.items()))


def _histogram(series: Series, counts: list[int], total: float) -> Iterator[str]:
    name, labels = series
    so_far = 0
    for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), counts, strict=True):
        so_far += count
        yield f"{name}_bucket{_shown((*labels, ('le', bound)))} {so_far}"
    yield f"{name}_sum{_shown(labels)} {total:.10g}"
    yield f"{name}_count{_shown(labels)} {so_far}"


def _shown(labels: tuple[tuple[str, str], ...]) -> str:
    parts = (f'{name}="{_escaped(value)}"' for name, value in labels)
    return "{" + ",".join(parts) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
