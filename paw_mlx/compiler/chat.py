"""Chat models through mlx_lm: their tokenizers, their templates, their greedy answers.

Everything comes from a local folder: nothing is fetched, no code of a model's is run. mlx_lm
brings transformers along, 1.5 s to import, and so is imported where it is first needed. What
stands inside a message is plain text: a control token there does not end the turn.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx

from ..device import claim
from ..errors import FormatError, InputTooLong, NotFound
from ..interpreter.engine.constraint import Constraint, mask

if TYPE_CHECKING:
    from mlx_lm.tokenizer_utils import TokenizerWrapper

Message = dict[str, str]  # {"role": "user" or "assistant", "content": ...}

_MARK = re.compile("\ue000(\\d+)\ue001")  # where a template puts message number N
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def load_tokenizer(path: Path) -> TokenizerWrapper:
    """Load a tokenizer and its chat template; NotFound or FormatError says what is wrong."""
    from mlx_lm import utils

    with _loading(path, "tokenizer.json"):
        return utils.load_tokenizer(path, _LOCAL)


def render(tokenizer: TokenizerWrapper, messages: Sequence[Message]) -> str:
    """Render a conversation as text, the answer's turn opened and thinking off.

    FormatError if there is no chat template, or it does not take these messages.
    """
    if not tokenizer.has_chat_template:
        raise FormatError(
            "the tokenizer has no chat template", hint="Use the model's instruct variant."
        )
    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except Exception as error:  # a template is a small program, and fails as it likes
        raise FormatError(f"the chat template fails: {error}") from error


def encode(tokenizer: TokenizerWrapper, messages: Sequence[Message]) -> list[int]:
    """Return the ids of a rendered conversation, with control tokens the template's alone."""
    marks = [message | {"content": f"\ue000{i}\ue001"} for i, message in enumerate(messages)]
    parts = _MARK.split(render(tokenizer, marks))
    if lost := set(range(len(messages))) - {int(number) for number in parts[1::2]}:
        raise FormatError(f"the chat template leaves out {len(lost)} of {len(messages)} messages")
    ids: list[int] = []
    for i, part in enumerate(parts):
        text = messages[int(part)]["content"] if i % 2 else part
        ids += encode_text(tokenizer, text, control=not i % 2)
    return ids


def encode_text(tokenizer: TokenizerWrapper, text: str, *, control: bool) -> list[int]:
    """Return the token ids of `text`; control tokens count as such only if `control`."""
    return list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not control))


class ChatModel:
    """A chat model in memory. What its conversations begin with is evaluated once."""

    def __init__(self, path: Path) -> None:
        claim()
        from mlx_lm import utils

        with _loading(path, "tokenizer.json", "config.json", "model*.safetensors"):
            self._model, config = utils.load_model(path)
            eos = config.get("eos_token_id")
            self._tokenizer = utils.load_tokenizer(path, _LOCAL, eos_token_ids=eos)
        self._window = config.get("max_position_embeddings")
        self._prefix: tuple[list[int], Any] = [], self._new_cache()
        self._last = self._prefix

    def share(self, *conversations: Sequence[Message]) -> None:
        """Evaluate what these conversations have in common, for all that are to come."""
        from mlx_lm.generate import generate_step

        first, *others = (encode(self._tokenizer, messages) for messages in conversations)
        ids = first[: min(_count_shared(first, other) for other in others)]
        cache = self._new_cache()
        if ids:  # max_tokens=0 evaluates the prompt and stops
            list(generate_step(mx.array(ids), self._model, max_tokens=0, prompt_cache=cache))
        self._prefix = ids, cache

    def answer(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        done: Callable[[str], bool],
        *,
        temperature: float = 0.0,
        seed: int | None = None,
        constraint: Constraint | None = None,
    ) -> str:
        """Answer up to the end, `max_tokens`, or a text that is `done`.

        Greedily at `temperature` 0, else sampled; a `seed` repeats that. What may be said is up to
        a `constraint`, of this answer alone. A conversation that goes on from the last answer
        reuses its KV. InputTooLong if messages and answer exceed the model's window, OutputError
        if the constraint leaves no token.
        """
        from mlx_lm import stream_generate

        ids = encode(self._tokenizer, messages)
        if isinstance(self._window, int) and len(ids) + max_tokens > self._window:
            raise InputTooLong(
                f"the conversation takes {len(ids)} tokens and its answer up to {max_tokens}, "
                f"more than the {self._window} of the pseudo-compiler"
            )
        num_known, cache = self._start(ids, self._last if len(messages) > 1 else self._prefix)
        text, said = "", []
        with contextlib.redirect_stdout(io.StringIO()):  # mlx_lm warns of large models there
            for part in stream_generate(
                self._model,
                self._tokenizer,
                ids[num_known:],
                max_tokens=max_tokens,
                prompt_cache=cache,
                sampler=_sampler(temperature, seed),
                logits_processors=[_Masking(constraint, self.ends)] if constraint else None,
            ):
                text += part.text
                said.append(part.token)
                if done(text):
                    break
        self._last = ids + said, cache
        return text

    @property
    def ends(self) -> list[int]:
        """The ids that end an answer, the tokenizer's own first."""
        own, ends = self._tokenizer.eos_token_id, self._tokenizer.eos_token_ids
        return sorted(ends, key=lambda end: (end != own, end))

    def close(self) -> None:
        """Let go of weights and caches, whoever still holds this object."""
        del self._model, self._prefix, self._last

    def _start(self, ids: list[int], kept: tuple[list[int], Any]) -> tuple[int, Any]:
        """Return how many of `ids` need no evaluation, and a cache that holds just these."""
        from mlx_lm.models.cache import trim_prompt_cache

        known, cache = kept[0], copy.deepcopy(kept[1])
        # The last token is always evaluated: its logits are the answer's first.
        num_known = min(_count_shared(known, ids), len(ids) - 1)
        surplus = len(known) - num_known
        # A recurrent model's cache takes nothing back.
        if surplus and trim_prompt_cache(cache, surplus) != surplus:
            return 0, self._new_cache()
        return num_known, cache

    def _new_cache(self) -> Any:
        from mlx_lm.models.cache import make_prompt_cache

        return make_prompt_cache(self._model)


class _Masking:
    """Sets the logits of what a constraint does not allow to -inf, as mlx_lm asks for them.

    mlx_lm asks for one token more than it gives, so what follows an end is let be.
    """

    def __init__(self, constraint: Constraint, ends: Sequence[int]) -> None:
        self._constraint, self._ends, self._begun = constraint, ends, False

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Return the logits (1, V) of what follows `tokens` (T); the first are the prompt's."""
        if self._begun:
            last = cast(int, tokens[-1].item())
            self._constraint.push([last])
            if last in self._ends:
                return logits
        self._begun = True
        return mask(logits, [self._constraint])


def _sampler(temperature: float, seed: int | None) -> Callable[[mx.array], mx.array] | None:
    """Return what draws a token of log-probabilities (1, V), with a key of its own; None: greedy.

    mlx_lm's own sampler draws from MLX's state, which other models of the process draw from, too.
    """
    if temperature == 0:
        return None
    key = mx.random.key(random.getrandbits(63) if seed is None else seed)

    def draw(logprobs: mx.array) -> mx.array:
        nonlocal key
        key, own = mx.random.split(key)
        return mx.random.categorical(logprobs / temperature, key=own)

    return draw


def _count_shared(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@contextlib.contextmanager
def _loading(path: Path, *needed: str) -> Iterator[None]:
    """Check that the files are there; keep mlx_lm and transformers quiet; map what they raise."""
    for pattern in needed:
        if not any(path.glob(pattern)):
            raise NotFound(f"no {pattern} in {path}")
    # transformers warns, on stderr, of what concerns its own models; importing it resets this.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except Exception as error:  # a model's files may fail anywhere inside two libraries
        reason = " ".join(str(error).split())[:300]
        raise FormatError(f"{path} does not load: {type(error).__name__}: {reason}") from error
