"""What a teacher is asked: for topics, for pairs of one facet each, and for one output.

A question begins with its `lead`, which many share: a local model evaluates it once. Diversity
comes from the facets, which follow from the seed and the question's number.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..output import TEXT, Labels, Output, Regex, Schema

PAIRS_A_QUESTION, MAX_TOPICS = 8, 40
_PAIR_TOKENS, _OUTPUT_TOKENS = 120, 512
_MAX_CHARS = 500  # of a text that a local model writes
_WRITING_TEMPERATURE = 0.9
_LIST = "Answer with a JSON list of short texts, and nothing else."
SHOWN = "…"  # where a text is to stand
_FORM = (
    "Answer with a JSON list of objects, and nothing else, in this form: "
    f"[{json.dumps({'input': SHOWN, 'output': SHOWN})}]"
)
TOPICS = (  # for a teacher that names none
    "work and offices", "home and family", "travel", "shopping and deliveries", "health", "money",
    "computers and networks", "food", "sports", "school", "cars and machines", "neighbours",
)  # fmt: skip
_LENGTHS = (
    "three to six words", "one short sentence", "one sentence", "one long sentence",
    "two or three sentences", "a paragraph",
)  # fmt: skip
_TONES = (
    "matter-of-fact", "friendly", "annoyed", "formal", "casual, as in a chat", "hurried",
    "like a note to oneself", "enthusiastic", "unsure",
)  # fmt: skip
_FORMS = (
    "clean", "clean", "with typing errors", "all in lower case, hardly any punctuation",
    "with abbreviations and jargon", "with details that do not matter here",
)  # fmt: skip
_KINDS = (
    "typical ones", "typical ones", "hard ones, easily mistaken",
    "edge cases of the specification, each a different one",
    "ones whose words do not give the output away", "ones that real users send and nobody expects",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One turn: `lead` and `rest` are the message. A local model's answer is of type `output`."""

    lead: str
    rest: str
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    output: Output = TEXT

    @property
    def text(self) -> str:
        """The whole message."""
        return f"{self.lead}\n\n{self.rest}"


class Questioner:
    """Makes the questions about one function."""

    def __init__(self, spec: str, output: Output, seed: int) -> None:
        self._output, self._seed = output, seed
        about = f"[SPEC]\n{spec}\n[END_SPEC]\n\n{_describe(output)}"
        self._writing = (
            "You write examples for a small model that is to carry out a text function. This is "
            f"the function's specification:\n\n{about}\n\nWhat you write has to look like what "
            "real users would send to that function, and its outputs are exactly what the "
            "specification asks for, without explanation."
        )
        self._labelling = (
            f"Carry out this text function for one input. Its specification:\n\n{about}\n\n"
            "Answer with the output alone: no explanation, no quotes."
        )

    def topics(self) -> Question:
        """Ask what inputs may be about."""
        rest = (
            f"Name {MAX_TOPICS} different topics, situations or senders that inputs of this "
            f"function may come from. {_LIST}"
        )
        topic = {"type": "string", "minLength": 3, "maxLength": 60}
        form = Schema.of({"type": "array", "items": topic, "maxItems": MAX_TOPICS})
        max_tokens = 12 * MAX_TOPICS
        return Question(self._writing, rest, max_tokens, _WRITING_TEMPERATURE, self._seed, form)

    def pairs(
        self, number: int, topics: Sequence[str], label: str | None, num_pairs: int
    ) -> Question:
        """Ask for pairs with the facets of question `number`; with one `label`, if there is one."""
        chance = random.Random(f"question {number} of {self._seed}")
        facets = {
            "Topic": chance.choice(topics or TOPICS),
            "Length of an input": chance.choice(_LENGTHS),
            "Tone": chance.choice(_TONES),
            "Writing": chance.choice(_FORMS),
            "Inputs": chance.choice(_KINDS),
        }
        if label is not None:
            facets["Output"] = f"{json.dumps(label, ensure_ascii=False)} for every one of them"
        lines = "\n".join(f"- {name}: {facet}" for name, facet in facets.items())
        rest = f"Write {num_pairs} examples, each unlike the others.\n{lines}\n{_FORM}"
        seed = chance.getrandbits(31)
        max_tokens, form = _PAIR_TOKENS * num_pairs, _list_of_pairs(self._output, label, num_pairs)
        return Question(self._writing, rest, max_tokens, _WRITING_TEMPERATURE, seed, form)

    def output(self, text: str) -> Question:
        """Ask for the output of one input."""
        return Question(
            self._labelling, f"[INPUT]\n{text}\n[END_INPUT]", _OUTPUT_TOKENS, output=self._output
        )


def _list_of_pairs(output: Output, label: str | None, num: int) -> Schema:
    """Return the type of an answer that is a list of pairs."""
    said: dict[str, object] = {"type": "string", "maxLength": _MAX_CHARS}
    if isinstance(output, Schema):
        said = {}
    elif label is not None:
        said = {"const": label}
    text = {"type": "string", "minLength": 1, "maxLength": _MAX_CHARS}
    pair = {
        "type": "object",
        "properties": {"input": text, "output": said},
        "required": ["input", "output"],
        "additionalProperties": False,
    }
    return Schema.of({"type": "array", "items": pair, "minItems": num, "maxItems": num})


def _describe(output: Output) -> str:
    """Say what outputs may be."""
    if isinstance(output, Labels):
        return f"An output is ONLY one of: {', '.join(output.labels)}"
    if isinstance(output, Schema):
        return (
            "An output is JSON on one line, with the keys in the order of this JSON schema: "
            f"{output.text}"
        )
    if isinstance(output, Regex):
        return f"An output matches this regular expression as a whole: {output.pattern}"
    return "An output is text."
