"""Specs with what is known to go wrong, the advice they get, and the many that get none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from paw_mlx.corpus import read_corpus
from paw_mlx.lint import CHECKS, lint
from paw_mlx.spec_output import labels_in_spec

ROOT = Path(__file__).parents[1]
CORPUS = [
    *sorted((ROOT / "benchmarks" / "functions" / "train").glob("*.jsonl")),
    ROOT / "benchmarks" / "functions" / "test.jsonl",
]
PAIRS = "\nInput: {}\nOutput: {}\nInput: {}\nOutput: {}"

# code, spec, and what the better wording says
FOUND = [
    (
        "labels-open",
        "Log line: ALERT if somebody must act now, QUIET otherwise.",
        "End the task: Return ONLY one of: ALERT, QUIET",
    ),
    (
        "labels-open",
        "Topic? bills = money and invoices; parcels = what is sent."
        + PAIRS.format(*"ab", *"cd")
        .replace("Output: b", "Output: bills")
        .replace("Output: d", "Output: parcels"),
        "End the task, above the examples: Return ONLY one of: bills, parcels",
    ),
    (
        "labels-open",
        "Classify the review as positive, negative or mixed.",
        "Return ONLY one of: positive, negative, mixed",
    ),
    ("labels-open", "Possible labels: toxic, safe.", "Return ONLY one of: toxic, safe"),
    ("labels-open", "a wish -> GIVE; a thank-you note -> KEEP", "Return ONLY one of: GIVE, KEEP"),
    ("labels-open", "- cat: it meows\n- dog: it barks\n", "Return ONLY one of: cat, dog"),
    ("labels-alike", "Spam? Return ONLY one of: spam, not spam.", "Call them yes and no"),
    ("labels-alike", "Return ONLY one of: Bug, bug.", "another name"),
    ("labels-alike", "Return ONLY one of: PAY_LATE_OK, PAY_LATE_FAILED", "OK and FAILED"),
    (
        "no-unsure-label",
        "Which desk? Return ONLY one of: loans, cards. If unsure, leave it empty.",
        "Return ONLY one of: loans, cards, unsure",
    ),
    (
        "reasons",
        "Classify the mail as urgent or normal and explain why.",
        "Return ONLY one of: urgent, normal",
    ),
    ("reasons", "Return ONLY one of: yes, no. Give a short reason.", "Return ONLY one of: yes, no"),
    ("numeric-score", "Score the urgency of the mail from 1 to 10.", "one of: high, medium, low"),
    ("numeric-score", "Rate its tone on a scale of 0-5.", "one of: high, medium, low"),
    ("numeric-score", "Give the probability that it is spam.", "comes with its probability"),
    ("several-jobs", "Translate the text to German and summarize it.", "a program of each"),
    ("several-jobs", "Extract the number. Also classify the vendor.", "a program of each"),
    ("several-jobs", "Classify the ticket, then draft a polite reply.", "a program of each"),
    (
        "format-not-shown",
        "Extract the name, date and amount as JSON.",
        '{"name": "…", "date": "…", "amount": "…"}',
    ),
    ("negative", "Count the words. Do not add any explanation.", "Return ONLY the"),
    ("negative", "Is it spam? Never explain. Return ONLY one of: yes, no.", "one of: yes, no"),
    ("negative", "Fix the typos. Don't change anything else.", "Leave everything else alone"),
    ("negative", "Pull out the order id; never guess.", "NONE"),
    (
        "example-not-a-label",
        "Return ONLY one of: yes, no." + PAIRS.format("a", "maybe", "b", "no"),
        "Return ONLY one of: yes, no, maybe",
    ),
    (
        "example-not-a-label",
        "Return ONLY one of: yes, no." + PAIRS.format("a", "Yes", "b", "no"),
        "as the labels are: yes",
    ),
    ("examples-contradict", "Shout." + PAIRS.format("a", "A", "a", "B"), "the one that is right"),
    ("short", "sentiment", "what comes in"),
    ("long", "Say what it is. " + "Mind the gap. " * 90, "250 words"),
    ("no-examples", "Which month does the note name? Write it out.", "Input: …\nOutput: …"),
    ("no-examples", "Return ONLY one of: yes, no.", "Output: yes\nInput: …\nOutput: no"),
]

# a code, and specs that look as if they had it
NOT_FOUND = [
    ("labels-open", "Is it late? Return ONLY one of: yes, no."),
    ("labels-open", "Replace Leila -> Moldax; Priya -> Fegri; Emily -> Wobmi."),
    ("labels-open", "Clothing size in capitals. small = S, medium = M, large = L. No size: NONE."),
    ("labels-open", "Return the date as written, or NONE if there is none."),
    ("labels-open", 'Spell numbers as digits: "half" = 50%, "a quarter" = 25%.'),
    ("labels-open", "Return ONLY one of: yes, no. Include a reason."),  # it says so already
    ("labels-alike", "Return ONLY one of: positive, negative, neutral."),
    ("labels-alike", "Return ONLY one of: A, B, AB."),
    ("no-unsure-label", "Return ONLY one of: loans, cards, other. If none fits, say other."),
    ("no-unsure-label", "Return ONLY one of: loans, cards. When none fits, pick the closest."),
    ("reasons", "Return ONLY one of: yes, no. No explanation."),
    ("reasons", "Possible labels: yes, no. Answer with the label, not with a reason."),
    ("reasons", "Does the text explain why it was late? Return ONLY one of: yes, no."),
    ("numeric-score", "Rate the clause. Return ONLY one of: 0, 1, 2."),
    ("numeric-score", "Return the score of the match as home:away, for example 2:1."),
    ("several-jobs", "Extract the names and sort them. NONE also if the text is empty."),
    ("several-jobs", "Classify mails that ask to translate and summarize a text."),
    ("format-not-shown", 'Return JSON: {"name": "…"}'),
    ("format-not-shown", "Repair the JSON. Return it as valid JSON."),
    ("format-not-shown", "Write it as JSON with the keys name and date."),
    ("negative", "plum: never used; kiwi: worn. Names of firms do not count."),
    ("negative", "ALERT if users do not get in, else QUIET."),
    ("example-not-a-label", "Return ONLY one of: yes, no." + PAIRS.format("a", "yes", "b", "no")),
    ("example-not-a-label", "Shout." + PAIRS.format("a", "A", "b", "B")),
    ("examples-contradict", "Shout." + PAIRS.format("a", "A", "a", "A")),
    ("short", "snake to camel" + PAIRS.format("a_b", "aB", "c", "c")),
    ("no-examples", "Double the number, e.g. 2 -> 4."),
    ("no-examples", "Shout." + PAIRS.format("a", "A", "b", "B")),
]


def codes(spec: str) -> list[str]:
    return [finding.code for finding in lint(spec)]


@pytest.mark.parametrize(("code", "spec", "better"), FOUND)
def test_what_goes_wrong_is_found_and_better_wording_given(
    code: str, spec: str, better: str
) -> None:
    found = {finding.code: finding for finding in lint(spec)}
    assert code in found, [*found]
    assert better in found[code].better
    assert found[code].sentence.strip(". ") == found[code].sentence  # a sentence is put in others


@pytest.mark.parametrize(("code", "spec"), NOT_FOUND)
def test_what_looks_alike_is_let_be(code: str, spec: str) -> None:
    assert code not in codes(spec)


def test_a_good_spec_has_no_findings() -> None:
    spec = (
        "Log line of a web shop. ALERT if somebody must act now, QUIET for the rest. Return ONLY "
        "one of: ALERT, QUIET" + PAIRS.format("disk full", "ALERT", "backup done", "QUIET")
    )
    assert lint(spec) == []


def test_who_follows_the_advice_is_bound() -> None:
    for code, spec, _ in FOUND:
        if code == "labels-open":
            said = next(one for one in lint(spec) if one.code == code).better.partition(": ")[2]
            task, *examples = spec.partition("\nInput:")
            mended = "".join([f"{task}\n{said}", *examples])
            assert labels_in_spec(mended), mended
            assert code not in codes(mended)


def test_every_check_has_a_spec_here() -> None:
    assert len({code for code, *_ in FOUND}) == len(CHECKS) + 1  # a length is short or long
    assert {code for code, _ in NOT_FOUND} == {code for code, *_ in FOUND} - {"long"}


def test_the_gravest_comes_first_and_a_kind_once() -> None:
    spec = "Do not explain. Do not guess. Possible labels: a, b." + PAIRS.format(*"aaab")
    found = codes(spec)
    assert found[0] == "examples-contradict"
    assert len(found) == len({*found})


def test_the_specs_of_the_corpus_raise_few_alarms() -> None:
    """They were written with care; labels that are found to be open are a function's own."""
    num, wrong = 0, 0
    counts: dict[str, int] = {}
    for function in read_corpus(CORPUS):
        for spec in function.specs:
            num += 1
            for finding in lint(spec):
                counts[finding.code] = counts.get(finding.code, 0) + 1
                if finding.code == "labels-open":
                    told = finding.better.partition("one of: ")[2].split(", ")
                    wrong += {*told} != {*(function.labels or ())}
    assert num > 3800
    assert counts["labels-open"] > 500
    assert wrong <= 0.02 * counts["labels-open"]
    grave = {*counts} - {"labels-open", "no-examples", "negative"}
    assert sum(counts[code] for code in grave) <= 10
    assert counts["negative"] <= 25


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/spec.txt")))
def test_the_examples_lack_nothing_but_examples(path: Path) -> None:
    assert {*codes(path.read_text())} <= {"no-examples"}


@pytest.mark.parametrize("piece", ["Input: a\n", "a, ", "A = b c; ", "(", " ", "one of ", "don't "])
def test_long_and_odd_specs_take_no_time(piece: str) -> None:
    start = time.process_time()
    lint(piece * (10_000 // len(piece)))
    lint(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 5
