"""Labels that a spec names, and the many specs that look as if they did."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from paw_mlx.spec_output import labels_in_spec

EXAMPLES = Path(__file__).parents[1] / "examples"

NAMED = {
    "Return ONLY one of: ALERT, QUIET.": ("ALERT", "QUIET"),
    "Answer with exactly one of: a, b, c": ("a", "b", "c"),
    "Reply with yes or no, nothing else.": ("yes", "no"),
    "Return ONLY: ON or OFF.": ("ON", "OFF"),
    'Respond with one of the labels "in scope", "out of scope".': ("in scope", "out of scope"),
    "Return ONLY one of:\n- ALERT: wake someone\n- QUIET: nothing to do\n": ("ALERT", "QUIET"),
    "Classify the note as one of: bug, feature request, or question.": (
        "bug",
        "feature request",
        "question",
    ),
    "Return one of the following labels: `spam`, `ham`.": ("spam", "ham"),
    "Please answer with only yes or no.": ("yes", "no"),
    "Return ONLY one of:\nALERT, QUIET": ("ALERT", "QUIET"),
    "Return exactly one of these labels: 1, 2, 3": ("1", "2", "3"),
    "Respond with exactly one word: positive, negative or neutral.": (
        "positive",
        "negative",
        "neutral",
    ),
    "Return ONLY one of: exact, good, partial, none.": ("exact", "good", "partial", "none"),
    "Output only one of `immediate`, `wait`, or `ignore`.": ("immediate", "wait", "ignore"),
    "Return ONLY 'urgent' or 'normal'.": ("urgent", "normal"),
    "Choose one of: red | green | blue": ("red", "green", "blue"),
    "Reply with one of billing / post / account and nothing else (billing: money; post: mail).": (
        "billing",
        "post",
        "account",
    ),
    "Tag the note with ONE of: #work #family #idea. Return ONLY the tag.": (
        "#work",
        "#family",
        "#idea",
    ),
    "Workout note -> ONLY one of: cardio, strength, rest.": ("cardio", "strength", "rest"),
    "Return ONLY one code: AIR, RAIL, ROAD.": ("AIR", "RAIL", "ROAD"),
    "Return ONLY one of: OK, ERROR (2xx, 5xx).": ("OK", "ERROR"),
    "Return ONLY one of: ATTACHED, SENT, NONE.": ("ATTACHED", "SENT", "NONE"),
    "Return ONLY one of: /cart, /help.": ("/cart", "/help"),
    "Only reply with ON or OFF, in capitals.": ("ON", "OFF"),
    "Answer with just that one word: on or off.\nInput: a\nOutput: on\nInput: b\nOutput: off": (
        "on",
        "off",
    ),
    "Is it spam? Say A if so. Return ONLY one of: A, B.": ("A", "B"),
    "Return ONLY one of: Yes, No.\n\nInput: x\nOutput: Yes": ("Yes", "No"),
}
NOT_NAMED = [
    "Return ONLY the date.",
    "Extract the order id. Return ONLY the id or NONE if absent.",
    "Return ONLY: title, author, year.",
    "Return only title or author.",
    "Return ONLY one of: the city, the country or NONE.",
    "Label each line with one of: ok, bad, joined by commas.",
    "Return one or more of: red, green, blue.",
    "Return ONLY one of: red, green, blue. If unclear, return UNKNOWN.",
    "Return ONLY one of: A1, B2, ..., Z9.",
    "Return ONLY one of: low, high. Answer in capitals.",
    "Return JSON with one of: a, b.",
    "Return the city and one of: warm, cold.",
    "Customers choose one of: red, blue. Return the price.",
    "The log prints one of: INFO, WARN. Return the message.",
    "Answer with one word: the name of the city.",
    "Return a number from one of: 1-5.",
    "Return only one of: positive, negative, followed by a reason.",
    "Return only one of: positive, negative, then the score.",
    "Every sentence has exactly one of the verbs is, are, was. Write it again.",
    "Return ONLY the digits.",
    "Output ISBN or NONE.",
    "Output only the ISBN or the DOI.",
    "Return only the name, nothing else.",
    "Return one of the words of the text.",
    "Choose one of: cat, dog. Return the French translation.",
    'Return ONLY one of: happy, sad. Otherwise say "no idea".',
    "Return ONLY one of: yes, no.\nInput: x\nOutput: maybe",
    "Reply with yes, no or a short question.",
    "Return only one of: mild, hot. Return only one of: red, blue.",
    "Give just one: a joke or a proverb.",
    "Return ONLY: a date or a time.",
    "Print only lines with ERROR or WARN.",
    "Return only numbers or letters.",
    "Return only words in English or German.",
    "Use only lowercase or digits.",
    "Write only one sentence: subject, verb, object.",
    "Answer only in English or French.",
    "Say only who or what is meant.",
    "Return only nouns, verbs or adjectives, one per line.",
    "Return only the verbs or nouns.",
    "Return only emails or phones.",
    "Keep only apples or pears. Return the list.",
    "Reply with one letter: the first letter of the name.",
    "Return only one word: singular, lowercase.",
    "Answer with one word: lowercase, no punctuation.",
    "Return exactly one line: name, date, total.",
    "Output one line from the log: time, level.",
    "Return one value: total, subtotal or tax.",
    "Answer only questions about cats or dogs.",
    "Return exactly one code: two letters, lowercase.",
    "Write just one word: noun, plural.",
    "Return one tag: lowercase, hyphenated.",
    "Output one label: short, lowercase, without spaces.",
    "Reply with only true or false statements.",
    "Return only prices in euros or dollars.",
    "Use only commas or semicolons.",
    "Give only first or last.",
    "Return ONLY one of: A, B or whatever fits best.",
    "Choose one of: fast, cheap, good. Explain why.",
    "Say one of: hi, hello, then add the name.",
    "Classify as one of: spam, ham; if spam, add the rule.",
    "Return one category: choose the best from the text.",
    "Return ONLY one of: 🙂, 🙁",
    "",
    "Say something nice.",
    "Return ONLY one of: ., !.",
    "Return ONLY one of: a, a.",
    "Return ONLY one of: Yes, No. Use lowercase.",
    "Return ONLY one of: work, home, in square brackets.",
    "Return ONLY one of: warm, cold; if it is neither, say MILD.",
    f"{'x' * 20_000} Return ONLY one of: a, b.",
]


@pytest.mark.parametrize("spec", NAMED)
def test_a_spec_names_its_labels(spec):
    found = labels_in_spec(spec)
    assert found is not None
    assert found.labels == NAMED[spec]


@pytest.mark.parametrize("spec", NOT_NAMED)
def test_a_spec_that_may_mean_something_else_names_none(spec):
    assert labels_in_spec(spec) is None


def test_the_examples_specs_name_theirs():
    found = {
        path.parent.name: labels_in_spec(path.read_text()) for path in EXAMPLES.glob("*/spec.txt")
    }
    assert found["log-triage"].labels == ("ALERT", "QUIET")
    assert found["email-triage"].labels == ("immediate", "wait")
    assert found["json-repair"] is None


@pytest.mark.parametrize(
    "part",
    [
        "Return ONLY one of: a, b. ",
        "return only ",
        "only the one ",
        "- x\n",
        "a (",
        " , nothing else",
    ],
)
def test_no_spec_takes_long(part):
    for lead in ("", "Return ONLY one of: "):
        start = time.perf_counter()
        labels_in_spec((lead + part * 20_000)[:7900])
        labels_in_spec(lead + part * 20_000)
        assert time.perf_counter() - start < 10
