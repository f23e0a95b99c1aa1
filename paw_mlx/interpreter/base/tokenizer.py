"""Text to token ids and back, with the `tokenizers` library.

A template may hold control tokens (`<|im_end|>`); a user's text may not: there they are
plain characters, so that no input escapes its place in the prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from ...errors import FormatError, OptionError, listed
from ...files import exists
from ...formats.untrusted import check_arrived, shown

_CONTROL, _USER_DEFINED = 3, 4  # GGUF's token types that are matched before BPE
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# GGUF's `tokenizer.ggml.pre` -> (normalizer, pre-tokenizers before the byte level, words there)
_PRE: dict[str, tuple[Any, list[Any], bool]] = {
    "gpt-2": (None, [], True),
    "smollm": (None, [pre_tokenizers.Digits(individual_digits=True)], True),
    "qwen2": (normalizers.NFC(), [pre_tokenizers.Split(Regex(_QWEN_WORDS), "isolated")], False),
}


class Tokenizer:
    """A base's tokenizer. Encoding adds no tokens of its own, neither BOS nor EOS."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # It would keep words in each thread that encodes, and leave them there when it goes.
        if resize := getattr(tokenizer.model, "_resize_cache", None):
            resize(0)
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        added = tokenizer.get_added_tokens_decoder().values()
        self._control = [token.content for token in added if token.special]

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Read a `tokenizer.json`; FormatError if it is none, DiskError if one may not read it."""
        if exists(path):
            check_arrived(path)
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except BaseException as error:
            _check_own(error)
            raise FormatError(f"{path} is not a tokenizer.json: {error}") from error

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """Build the byte-level BPE that a GGUF base describes; FormatError for other kinds."""
        # Any value may be an array, which has no truth.
        kind, pre = (metadata.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
        if str(kind) != "gpt2" or str(pre) not in _PRE:
            raise FormatError(
                f"the GGUF's tokenizer is {shown(kind)} with pre-tokenizer {shown(pre)}",
                hint=f"Supported: byte-level BPE (gpt2) with {listed(sorted(_PRE))}.",
            )
        try:
            tokens = list(metadata["tokenizer.ggml.tokens"])
            types = list(metadata["tokenizer.ggml.token_type"])
            merges = [
                (m.partition(" ")[0], m.partition(" ")[2])
                for m in metadata["tokenizer.ggml.merges"]
            ]
            tokenizer = tokenizers.Tokenizer(
                models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
            )
            tokenizer.add_tokens(
                [
                    AddedToken(token, special=type_ == _CONTROL, normalized=False)
                    for token, type_ in zip(tokens, types, strict=True)
                    if type_ in (_CONTROL, _USER_DEFINED)
                ]
            )
        except BaseException as error:
            _check_own(error)
            raise FormatError(f"the GGUF's tokenizer is damaged: {error}") from error
        normalizer, before, words = _PRE[str(pre)]
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, byte_level])
        tokenizer.decoder = decoders.ByteLevel()
        return cls(tokenizer)

    def encode(self, text: str, *, control: bool = False) -> list[int]:
        """Return the token ids of `text`; control tokens count as such only if `control`.

        OptionError if it holds half a character (a lone surrogate).
        """
        return self._tokenize(text, control).ids

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where in `text` each token begins and ends; those of one character, alike."""
        return self._tokenize(text, control=False).offsets

    def _tokenize(self, text: str, control: bool) -> tokenizers.Encoding:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise OptionError(
                f"the text is no valid Unicode: {text[error.start]!r} at {error.start}"
            ) from error
        with self._lock:
            self._tokenizer.encode_special_tokens = not control
            try:
                return self._tokenizer.encode(text, add_special_tokens=False)
            except BaseException as error:
                raise _fault(error) from error

    def encode_input(self, text: str, suffix: str) -> list[int]:
        """Return the token ids of a user's text and the template's suffix after it.

        They are one string to the official SDK, and tokens may span the seam (Qwen's `!\\n`).
        So the suffix joins the text up to its first control token, and only the rest has any.
        """
        found = [suffix.find(token) for token in self._control if token in suffix]
        seam = min(found, default=len(suffix))
        return self.encode(text + suffix[:seam]) + self.encode(suffix[seam:], control=True)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids, control tokens left out."""
        try:
            return self._tokenizer.decode(list(ids), skip_special_tokens=True)
        except BaseException as error:
            raise _fault(error) from error

    def ids(self, tokens: Iterable[str]) -> list[int]:
        """Return the ids of those of `tokens` that the vocabulary has, in order."""
        found = (self._tokenizer.token_to_id(token) for token in tokens)
        return [i for i in found if i is not None]

    def token(self, id_: int) -> str | None:
        """Return the token of an id, as the vocabulary writes it; None for what is no id."""
        known = type(id_) is int and 0 <= id_ < self._tokenizer.get_vocab_size()
        return self._tokenizer.id_to_token(id_) if known else None

    def stream(self) -> TextStream:
        """Return a decoder that takes one token at a time."""
        return TextStream(self._tokenizer)

    def to_json(self) -> str:
        """Return it as a `tokenizer.json` has it."""
        return self._tokenizer.to_str()

    def save(self, path: Path) -> None:
        """Write a `tokenizer.json`."""
        path.write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")


class TextStream:
    """Text as its tokens arrive: whole characters only, stripped at both ends.

    What may change or be stripped is held back, so the pieces and `finish` join to exactly
    what decoding all tokens at once and stripping gives.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = decoders.DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._text = ""  # decoded so far, white space in front left out
        self._given = 0  # characters of it that were returned

    def push(self, token: int) -> str:
        """Take a token; return the text that is now certain, often one word, or nothing."""
        self._ids.append(token)
        try:
            text = self._text + (self._stream.step(self._tokenizer, token) or "")
        except BaseException as error:
            raise _fault(error) from error
        self._text = text if self._given else text.lstrip()
        return self._give(len(self._text.rstrip()))

    def finish(self) -> str:
        """Return the rest, when no token follows: bytes that never became a character."""
        whole = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        self._text = whole.strip()
        return self._give(len(self._text))

    def _give(self, end: int) -> str:
        start, self._given = self._given, max(end, self._given)
        return self._text[start:end]


def _fault(error: BaseException) -> FormatError:
    """Return what is wrong with a tokenizer that fails on a text."""
    _check_own(error)
    return FormatError(
        f"the base's tokenizer fails: {error}", hint="Its tokenizer.json is damaged: get it anew."
    )


def _check_own(error: BaseException) -> None:
    """Raise an error again unless it may be the library's: it raises Exception, and panics."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
