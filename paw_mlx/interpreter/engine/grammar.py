"""JSON of a schema and matches of a regex, token by token: llguidance behind a constraint.

A grammar is compiled once for a base's tokenizer; a call gets a matcher of its own, which costs
some microseconds. Where the text can only go on in one way, its tokens are those that the
tokenizer gives that text, and no mask is computed.

llguidance comes with `pip install 'paw-mlx[typed]'`, and is imported when a program has such a
type.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ...errors import OptionError, OutputError
from ...output import Output, Regex, Schema
from ...program import Program, Template
from ..base.tokenizer import Tokenizer
from ..models.load import Base
from .draft import read_examples
from .type_faults import regex_fault, schema_fault

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_MAX_STATES = 50_000  # of a grammar's lexer, some 2 kB each
_MAX_FORCED_BYTES = 10_000  # beyond which an output has no end that a window could hold
_COMPACT = (",", ":")
_SPACED = (", ", ": ")  # json.dumps' own
# Outputs are stripped, as str.strip does it, so a match has to begin and end with no blank.
_NO_BLANK = r"[^\s\x1c-\x1f]"
_STRIPPED = rf"({_NO_BLANK}((?s:.)*{_NO_BLANK})?)?"


def check_output(output: Output) -> None:
    """Raise OptionError for a type that no output could have; no tokenizer is needed.

    It says llguidance's own reason: what is unsupported, contradicts itself or has no end.
    """
    if isinstance(output, Schema | Regex):
        _compile(_llguidance().LLTokenizer("byte"), output, _SPACED)


class Acceptor:
    """Tells which texts are outputs of a type, by their bytes; JSON as json.dumps writes it."""

    def __init__(self, output: Schema | Regex) -> None:
        """Take a type; OptionError for one that no output could have."""
        self._matcher = _compile(_llguidance().LLTokenizer("byte"), output, _SPACED)

    def __call__(self, text: str) -> bool:
        """Return whether the whole of a text is one."""
        matcher = self._matcher.deep_copy()
        return matcher.consume_tokens(list(text.encode())) and matcher.is_accepting()


class Grammars:
    """The grammars of a base's programs, each compiled when it is first asked for."""

    def __init__(self, base: Base) -> None:
        self._tokenizer, self._ends = base.tokenizer, [base.end, *(base.eos - {base.end})]
        self._vocabulary: LLTokenizer | None = None
        self._grammars: WeakKeyDictionary[Program, Grammar] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, program: Program) -> Grammar | None:
        """Return the grammar of a program's output; None where that is text or a label.

        OptionError for a type that no output could have.
        """
        if not isinstance(output := program.output, Schema | Regex):
            return None
        with self._lock:
            if (grammar := self._grammars.get(program)) is None:
                if self._vocabulary is None:
                    self._vocabulary = make_vocabulary(self._tokenizer, self._ends)
                grammar = Grammar(self._vocabulary, output, separators(program.template))
                self._grammars[program] = grammar
            return grammar


class Grammar:
    """An output's type for one tokenizer; matchers that it has started share what they learn."""

    def __init__(
        self, vocabulary: LLTokenizer, output: Schema | Regex, separators: tuple[str, str]
    ) -> None:
        self._matcher = _compile(vocabulary, output, separators)
        self._ends = vocabulary.eos_tokens

    def start(self) -> Matcher:
        """Return the constraint of a new output."""
        return Matcher(self._matcher.deep_copy(), self._ends)


class Matcher:
    """What one output may say; a `Constraint`."""

    def __init__(self, matcher: LLMatcher, ends: Sequence[int]) -> None:
        self._matcher, self._ends = matcher, ends
        self._forced: list[int] | None = None  # from here on; None if nobody has asked
        self._num_tokens = 0

    def forced(self, limit: int) -> list[int]:
        """Return the tokens that alone can come now, in order, at most `limit`; the end, too."""
        if self._forced is None:
            self._forced = self._find_forced()
        return self._forced[:limit]

    def allowed(self, draft: Sequence[int]) -> np.ndarray:
        """Return which tokens may follow each part of a draft: bool (1 + len(draft), V).

        V is the tokenizer's vocabulary. What llguidance gives up on, nothing may follow.
        """
        masks = [self._matcher.compute_bitmask()]
        for token in draft:
            if not self._matcher.try_consume_tokens([token]):
                break
            masks.append(self._matcher.compute_bitmask())
        self._matcher.rollback(len(masks) - 1)
        bits = np.frombuffer(b"".join(masks), np.uint8).reshape(len(masks), -1)
        may = np.zeros((1 + len(draft), 8 * bits.shape[1]), bool)
        if not self._matcher.is_error():
            may[: len(masks)] = np.unpackbits(bits, axis=1, bitorder="little")
        return may

    def push(self, tokens: Sequence[int]) -> None:
        """Hear the tokens that the row took; OutputError if none was allowed, which ends it."""
        self._forced, self._num_tokens = None, self._num_tokens + len(tokens)
        text = [token for token in tokens if token not in self._ends]
        may = self._matcher.consume_tokens(text)
        # The end llguidance takes only as long as nobody has asked what follows.
        if not may or (len(text) < len(tokens) and not self._matcher.is_accepting()):
            error = self._matcher.get_error()
            is_stuck = not error or error.startswith(("NoExtension", "Parser Error"))
            raise OutputError(
                f"the output came to a dead end at token {self._num_tokens}: "
                f"{'no token may come there' if is_stuck else _reason(error)}",
                hint="The base's tokens cannot spell what the type asks for, or it is too complex.",
            )

    def _find_forced(self) -> list[int]:
        tokens = self._matcher.compute_ff_tokens()
        num = self._matcher.try_consume_tokens(tokens)
        if num == len(tokens) and self._matcher.is_stopped() and not self._matcher.is_error():
            tokens.append(self._ends[0])
        self._matcher.rollback(num)
        return tokens


def separators(template: Template) -> tuple[str, str]:
    """Return what separates JSON's items, and keys from values, as a template's examples do.

    Without an example that tells, it is as json.dumps has it.
    """
    for _, output in read_examples(template.prefix):
        spaced, compact = (_writes(form, output) for form in (_SPACED, _COMPACT))
        if spaced != compact:
            return _COMPACT if compact else _SPACED
    return _SPACED


def _writes(separators: tuple[str, str], text: str) -> bool:
    """Whether a text is the JSON that is written with these separators."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    forms = (json.dumps(value, ensure_ascii=a, separators=separators) for a in (True, False))
    return text in forms


def make_vocabulary(tokenizer: Tokenizer, ends: Sequence[int]) -> LLTokenizer:
    """Return llguidance's view of a tokenizer; the first of `ends` is the usual one."""
    made = _llguidance().LLTokenizer
    wrapped: Any = _Wrapped(tokenizer.encode, made(tokenizer.to_json()), ends)
    return made(wrapped, eos_token=list(ends))


class _Wrapped:
    """A tokenizer as llguidance takes it from Python.

    By itself it reads the bytes of the tokens, but takes control tokens in forced text for
    such, where our outputs have them as plain text.
    """

    is_tokenizer_wrapper, bos_token_id = True, None

    def __init__(
        self, encode: Callable[[str], list[int]], read: LLTokenizer, ends: Sequence[int]
    ) -> None:
        self._encode, self._read, self.eos_token_id = encode, read, ends[0]
        known = range(read.vocab_size)
        beyond = max(0, *(end + 1 - read.vocab_size for end in ends))
        self.tokens = [read.decode_bytes([i]) for i in known] + [b""] * beyond
        self.special_token_ids = [*filter(read.is_special_token, known), *ends]

    def __call__(self, text: str | bytes) -> list[int]:
        """Return the token ids of a text: such as spell it, even if it is normalized otherwise."""
        data = text.encode() if isinstance(text, str) else text
        ids = self._encode(data.decode())
        spelt = b"".join(self.tokens[i] for i in ids) == data
        return ids if spelt else self._read.greedy_tokenize(data.decode())


def _compile(
    vocabulary: LLTokenizer, output: Schema | Regex, separators: tuple[str, str]
) -> LLMatcher:
    """Return a matcher at the beginning of an output; OptionError for a type that has none."""
    llguidance = _llguidance()
    limits = llguidance.LLParserLimits(max_lexer_states=_MAX_STATES, verbose_errors=False)
    text = _write(output, separators)
    matcher = llguidance.LLMatcher(vocabulary, text, limits=limits, log_level=0)
    num_forced = len(matcher.compute_ff_bytes())
    if num_forced > _MAX_FORCED_BYTES:
        raise _refuse(output, f"it begins with {num_forced:,} bytes or more that cannot differ")
    matcher.compute_bitmask()  # it may turn out that nothing can begin it
    if matcher.is_error():
        raise _refuse(output, _reason(matcher.get_error()))
    return matcher


def _write(output: Schema | Regex, separators: tuple[str, str]) -> str:
    """Return a type as llguidance has it."""
    llguidance = _llguidance()
    if isinstance(output, Regex):
        if (len(output.pattern) - len(output.pattern.rstrip("\\"))) % 2:
            raise _refuse(output, "it ends amid an escape")
        if fault := regex_fault(output.pattern, _is_blank):
            raise _refuse(output, fault)
        pattern = llguidance.regex_to_lark(output.pattern, "d")  # whose digits are 0 to 9
        lark = f"start: OUTPUT\nOUTPUT: /{pattern}/ & /{_STRIPPED}/"
        return llguidance.LLMatcher.grammar_from_lark(lark)
    schema = json.loads(output.text)
    if not isinstance(schema, dict):
        raise _refuse(output, f"it is {json.dumps(schema)[:80]}, and no object")
    if fault := schema_fault(schema):
        raise _refuse(output, fault)
    schema.pop("x-guidance", None)  # which would have llguidance read it in another way
    items, keys = separators
    form = {"item_separator": items, "key_separator": keys, "whitespace_flexible": False}
    return llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=form)


@lru_cache(4096)
def _is_blank(character: str) -> bool:
    """Return whether a regex of one character matches nothing but blanks."""
    if len(character) == 1:
        return character.isspace()
    llguidance = _llguidance()
    lark = f"start: OUTPUT\nOUTPUT: /{llguidance.regex_to_lark(character, 'd')}/ & /{_NO_BLANK}/"
    made = llguidance.LLMatcher.grammar_from_lark(lark)
    limits = llguidance.LLParserLimits(max_lexer_states=_MAX_STATES, verbose_errors=False)
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), made, limits=limits, log_level=0)
    matcher.compute_bitmask()
    return str(matcher.get_error()).startswith("NoExtension")


def _refuse(output: Schema | Regex, reason: str) -> OptionError:
    if isinstance(output, Schema):
        return OptionError(f"the schema cannot be an output's type: {reason}")
    return OptionError(
        f"the regex {output.pattern[:80]!r} cannot be an output's type: {reason}",
        hint="Outputs are stripped of blanks at both ends.",
    )


def _reason(error: str) -> str:
    """Return what an error of llguidance's says, in a line."""
    error = error.partition("\n<")[0].strip()
    if error.startswith("NoExtension"):
        return "nothing can match it"
    if found := re.findall(r"^error: (.+)", error, re.MULTILINE):
        return found[-1]
    return error.partition(" (in regex): ")[2].split("\n")[0] or error.split("\n")[0]


def _llguidance() -> Any:
    """Return the package; OptionError where it is missing."""
    try:
        import llguidance
    except ImportError as error:
        raise OptionError(
            "outputs of a schema or a regex need llguidance, which is not installed",
            hint="`pip install 'paw-mlx[typed]'` brings it.",
        ) from error
    return llguidance
