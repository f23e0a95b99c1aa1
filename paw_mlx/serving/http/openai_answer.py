"""A result in the words of OpenAI's API: whole, or in chunks, with the labels' probabilities."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...output import Decision
from ...runner import Result
from .openai_request import Asked

_LEAST = -9999.0  # OpenAI's own word for a probability of nothing


class Kind(NamedTuple):
    """What is asked: its answers' ids begin with `prefix`, `object` is what they are called."""

    prefix: str
    object: str
    chunk: str
    is_chat: bool


CHAT = Kind("chatcmpl", "chat.completion", "chat.completion.chunk", True)
COMPLETION = Kind("cmpl", "text_completion", "text_completion", False)


class Answer:
    """One answer to a request."""

    def __init__(self, kind: Kind, asked: Asked, program_id: str) -> None:
        self._kind, self._asked = kind, asked
        self._head = {
            "id": f"{kind.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": asked.model,
            "system_fingerprint": f"paw_{program_id[:16]}",
        }

    def whole(self, result: Result) -> dict[str, Any]:
        """Return the whole answer."""
        said: dict[str, Any] = {"text": result.text}
        if self._kind.is_chat:
            message = {"role": "assistant", "content": result.text, "refusal": None}
            said = {"message": message}
        choice = self._choice(said, result, result.finish_reason)
        head = self._head | {"object": self._kind.object}
        return head | {"choices": [choice], "usage": _usage(result)}

    def first(self) -> dict[str, Any]:
        """Return the chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": ""}, "")

    def piece(self, text: str, result: Result | None = None) -> dict[str, Any]:
        """Return the chunk of a piece; of a whole label, `result` has its probabilities."""
        return self._chunk({"content": text}, text, result)

    def last(self, result: Result) -> Iterator[dict[str, Any]]:
        """Give the chunk that says why it ended, and if asked one that says what it took."""
        yield self._chunk({}, "", reason=result.finish_reason)
        if self._asked.include_usage:
            head = self._head | {"object": self._kind.chunk}
            yield head | {"choices": [], "usage": _usage(result)}

    def _chunk(
        self,
        delta: dict[str, Any],
        text: str,
        result: Result | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": delta} if self._kind.is_chat else {"text": text}
        choice = self._choice(said, result, reason)
        chunk = self._head | {"object": self._kind.chunk, "choices": [choice]}
        return chunk | ({"usage": None} if self._asked.include_usage else {})

    def _choice(
        self, said: dict[str, Any], result: Result | None, reason: str | None
    ) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": reason, "logprobs": None} | said
        if self._asked.top_logprobs is not None and result and result.decision:
            write = _chat_logprobs if self._kind.is_chat else _logprobs
            choice["logprobs"] = write(result.decision, self._asked.top_logprobs)
        return choice


def _usage(result: Result) -> dict[str, Any]:
    prompt = result.prefix_tokens + result.input_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": result.output_tokens,
        "total_tokens": prompt + result.output_tokens,
        "prompt_tokens_details": {"cached_tokens": result.prefix_tokens},
    }


def _chat_logprobs(decision: Decision, top: int) -> dict[str, Any]:
    """Return a label as one token, and the likeliest labels beside it."""
    first = _token(decision.label, decision.probability)
    others = [_token(*one) for one in _likeliest(decision, top)]
    return {"content": [first | {"top_logprobs": others}], "refusal": None}


def _logprobs(decision: Decision, top: int) -> dict[str, Any]:
    """Return the same as /v1/completions has it."""
    likeliest = {label: _log(share) for label, share in _likeliest(decision, top)}
    return {
        "tokens": [decision.label],
        "token_logprobs": [_log(decision.probability)],
        "top_logprobs": [likeliest],
        "text_offset": [0],
    }


def _likeliest(decision: Decision, top: int) -> list[tuple[str, float]]:
    return sorted(decision.probabilities.items(), key=lambda one: -one[1])[:top]


def _token(label: str, share: float) -> dict[str, Any]:
    return {"token": label, "logprob": _log(share), "bytes": list(label.encode())}


def _log(share: float) -> float:
    return math.log(share) if share > 0 else _LEAST
