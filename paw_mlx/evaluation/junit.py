"""A report as JUnit XML, which build servers show.

Valid by both schemas in use, that of Ant (JUnit.xsd of windyroad) and that of Jenkins (junit-10).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from .gate import Gate
from .gate_text import write_label
from .markup import clipped, legal
from .metrics import METRICS
from .report import Judged, Report

_NAME_CHARS = 80
_TEXT_CHARS = 2000  # of an input or an output: a server shows it, the JSON has all of it


def junit_xml(report: Report, *, name: str, gate: Gate | None = None) -> bytes:
    """Return a report as JUnit XML in UTF-8, with a test for every case.

    A gate is a second suite, with a test for every condition. No call has a time of its own, since
    calls run together: each test has their mean. OptionError as `Gate.check`.
    """
    suites = ET.Element("testsuites")
    suite = _Suite(suites, name, report.seconds, _properties(report))
    for number, one in enumerate(report.judged, 1):
        title = f"{number}: {_quoted(one.input, _NAME_CHARS)}"
        case = suite.add(title, report.seconds / len(report.judged))
        if not one.correct:
            kind = "failure" if one.error is None else "error"
            suite.fail(case, kind, _message(one), _details(one))
    suite.finish()
    if gate:
        missed = {one.condition: one.sentence for one in gate.check(report)}
        suite = _Suite(suites, f"{name} gate", 0.0, {})
        for condition in gate.conditions:
            case = suite.add(str(condition), 0.0)
            if sentence := missed.get(condition):
                suite.fail(case, "failure", sentence, sentence)
        suite.finish()
    ET.indent(suites)
    return ET.tostring(suites, encoding="utf-8", xml_declaration=True)


class _Suite:
    """A suite of tests, and how many of them failed."""

    def __init__(
        self, parent: ET.Element, name: str, seconds: float, properties: dict[str, float]
    ) -> None:
        self._name = legal(name)
        self._counts = {"tests": 0, "failures": 0, "errors": 0}
        self._element = ET.SubElement(parent, "testsuite", name=self._name, package="paw-mlx")
        self._element.set("id", str(len(parent) - 1))
        self._element.set("hostname", "localhost")  # what the schema has for a host unknown
        self._element.set("timestamp", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}")
        self._element.set("time", f"{seconds:.3f}")
        holder = ET.SubElement(self._element, "properties")
        for key, value in properties.items():
            ET.SubElement(holder, "property", name=legal(key), value=f"{value:.6g}")

    def add(self, title: str, seconds: float) -> ET.Element:
        """Add a test."""
        self._counts["tests"] += 1
        names = {"name": legal(title), "classname": self._name, "time": f"{seconds:.6f}"}
        return ET.SubElement(self._element, "testcase", names)

    def fail(self, case: ET.Element, kind: str, message: str, details: str) -> None:
        """Let a test fail, by a `failure` or an `error`."""
        self._counts[f"{kind}s"] += 1
        ET.SubElement(case, kind, type=kind, message=legal(message)).text = legal(details)

    def finish(self) -> None:
        """Write how many tests there are."""
        for key, value in self._counts.items():
            self._element.set(key, str(value))
        for stream in ("system-out", "system-err"):
            ET.SubElement(self._element, stream)


def _properties(report: Report) -> dict[str, float]:
    """Return the figures of a report by the names that a gate has for them."""
    labels, found = [*report.scores], {}
    for name, metric in METRICS.items():
        for label in labels if metric.of_label else [""]:
            value = metric.of(report, label)
            if not isinstance(value, str):
                found[f"{name}[{write_label(label)}]" if label else name] = value
    return found


def _message(one: Judged) -> str:
    if one.error is not None:
        return clipped(one.error, _TEXT_CHARS)
    said = _quoted(one.output, _NAME_CHARS)
    return f"expected {_quoted(one.right, _NAME_CHARS)}, got {said}"


def _details(one: Judged) -> str:
    lines = [f"input     {_quoted(one.input)}", f"expected  {_quoted(one.expected)}"]
    if one.error is not None:
        return "\n".join([*lines, f"error     {one.error}"])
    cut = "" if one.is_whole else ", cut before its end"
    return "\n".join([*lines, f"got       {_quoted(one.output)}{cut}"])


def _quoted(text: str, limit: int = _TEXT_CHARS) -> str:
    """Return a text on one line, in quotes, as JSON has it."""
    return clipped(json.dumps(text, ensure_ascii=False), limit)
