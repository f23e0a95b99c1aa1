"""A teacher behind an address: any endpoint that speaks OpenAI's chat completions.

It is asked only where a user names its address. Every step is bounded: https (plain http on this
machine, or if the user says so), a time for each answer, a size, tries that wait longer each time.
The key goes to that address alone: no redirect is followed.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from .. import settings
from ..deadline import Deadline, open_by
from ..errors import HubError, OfflineError, OptionError, PawError, listed
from ..service import is_loopback, is_safe
from .questions import Question

ANSWER_S, TRIES = 180.0, 6
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 60.0
MAX_BYTES = 4 << 20
PARALLEL = 4  # questions on their way
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_NOT_THERE = (ConnectionRefusedError, socket.gaierror)  # at first, an address that is wrong
_OPTIONAL = ("temperature", "seed", "max_tokens")  # what some models refuse


def is_url(reference: str) -> bool:
    """Return whether a reference is an address."""
    return reference.lower().startswith(("http://", "https://"))


class Endpoint:
    """An OpenAI-compatible endpoint, and one of its models."""

    def __init__(
        self, url: str, model: str | None, *, plain_http: bool = False, offline: bool = False
    ) -> None:
        """Take an address (`…/v1`); without `model`, the only one that it has.

        OptionError for an address that is not safe, or if it has several models; OfflineError,
        or HubError if it does not answer.
        """
        if not (is_safe(url) or (plain_http and urlsplit(url).hostname)):
            raise OptionError(
                f"{url} is no address to send a spec to",
                hint="Use https://, or http:// on this machine; --plain-http allows it elsewhere.",
            )
        if (offline or settings.offline()) and not is_loopback(url):
            raise OfflineError(f"offline, and {url} is not on this machine")
        self._url = url.rstrip("/").removesuffix("/chat/completions")
        self._left_out: set[str] = set()
        self._reached = False
        self._model = model or self._only_model()
        self.name = f"{self._url} {self._model}"

    def ask(self, questions: Sequence[Question]) -> Iterator[str | None]:
        """Answer each in order, some at a time; None for an answer that is malformed.

        HubError if the endpoint refuses, or does not answer after all tries.
        """
        futures = [Future[str | None]() for _ in questions]
        todo = iter(zip(futures, questions, strict=True))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    future, question = next(todo, (None, None))
                if future is None or question is None:
                    return
                if future.set_running_or_notify_cancel():
                    try:
                        future.set_result(self._answer(question))
                    except Exception as error:  # for whoever takes the answers
                        future.set_exception(error)

        # Not a pool: nobody waits at the end for an answer that nobody wants any more.
        for _ in range(min(PARALLEL, len(questions))):
            threading.Thread(target=work, daemon=True).start()
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def _answer(self, question: Question) -> str | None:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": question.text}],
            "temperature": question.temperature,
            "seed": question.seed,
            "max_tokens": question.max_tokens,
        }
        data = self._send("/chat/completions", body)
        try:
            content = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        return content if isinstance(content, str) else None

    def _only_model(self) -> str:
        data = self._send("/models", None)
        try:
            names = [str(model["id"]) for model in json.loads(data)["data"]]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise HubError(
                f"{self._url} does not say which models it has",
                hint="Name one: --teacher-model NAME.",
            ) from error
        if len(names) != 1:
            raise OptionError(
                f"{self._url} has {len(names)} models: {listed(names) or 'none'}",
                hint="Name one: --teacher-model NAME.",
            )
        return names[0]

    def _send(self, path: str, body: dict[str, Any] | None) -> bytes:
        """Send a request until it is answered; HubError after all tries, or if it is refused."""
        fault, tries = "", 0
        while tries < TRIES:
            left_out = set(self._left_out)
            sent = body and {name: body[name] for name in body if name not in left_out}
            asked_s = None
            try:
                return self._send_once(path, sent)
            except urllib.error.HTTPError as error:
                with error:
                    asked_s = _retry_after(error.headers.get("Retry-After", ""))
                    told = _told(error)
                refused = {one for one in _OPTIONAL if body and one in told} - left_out
                if error.code == HTTPStatus.BAD_REQUEST and refused:
                    self._left_out |= refused
                    continue  # no try: it ends when nothing is left to leave out
                fault = f"{error.code} {error.reason}: {told or 'it does not say why'}"
                if error.code not in _AGAIN:
                    raise self._refusal(error.code, fault) from error
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, PawError):
                    raise
                reason = getattr(error, "reason", error)
                fault = str(reason) or type(reason).__name__
                if not self._reached and isinstance(reason, _NOT_THERE):
                    raise HubError(f"cannot reach {self._url}: {fault}") from error
            tries += 1
            if tries < TRIES:
                _wait(tries, asked_s)
        raise HubError(
            f"{self._url} did not answer in {TRIES} tries; at last {fault}",
            hint="What was written is kept: the same command goes on.",
        )

    def _send_once(self, path: str, body: dict[str, Any] | None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data)
        request.add_header("Content-Type", "application/json")
        if key := settings.teacher_key():
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        with open_by(Deadline(ANSWER_S), request, ANSWER_S, _NoRedirects()) as response:
            self._reached = True
            answer = response.read(MAX_BYTES + 1)
            if len(answer) > MAX_BYTES:
                raise HubError(
                    f"an answer has at most {MAX_BYTES} bytes, and {self._url} sent more"
                )
            if response.length:
                raise http.client.IncompleteRead(answer, response.length)
        return answer

    def _refusal(self, code: int, fault: str) -> HubError:
        hint = None
        if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            hint = "Set PAW_TEACHER_KEY to a key that it knows."
        elif code == HTTPStatus.NOT_FOUND:
            hint = "Give the address up to its version, as in http://localhost:11434/v1."
        return HubError(f"{self._url} refused: {fault}", hint=hint)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Let a redirect be the refusal that it is: it would carry the spec elsewhere."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        """Follow none."""


def _told(error: urllib.error.HTTPError) -> str:
    """Return what a refusal says, in a line; nothing if that does not arrive."""
    try:
        return " ".join(error.read(2000).decode(errors="replace").split())[:300]
    except (OSError, http.client.HTTPException):
        return ""


def _retry_after(text: str) -> float | None:
    """Return the seconds that a Retry-After asks for; None if it says nothing."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None


def _wait(tries: int, asked_s: float | None) -> None:
    """Sleep as long as was asked, or twice as long after each try; a minute at most."""
    wait_s = FIRST_WAIT_S * 2 ** (tries - 1) * random.uniform(0.75, 1.25)
    if asked_s is not None and asked_s == asked_s:
        wait_s = max(asked_s, 0.0)
    time.sleep(min(wait_s, MAX_WAIT_S))
