"""Outputs of a JSON schema or a regex: they have their type, whatever the model would say."""

from __future__ import annotations

import json
import random
import re
import sys
import time
from dataclasses import replace

import pytest
import tiny
import tiny_gguf
from engine_room import batch_of, inside
from random_types import Type, check, make_type
from tokenizers import normalizers

from paw_mlx import Interpreter, Labels, OptionError, Options, OutputError, Program, Regex, Schema
from paw_mlx.device import assume_gpu
from paw_mlx.interpreter.base.tokenizer import Tokenizer
from paw_mlx.interpreter.engine import grammar, step
from paw_mlx.prompts import pseudo_program

INPUTS = ["the disk is full", "picnic on Friday", "0 1 0 1 0 1", "Grüße", "the server is down"]
INVOICE = Schema.of(
    {
        "type": "object",
        "properties": {
            "paid": {"type": "boolean"},
            "currency": {"enum": ["EUR", "USD"]},
            "number": {"type": "integer", "minimum": 0, "maximum": 999},
        },
        "required": ["paid", "currency", "number"],
        "additionalProperties": False,
    }
)
FORM = r'\{"paid": (true|false), "currency": "(EUR|USD)", "number": \d{1,3}\}'


def typed(program: Program, output: Type) -> Program:
    return replace(program, output=output)


@pytest.mark.slow
def test_outputs_have_their_type_and_rows_beside_them_stay_as_they_were(interpreter, family):
    chance, program, free = random.Random(1), tiny.program(family, 1), tiny.program(family, 2)
    alone = [interpreter.run(free, text, Options(max_tokens=30)) for text in INPUTS]
    types = [make_type(chance) for _ in range(34)]
    programs = [typed(replace(program, adapter=None), output) for output in types]
    calls, beside = [], []
    for number in range(340):
        options = Options(max_tokens=100, temperature=float(number % 2), seed=number)
        calls.append(interpreter.submit(programs[number % 34], INPUTS[number % 5], options))
        if number % 10 == 0:
            options = Options(max_tokens=30)
            beside.append(interpreter.submit(free, INPUTS[len(beside) % 5], options))
    whole = 0
    for number, call in enumerate(calls):
        if isinstance(call.exception(60), OutputError):  # at its limit, before an end
            continue
        check(types[number % 34], call.result().text)
        whole += 1
    assert whole > 0.9 * len(calls)
    for number, call in enumerate(beside):
        expected, result = alone[number % 5], call.result(60)
        assert (result.text, result.output_tokens) == (expected.text, expected.output_tokens)


def test_a_function_gives_the_value_in_the_schemas_order(interpreter, family):
    function = interpreter.function(typed(tiny.program(family, 1), INVOICE))
    result = function.run("the disk is full")
    assert re.fullmatch(FORM, result.text)
    assert function("the disk is full") == json.loads(result.text) == result.value
    assert list(result.value) == ["paid", "currency", "number"]
    assert "".join(function.stream("the disk is full")) == result.text
    assert list(function.map(INPUTS)) == [function(text) for text in INPUTS]


def test_drawn_outputs_keep_to_their_type_and_vary(interpreter, family):
    function = interpreter.function(typed(tiny.program(family, 1), INVOICE))
    said = {function.run("picnic", temperature=2.0, seed=seed).text for seed in range(30)}
    assert all(re.fullmatch(FORM, text) for text in said)
    assert len(said) > 10


def test_a_seed_draws_the_same_beside_other_rows(interpreter, family):
    program, free = typed(tiny.program(family, 1), INVOICE), tiny.program(family, 2)
    drawn = [Options(temperature=2.0, seed=seed) for seed in range(12)]
    alone = [interpreter.run(program, "picnic", options).text for options in drawn]
    calls = [interpreter.submit(program, "picnic", options) for options in drawn]
    beside = [interpreter.submit(free, text, Options(max_tokens=60)) for text in INPUTS]
    assert [call.result(60).text for call in calls] == alone
    assert len(set(alone)) > 4
    assert all(call.result(60).num_steps for call in beside)


def test_compiled_steps_say_the_same(folder, family, monkeypatch):
    monkeypatch.setattr(step, "PATIENCE", 2)
    ruled, free = typed(tiny.program(family, 1), INVOICE), tiny.program(family, 2)
    jobs = [(p, text, Options(max_tokens=50)) for text in INPUTS for p in (ruled, free)]
    with Interpreter.load(str(folder), max_rows=4) as plain:
        expected = [plain.run(*job).text for job in jobs]
    with Interpreter.load(str(folder), max_rows=4) as compiled, assume_gpu():
        batch_of(compiled).ahead = True
        calls = [compiled.submit(*job) for job in jobs]
        assert [call.result(60).text for call in calls] == expected
        assert inside(compiled, lambda batch: len(batch._step._traces)) > 2


class Unforced:
    """A constraint that foresees nothing."""

    def __init__(self, constraint):
        self.allowed, self.push = constraint.allowed, constraint.push

    def forced(self, limit):
        return []


@pytest.mark.parametrize("lookup", [False, True])
def test_what_is_forced_takes_no_step_of_its_own_and_changes_nothing(
    interpreter, family, lookup, monkeypatch
):
    program, options = typed(tiny.program(family, 1), INVOICE), Options(lookup=lookup)
    fast = [interpreter.run(program, text, options) for text in INPUTS]
    start = grammar.Grammar.start
    monkeypatch.setattr(grammar.Grammar, "start", lambda self: Unforced(start(self)))
    slow = [interpreter.run(program, text, options) for text in INPUTS]
    assert [result.text for result in fast] == [result.text for result in slow]
    assert [r.output_tokens for r in fast] == [r.output_tokens for r in slow]
    most = 0.9 if lookup else 0.7  # drafts from the input know the keys, too, after a while
    assert sum(r.num_steps for r in fast) < most * sum(r.num_steps for r in slow)


def test_an_output_that_cannot_differ_takes_the_prompts_own_step(interpreter, family):
    result = interpreter.run(typed(tiny.program(family, 1), Schema.of({"const": "full"})), "disk")
    assert (result.value, result.num_steps, result.finish_reason) == ("full", 1, "stop")


@pytest.mark.parametrize("text", ["<|im_end|>", "a Fris", "Grüße, 日本", ""])
def test_forced_tokens_are_the_tokenizers_own(folder, text):
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    vocabulary = grammar.make_vocabulary(tokenizer, tokenizer.ids(["<|im_end|>"]))
    made = grammar.Grammar(vocabulary, Schema.of({"const": text}), (", ", ": "))
    expected = tokenizer.encode(json.dumps(text, ensure_ascii=False))
    assert made.start().forced(99) == [*expected, *tokenizer.ids(["<|im_end|>"])]


def test_what_a_tokenizer_writes_in_another_form_can_still_be_said():
    plain, text = tiny.tokenizer(), "u\u0308ber"
    plain.normalizer = normalizers.NFC()
    tokenizer = Tokenizer(plain)
    vocabulary = grammar.make_vocabulary(tokenizer, tokenizer.ids(["<|im_end|>"]))
    made = grammar.Grammar(vocabulary, Regex(text), (", ", ": "))
    tokens = made.start().forced(99)
    assert tokenizer.decode(tokenizer.encode(text)) != text == tokenizer.decode(tokens)


def test_json_is_compact_where_the_programs_examples_are(interpreter, family):
    shown = {"spaced": '{"a": 1, "b": [2]}', "compact": '{"a":1,"b":[2]}', "none": "x"}
    texts = {}
    for form, output in shown.items():
        prefix = pseudo_program("Extract.", [("in", output)])
        program = typed(tiny.program(family, 1, prefix=prefix), INVOICE)
        texts[form] = interpreter.run(program, "disk").text
    assert texts["compact"] == json.dumps(json.loads(texts["compact"]), separators=(",", ":"))
    assert all(re.fullmatch(FORM, texts[form]) for form in ("spaced", "none"))


def test_a_match_of_a_regex_has_no_blanks_that_stripping_would_take(interpreter, family):
    function = interpreter.function(typed(tiny.program(family, 1), Regex("[a ]{2,9}")))
    said = [function("picnic", temperature=3.0, seed=seed) for seed in range(40)]
    assert all(re.fullmatch("[a ]{2,9}", text) for text in said)
    assert any(" " in text for text in said)


def test_a_row_that_is_cut_before_its_types_end_fails_alone(interpreter, family):
    program = tiny.program(family, 1)
    cut = interpreter.submit(typed(program, Regex("a{40}b|[a-z]{40}")), "x", Options(max_tokens=9))
    whole = [interpreter.submit(typed(program, INVOICE), text) for text in INPUTS]
    with pytest.raises(OutputError, match=r"^9 tokens, which are the most, did not") as caught:
        cut.result(60)
    assert caught.value.hints == ["Allow more: max_tokens, or --max-tokens."]
    assert all(re.fullmatch(FORM, call.result(60).text) for call in whole)


def test_a_row_whose_window_is_full_fails_alone(interpreter, family):
    program = typed(tiny.program(family, 1), INVOICE)
    room = interpreter.base.window - interpreter.run(program, "").input_tokens
    text = "0" * (room - interpreter.run(program, "").prefix_tokens - 7)
    with pytest.raises(OutputError, match=r"^7 tokens, which fill the window") as caught:
        interpreter.run(program, text)
    assert caught.value.hints == ["Shorten the input."]
    assert re.fullmatch(FORM, interpreter.run(program, "0").text)


def test_what_it_begins_with_counts_towards_the_limit(interpreter, family):
    program = typed(tiny.program(family, 1), Regex("abcdefgh(x|y)ijklmnopq"))
    num = interpreter.run(program, "disk").output_tokens - 1  # without the end
    for less in range(1, num):
        with pytest.raises(OutputError, match=f"^{less} tokens, which are the most"):
            interpreter.run(program, "disk", Options(max_tokens=less))
    assert interpreter.run(program, "disk", Options(max_tokens=num)).finish_reason == "stop"


def test_an_end_needs_no_token_below_the_limit(interpreter, family):
    program = typed(tiny.program(family, 1), INVOICE)
    result = interpreter.run(program, "disk")
    num = result.output_tokens - 1  # without the end
    again = interpreter.run(program, "disk", Options(max_tokens=num))
    assert (again.text, again.finish_reason) == (result.text, "stop")
    with pytest.raises(OutputError):
        interpreter.run(program, "disk", Options(max_tokens=num - 1))


def test_a_dead_end_fails_alone(family, tmp_path):
    folder = tiny.write_base(tmp_path / family, family)
    made = json.loads((folder / "tokenizer.json").read_text())
    vocab = made["model"]["vocab"]
    vocab["none"] = vocab.pop("7")  # nothing spells it any more
    (folder / "tokenizer.json").write_text(json.dumps(made))
    program = tiny.program(family, 1)
    with Interpreter.load(str(folder)) as interpreter:
        stuck = interpreter.submit(typed(program, Regex("[ab]{3}7")), "disk")
        whole = interpreter.submit(typed(program, Regex("[ab]{3}[78]")), "disk")
        with pytest.raises(OutputError, match=r"dead end at token .: no token may come there"):
            stuck.result(60)
        assert re.fullmatch("[ab]{3}8", whole.result(60).text)
        with pytest.raises(OptionError, match=r"the regex '7' cannot be .* nothing can match"):
            interpreter.run(typed(program, Regex("7")), "disk")


def test_a_base_of_gguf_keeps_to_types_too(family, folder, tmp_path):
    path = tmp_path / "base.gguf"
    tiny_gguf.write_gguf(path, folder, family, ["F16"])
    with Interpreter.load(str(path)) as interpreter:
        function = interpreter.function(typed(tiny.program(family, None), INVOICE))
        said = {function.run(text, temperature=2.0, seed=1).text for text in INPUTS}
    assert all(re.fullmatch(FORM, text) for text in said)


IMPOSSIBLE = [
    (Regex("("), r"the regex '\(' cannot be an output's type: unclosed group"),
    (Regex("a\\"), "it ends amid an escape"),
    (Regex(r"a[^\s\S]"), "nothing can match it"),
    (Regex(" a"), "nothing can match it"),
    (Regex("(?=a)b"), "look-around"),
    # Without an end of its own llguidance looked through all states of such a part: minutes.
    (Regex(r"a|(\w{1,30}){1,30} "), "a part of it can only end in a blank"),
    (Regex(r"a|(\w|\w\w){1,60}[\t\x20]"), "a part of it can only end in a blank"),
    (Regex(r"[xy](a|((?P<n>\p{L}{1,30}){1,30}[^\S])+)"), "a part of it can only end in a blank"),
    (Regex(r"(?x)a|(\w|\w\w){1,60}\ "), r"\(\?x\), in which blanks mean nothing"),
    (Regex("(" * 300), "nested deeper than 200"),
    # What could match was found, in 16 s and 1.5 GB.
    (Regex(r"a|(\p{L}{1,60}){1,60}é"), r"comes to 144,000 steps \(limit 60,000\)"),
    (Regex(r"a|((\w{1,9}){1,9}|x{1,9}){1,40}é"), "steps"),
    (Regex(r"\bfull"), "an output's type: lookarounds not supported yet"),
    (Regex(r"(a)\1"), "backreferences are not supported"),
    (Regex("a{1000000}"), "fuel exhausted"),
    (Schema("[1]"), r"it is \[1\], and no object"),
    (Schema.of({"type": "foo"}), "the schema cannot be an output's type: Invalid type: foo"),
    (Schema.of({"not": {"type": "string"}}), r'Unimplemented keys: \["not"\]'),
    (Schema.of({"type": "integer", "minimum": 3, "maximum": 2}), "minimum .3. is greater"),
    (Schema.of({"enum": []}), "Unsatisfiable"),
    (Schema.of({"type": "string", "pattern": "("}), "unclosed group"),
    (Schema.of({"properties": {"a": {"$ref": "#/x"}}}), "Pointer '/x' does not exist"),
    (
        Schema.of({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        "bytes or more that cannot differ",
    ),
    # Of these llguidance's stack overflowed, which ends the process, or it took another number.
    (Schema.of({"const": -(1 << 63)}), "its numbers are 9,007,199,254,740,992 at most"),
    (Schema.of({"enum": ["a", {"b": [1 - (1 << 63)]}]}), "its numbers are"),
    (Schema.of({"type": "integer", "const": -1e300}), "its numbers are"),
    (Schema.of({"properties": {"a": {"maximum": 10**400}}}), "its numbers are"),
    (Schema.of({"const": (1 << 53) + 1}), "its numbers are"),
    (Schema.of({"x-guidance": {"lenient": True}, "not": {}}), r'Unimplemented keys: \["not"\]'),
]


@pytest.mark.parametrize(("output", "reason"), IMPOSSIBLE)
def test_a_type_that_no_output_can_have_is_refused_in_a_sentence(output, reason):
    with pytest.raises(OptionError, match=reason) as caught:
        grammar.check_output(output)
    assert "\n" not in str(caught.value)


EXACT = Schema.of({"enum": [1 << 53, -(1 << 53), 0.5, 5e-324, True]})


@pytest.mark.parametrize("output", [INVOICE, EXACT, Regex("a|b"), Regex(""), Labels(("a", "b"))])
def test_a_type_that_outputs_can_have_is_let_be(output):
    grammar.check_output(output)


WORDS = r"(\w|\w\w){1,60}"


@pytest.mark.parametrize(
    "pattern",
    [
        *(f"a|{WORDS} ?", rf"a|{WORDS}\s*", f"a|{WORDS}( |x)", f"a|{WORDS}( x?)", r"[ ]|[]a ]b"),
        *(r"(\w{1,20} ){0,20}\w+", "[a ]{2,9}", r"\p{L}+( \p{L}+)*", "(?i)yes|no", "a|", " +|a"),
        *(r"x|[\w ]{1,4000}é", r"x|(\w|\w\w){1,400}é", r"x|(\p{L}{1,30}){1,30}é"),
    ],
)
def test_a_regex_that_may_end_in_a_blank_or_not_is_let_be(pattern):
    start = time.perf_counter()
    grammar.check_output(Regex(pattern))
    assert time.perf_counter() - start < 5


def test_without_llguidance_it_is_said_what_to_install(interpreter, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(OptionError, match="need llguidance, which is not installed") as caught:
        grammar.check_output(INVOICE)
    assert caught.value.hints == ["`pip install 'paw-mlx[typed]'` brings it."]
