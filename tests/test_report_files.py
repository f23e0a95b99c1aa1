"""A report as JUnit XML and as a page: well-formed whatever cases hold, and with its figures."""

from __future__ import annotations

import math
import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from paw_mlx.cases import Case
from paw_mlx.errors import InputTooLong
from paw_mlx.evaluation import Gate, Judged, Report, html_report, junit_xml
from paw_mlx.output import Labels
from paw_mlx.runner import Result

NASTY = (
    "<script>alert('1')</script> & \"q\" \x00\x1b[31m\x85 \ud800 \ufffe ]]> \U0001f600 \r\n\tend"
)
LABELS = Labels(("ALERT", NASTY.replace("\ud800", "").strip()), threshold=0.6, otherwise="?")
ALERT, OTHER = LABELS.labels
GATE = Gate.parse("accuracy>=99%, recall[ALERT]>=0")


def decided(right: str, share: float, text: str = NASTY) -> Judged:
    decision = LABELS.decide([math.log(share), math.log(1 - share)])
    result = Result(decision.text, "stop", 0, 1, 1, 0.0, 0.0, decision=decision)
    return Judged.of(Case(text, right), result)


FAILED = Judged.of(Case(NASTY, ALERT), InputTooLong(f"too long: {NASTY}"))
CUT = Judged.of(Case("x", OTHER), Result(f"{NASTY}!", "length", 0, 1, 1, 0.0, 0.0))
CALLS = [decided(ALERT, 0.9), decided(OTHER, 0.8), decided(ALERT, 0.55), decided(OTHER, 0.1)]
TYPED = Report([*CALLS, FAILED, CUT], seconds=3.0)


# --- JUnit ---------------------------------------------------------------------------------


def test_junit_has_a_test_for_every_case() -> None:
    suites = ET.fromstring(junit_xml(TYPED, name="triage", gate=None))
    (suite,) = suites
    assert [one.tag for one in suite] == [
        "properties",
        *["testcase"] * 6,
        "system-out",
        "system-err",
    ]
    counts = suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("time")
    assert counts == ("6", "3", "1", "3.000")
    assert [[part.tag for part in case] for case in suite.iter("testcase")] == [
        [],
        ["failure"],
        ["failure"],
        [],
        ["error"],
        ["failure"],
    ]
    assert {case.get("time") for case in suite.iter("testcase")} == {"0.500000"}
    names = [case.get("name") or "" for case in suite.iter("testcase")]
    assert len({*names}) == 6
    assert names[0].startswith("1: \"<script>alert('1')</script>")


def test_junit_tells_what_was_expected_and_said() -> None:
    suites = ET.fromstring(junit_xml(TYPED, name="triage"))
    abstained = [*suites.iter("failure")][1]
    assert abstained.get("message") == 'expected "ALERT", got "?"'
    assert 'expected  "ALERT"\ngot       "?"' in (abstained.text or "")
    assert "cut before its end" in ([*suites.iter("failure")][2].text or "")
    (error,) = suites.iter("error")
    assert (error.get("message") or "").startswith("too long: <script>")


def test_characters_that_xml_has_not_are_escaped_and_others_are_not() -> None:
    text = junit_xml(TYPED, name="\x07bell").decode()
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", text)
    (suite,) = ET.fromstring(text.encode())
    assert suite.get("name") == "\\u0007bell"
    error = next(suite.iter("error")).text or ""
    assert "\\u0000\\u001b[31m\\u0085 \\ud800 \\ufffe ]]> \U0001f600" in error


def test_junit_has_the_figures_by_the_names_of_gates() -> None:
    found = {
        one.get("name"): float(one.get("value") or "nan")
        for one in ET.fromstring(junit_xml(TYPED, name="triage")).iter("property")
    }
    decisions = TYPED.decisions
    assert decisions
    assert found["accuracy"] == pytest.approx(TYPED.accuracy, rel=1e-5)
    assert found["recall[ALERT]"] == pytest.approx(1 / 3, rel=1e-5)
    assert found["log_loss"] == pytest.approx(decisions.log_loss, rel=1e-5)
    assert found["failed"] == pytest.approx(1 / 6, rel=1e-5)


def test_a_gate_is_a_suite_of_its_own() -> None:
    _, suite = ET.fromstring(junit_xml(TYPED, name="triage", gate=GATE))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    missed, met = suite.iter("testcase")
    assert missed.get("name") == "accuracy >= 99.0 %"
    sentence = "accuracy is 33.3 % and should be >= 99.0 %"
    assert [part.get("message") for part in missed] == [sentence]
    assert [*met] == []


# --- the page ------------------------------------------------------------------------------

VOID = {"meta"}


class Page(HTMLParser):
    """Reads a page; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags, self.links, self.words = Counter[str](), list[str](), list[str]()
        self.attributes, self.titles = set[str](), set[str]()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= dict(attrs).keys()
        self.titles |= {value or "" for name, value in attrs if name == "title"}
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "onclick")]
        if tag == "th":
            assert "scope" in dict(attrs)
        if tag == "svg":
            assert dict(attrs)["role"] == "img"
            assert dict(attrs)["aria-label"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_a_page_is_whole_and_runs_nothing_of_what_cases_hold() -> None:
    text = html_report(TYPED, title=f"a {NASTY}", gate=GATE)
    page = Page(text)
    assert not {"script", "link", "img", "iframe"} & page.tags.keys()
    assert page.links == []
    assert "://" not in text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe]", text)
    assert "<script>alert('1')</script> & \"q\" \\u0000\\u001b[31m\\u0085 \\ud800" in page.text
    assert "prefers-color-scheme:dark" in text


def test_a_label_stays_in_its_attribute() -> None:
    evil = "x\" onmouseover=\"alert('1')\" y='"
    labels = Labels(("ALERT", evil))
    decision = labels.decide([math.log(0.2), math.log(0.8)])
    result = Result(decision.text, "stop", 0, 1, 1, 0.0, 0.0, decision=decision)
    judged = [Judged.of(Case(right, right), result) for right in labels.labels]
    page = Page(html_report(Report(judged), title=evil))
    assert "onmouseover" not in page.attributes
    assert evil in page.titles


def test_a_page_has_the_figures() -> None:
    page = Page(html_report(TYPED, title="triage", gate=GATE))
    low, high = TYPED.interval
    for told in (
        "33.3 %",
        f"95 % interval {100 * low:.1f} % to {100 * high:.1f} %",
        "✗ gate missed",
        "✗ missed",
        "✓ met",
        "could not be run",
        "abstained",
        "not run",
        "cut before their end",
    ):
        assert told in page.text, told
    assert page.tags["svg"] == 3
    assert "✓ gate passed" in html_report(TYPED, title="t", gate=Gate.parse("accuracy>=10%"))


def test_a_page_of_text_has_no_labels_and_one_of_all_right_no_failures() -> None:
    texts = Report([Judged.of(Case(str(i), f"answer {i}"), f"answer {i % 20}") for i in range(30)])
    page = Page(html_report(texts, title="texts"))
    assert page.tags["svg"] == 1
    assert "taken for what" not in page.text
    assert page.tags["dl"] == 1 + 10
    right = Report([Judged.of(Case("a", "a"), "a")])
    assert "There are none." in Page(html_report(right, title="right")).text


def test_a_page_of_many_cases_is_small_and_says_what_it_leaves_out() -> None:
    long = "word " * 2000
    cases = [decided(ALERT if i % 3 else OTHER, 0.05 + i % 900 / 1000, long) for i in range(20_000)]
    text = html_report(Report(cases), title="many")
    page = Page(text)
    assert len(text) < 400_000
    wrong = len(Report(cases).failures)
    assert f"75 of {wrong:,} wrong cases stand here" in page.text
    assert "… (10,000 characters)" in page.text


def test_of_many_labels_a_page_shows_the_worst() -> None:
    names = [f"label {number:02}" for number in range(60)]
    labels = Labels(tuple(names))
    judged = []
    for number, name in enumerate(names):
        for said in (name, name if number % 2 else names[0]):
            shares = [math.log(0.9 if each == said else 0.1 / 59) for each in names]
            decision = labels.decide(shares)
            result = Result(decision.text, "stop", 0, 1, 1, 0.0, 0.0, decision=decision)
            judged.append(Judged.of(Case("?", name), result))
    page = Page(html_report(Report(judged), title="many labels"))
    assert "What was most often taken for what" in page.text
    assert "The 40 of 60 with the least F1." in page.text
