"""Python's types as outputs: what JSON they are, and what comes back of it.

What a schema allows is asked of jsonschema and llguidance; pydantic is asked where it is installed.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)

import jsonschema
import llguidance
import pytest
import test_layers
import tiny

from paw_mlx.annotations import output_of, retype
from paw_mlx.errors import OptionError, OutputError
from paw_mlx.output import TEXT, Labels, Output, Regex, Schema

T = TypeVar("T")
Cents = NewType("Cents", int)


class Urgency(enum.Enum):
    NOW = "immediate"
    LATER = "wait"
    SOON = "immediate"  # an alias


class Tone(enum.StrEnum):
    POLITE = "polite"
    RUDE = "rude"


class Grade(enum.IntEnum):
    GOOD = 2
    BAD = 0


class Odd(enum.Enum):
    PAIR = (1, 2)


@dataclass
class Line:
    name: str
    cents: Cents
    tone: Tone = Tone.POLITE


@dataclass(frozen=True)
class Invoice:
    number: str
    day: date
    lines: list[Line]
    vat: float | None = None
    tags: tuple[str, ...] = ()
    size: tuple[int, float] | None = None
    notes: dict[str, Line] = field(default_factory=dict)
    total: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.number == "0":
            raise ValueError("0 is no number of an invoice")


@dataclass
class Node:
    value: int
    below: list[Node] = field(default_factory=list)
    beside: Leaf | None = None


@dataclass
class Leaf:
    of: Node | None = None


class Point(TypedDict):
    x: int
    y: NotRequired[int]


class Named(Point, total=False):
    name: Required[str]
    note: str


@dataclass
class Cat:
    lives: int


@dataclass
class Dog:
    name: str


@dataclass
class Box(Generic[T]):
    content: T


class Pair(NamedTuple):
    a: int


@dataclass
class Unread:
    what: Nowhere  # noqa: F821


def allows(output: Output, value: object) -> bool:
    """Whether a schema allows a value: as jsonschema has it, and llguidance, which agree."""
    assert isinstance(output, Schema)
    schema, text = json.loads(output.text), json.dumps(value)
    jsonschema.Draft202012Validator.check_schema(schema)
    one = jsonschema.Draft202012Validator(schema).is_valid(value)
    grammar = llguidance.LLMatcher.grammar_from_json_schema(
        schema, overrides={"item_separator": ", ", "key_separator": ": "}
    )
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar, log_level=0)
    tokens = list(text.encode())
    other = matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()
    assert not matcher.is_error(), matcher.get_error()
    assert one == other, value
    return one


@pytest.mark.parametrize(
    ("given", "value", "made", "wrong"),
    [
        (str, "a", "a", [1, None]),
        (int, 12, 12, ["12", 1.5, None, True]),
        (float, 1.5, 1.5, ["1.5", None, False]),
        (float, 2, 2.0, []),
        (bool, True, True, [1, 0, "true"]),
        (list[int], [1, 2], [1, 2], [["1"], 1, {}, [True]]),
        (Sequence[str], ["a"], ["a"], [[1]]),
        (list, [1, {"a": None}], [1, {"a": None}], [{}]),
        (tuple[int, ...], [1, 2], (1, 2), [["a"]]),
        (tuple[int, str], [1, "a"], (1, "a"), [[1], [1, "a", 2], ["a", 1]]),
        (dict[str, float], {"a": 1}, {"a": 1.0}, [{"a": "1"}, []]),
        (Mapping[str, date], {"a": "2024-02-29"}, {"a": date(2024, 2, 29)}, [{"a": "today"}]),
        (dict, {"a": [1]}, {"a": [1]}, [[]]),
        (Optional[int], None, None, ["a"]),  # noqa: UP045
        (Union[int, str], "1", "1", [1.5, None]),  # noqa: UP007
        (int | list[str], ["a"], ["a"], [["a", 1]]),
        (Literal[1, "1", True, None, 2.5], True, True, [0, 2, "True"]),
        (Literal[1, "1"], "1", "1", [True, "2"]),
        (Grade, 2, Grade.GOOD, [1, "GOOD", True]),
        (list[Urgency], ["wait"], [Urgency.LATER], [["LATER"]]),
        (Annotated[Cents, "of a euro"], 5, 5, ["5"]),
        (Cat | Dog, {"name": "Rex"}, Dog("Rex"), [{}, {"lives": 1, "name": "Rex"}]),
        (list[Cat | None], [None, {"lives": 9}], [None, Cat(9)], [[{}]]),
        (Point, {"x": 1}, {"x": 1}, [{}, {"y": 1}, {"x": 1, "z": 1}]),
        (Named, {"x": 1, "name": "a"}, {"x": 1, "name": "a"}, [{"x": 1}, {"name": "a"}]),
        (Any, {"a": [None]}, {"a": [None]}, []),
    ],
)
def test_a_type_is_its_json_and_no_other(given, value, made, wrong):
    output = output_of(schema=given)
    assert allows(output, value)
    got = output.parse(json.dumps(value))
    assert got == made
    assert type(got) is type(made)
    for one in wrong:
        assert not allows(output, one)
        with pytest.raises(OutputError, match="the output is no ") as caught:
            output.parse(json.dumps(one))
        assert "\n" not in str(caught.value)


def test_a_dataclass_comes_back_with_all_within_it():
    output = output_of(schema=Invoice)
    line = {"name": "tea", "cents": 350}
    whole = {"number": "7", "day": "2026-01-31", "lines": [line], "vat": 19, "tags": ["a", "b"]}
    whole |= {"size": [1, 2.5], "notes": {"x": line | {"tone": "rude"}}}
    assert allows(output, whole)
    tea, notes = Line("tea", Cents(350)), {"x": Line("tea", 350, Tone.RUDE)}
    assert output.parse(json.dumps(whole)) == Invoice(
        "7",
        date(2026, 1, 31),
        [tea],
        19.0,
        ("a", "b"),
        (1, 2.5),
        notes,
    )
    least = {"number": "7", "day": "2026-01-31", "lines": []}
    assert output.parse(json.dumps(least)) == Invoice("7", date(2026, 1, 31), [])
    for change in (
        {"total": 1},
        {"day": "2026-02-30"},
        {"lines": [{"name": "tea"}]},
        {"vat": "19"},
    ):
        assert not allows(output, least | change)
    with pytest.raises(OutputError, match="the output is no Invoice: 0 is no number") as caught:
        output.parse(json.dumps(least | {"number": "0"}))
    assert isinstance(caught.value.__cause__, ValueError)


def test_types_that_hold_themselves_are_read():
    output = output_of(schema=Node)
    value = {"value": 1, "below": [{"value": 2, "beside": {"of": {"value": 3}}}]}
    assert allows(output, value)
    assert output.parse(json.dumps(value)) == Node(1, [Node(2, beside=Leaf(Node(3)))])
    assert not allows(output, {"value": 1, "below": [{"value": "2"}]})
    assert allows(output_of(schema=list[Leaf | Node]), [{"of": value}, value])


def test_every_day_that_there_is_is_a_date_and_no_other():
    pattern = re.compile(json.loads(output_of(schema=date).text)["pattern"])
    day, seen = date(1895, 1, 1), set()
    while day < date(2005, 1, 1):
        seen.add(day.isoformat())
        day += timedelta(1)
    for year in (*range(1895, 2005), 0):
        for month in range(14):
            for number in range(33):
                text = f"{year:04d}-{month:02d}-{number:02d}"
                assert bool(pattern.search(text)) == (text in seen), text
    for text in ("0001-01-01", "0004-02-29", "0400-02-29", "9999-12-31"):
        assert pattern.search(text)
        assert date.fromisoformat(text)


@pytest.mark.parametrize(
    ("labels", "texts", "values"),
    [
        (["b", "a"], ("b", "a"), ["b", "a"]),
        (("b", "a"), ("b", "a"), ["b", "a"]),
        ((label for label in "ba"), ("b", "a"), ["b", "a"]),
        (Urgency, ("immediate", "wait"), [Urgency.NOW, Urgency.LATER]),
        (Tone, ("polite", "rude"), [Tone.POLITE, Tone.RUDE]),
        (Literal["b", "a"], ("b", "a"), ["b", "a"]),
        (Literal[3, 1], ("3", "1"), [3, 1]),
        (Literal[Urgency.LATER, Urgency.NOW], ("wait", "immediate"), [*Urgency][::-1]),
    ],
)
def test_labels_are_texts_in_order(labels, texts, values):
    output = output_of(labels=labels)
    assert output == Labels(texts)
    assert [output.parse(text) for text in texts] == values


@pytest.mark.parametrize("given", [Urgency, Tone, Literal["polite", "rude"]])
def test_a_schema_of_texts_alone_is_a_choice_among_labels(given):
    output = output_of(schema=given)
    assert isinstance(output, Labels)
    assert output == output_of(labels=given)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("ALERT,QUIET", "labels are texts in order, a Literal or an Enum, and not 'ALERT,QUIET'"),
        ({"a", "b"}, "labels are texts in order"),
        ({"a": 1, "b": 2}, "labels are texts in order"),
        (7, "and not 7"),
        (str, "and not str"),
        (Cat, "and not Cat"),
        (Grade, "a label is a text, and Grade has <Grade.GOOD: 2>"),
        (Literal[True, "b"], "has True"),
        (Literal[2.5, "b"], "has 2.5"),
        (Literal["a", None], "has None"),
        (Literal["a"], "labels are 2 to"),
        (["a", "a"], "is there twice"),
        ([Urgency.NOW, Urgency.LATER], "label 1 is <Urgency.NOW"),
    ],
)
def test_what_is_no_labels_is_refused(labels, said):
    with pytest.raises(OptionError) as caught:
        output_of(labels=labels)
    assert said in str(caught.value)


@dataclass
class Unclear:
    items: list[dict[str, Decimal]]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (Unclear, "Unclear.items[][…] is of the type Decimal, which has no one form in JSON"),
        (Decimal, "Decimal is of the type Decimal"),
        (list[set[int]], "list[set[int]][] is of the type set[int]"),
        (bytes, "of the type bytes"),
        (tuple[int, bytes], "tuple[int, bytes][1] is of the type bytes"),
        (Pair, "of the type Pair"),
        (Box, "Box.content is of the type ~T"),
        (Box[int], "which has no one form"),
        (list["Cat"], "of the type 'Cat'"),
        (dict[int, str], "has keys of the type int, and JSON's are str"),
        (Odd, "Odd has the value (1, 2), which JSON cannot say"),
        (Literal[b"x"], "has the value b'x'"),
        (enum.Enum("Empty", {}), "Empty has no values"),
        (Unread, "Unread has a type that cannot be read: name 'Nowhere' is not defined"),
        (7, "7 is of the type 7"),
        ('{"type": "object"}', "a schema is a dict or a type, and not"),
        ({"enum": {1}}, "the schema is no JSON"),
    ],
)
def test_what_has_no_one_json_is_refused_by_its_name(schema, said):
    with pytest.raises(OptionError) as caught:
        output_of(schema=schema)
    assert said in str(caught.value)


def test_an_output_has_one_type_or_none():
    assert output_of() is None
    for given in (Labels(("a", "b")), Labels(("a", "b"), threshold=0.5)):
        assert output_of(labels=given) is given
    schema = {"type": "object", "additionalProperties": True}
    assert json.loads(output_of(schema=schema).text) == schema
    assert output_of(schema=Schema.of(schema)) == Schema.of(schema)
    assert output_of(regex=r"\d+") == output_of(regex=re.compile(r"\d+")) == Regex(r"\d+")
    assert output_of(regex=Regex("a")) == Regex("a")
    with pytest.raises(OptionError, match="of one type, not of 2: labels, regex"):
        output_of(labels=["a", "b"], regex="a|b")
    for regex in (re.compile("a", re.IGNORECASE), 7, re.compile(b"a")):
        with pytest.raises(OptionError, match="a regex is a text") as caught:
            output_of(regex=regex)
        assert "(?i)" in caught.value.hints[0]


def test_a_threshold_goes_into_the_programs_labels():
    program = tiny.program("qwen3", seed=None)
    typed = retype(program, Labels(("a", "b")), 0.8, "?")
    assert typed.output == Labels(("a", "b"), threshold=0.8, otherwise="?")
    assert retype(typed, None) is typed
    assert retype(typed, None, 0.9).output == dataclasses.replace(typed.output, threshold=0.9)
    for output in (None, TEXT, Regex("a")):
        with pytest.raises(OptionError, match=r"threshold and otherwise would be of labels, and"):
            retype(program, output, 0.8, "?")


def test_models_of_pydantics_are_closed_and_come_back():
    pydantic = pytest.importorskip("pydantic")

    class Part(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True)
        day: date
        cents: Annotated[int, pydantic.Field(ge=0, alias="price")]

    class Order(pydantic.BaseModel):
        parts: list[Part]
        open: dict[str, int] = pydantic.Field(default_factory=dict)
        what: Part | None = None

    class Loose(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        a: int

    output = output_of(schema=Order)
    part = {"day": "2024-02-29", "price": 3}
    assert allows(output, {"parts": [part], "open": {"x": 1}, "what": None})
    made = output.parse(json.dumps({"parts": [part]}))
    assert made == Order(parts=[Part(day=date(2024, 2, 29), price=3)])
    for wrong in ({"parts": [part | {"more": 1}]}, {"parts": [], "more": 1}, {}):
        assert not allows(output, wrong)
    with pytest.raises(OutputError, match="the output is no Order") as caught:
        output.parse('{"parts": [{"day": "2024-02-29", "price": -3}]}')
    assert "\n" not in str(caught.value)
    assert allows(output_of(schema=Loose), {"a": 1, "b": 2})

    both = dataclasses.make_dataclass("Both", [("a", Order), ("b", list[Part])])
    got = output_of(schema=both).parse(json.dumps({"a": {"parts": []}, "b": [part]}))
    assert got == both(Order(parts=[]), made.parts)
    assert allows(output_of(schema=both), {"a": {"parts": []}, "b": [part]})
    other = pydantic.create_model("Part", name=(str, ...))
    holder = pydantic.create_model("Holder", part=(other, ...))
    with pytest.raises(OptionError, match="two types named Part"):
        output_of(schema=tuple[Order, holder])
    calls = pydantic.create_model("Calls", back=(Callable[[int], int], ...))
    with pytest.raises(OptionError, match="Calls has no JSON schema"):
        output_of(schema=calls)


def test_pydantic_is_not_imported():
    done = test_layers.python(
        "-c",
        "import sys; from paw_mlx.annotations import output_of\n"
        "from dataclasses import make_dataclass\n"
        "kind = output_of(schema=make_dataclass('A', [('a', int)])).kind\n"
        "print(kind, 'pydantic' in sys.modules)",
    )
    assert done.stdout == "schema False\n"
