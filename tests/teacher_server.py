"""A teacher on loopback that speaks OpenAI's chat completions, and not always well.

It knows one function: is a message about food? What it says follows from what it is asked, so
that a run that was killed can be told from an unbroken one. How it misbehaves is up to a test.
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from hub_server import send, send_json, serving

SPEC = "Is the message about food? Return ONLY one of: yes, no."
_FOOD = ["soup", "bread", "noodles", "curry", "an omelette", "lentils", "a pie", "plums"]
_OTHER = ["the tram", "a printer", "football", "the tax form", "a new roof", "chess", "the choir"]
_WHO = ["my aunt", "the neighbour", "our teacher", "a colleague", "somebody", "the mayor"]
_DID = ["talked about", "asked for", "brought", "forgot", "paid for", "dreamt of", "sold"]
_WHEN = ["yesterday", "at noon", "last week", "in the rain", "twice", "too late", "for once"]

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Teacher:
    """What it says, how it misbehaves, and what it was asked.

    `before` are answers given, one by one, ahead of its own; `spoil` changes what it says.
    """

    models: list[str] = field(default_factory=lambda: ["tutor"])
    before: list[Answer] = field(default_factory=list)
    spoil: Callable[[str, str], str] = lambda question, answer: answer
    log: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _now: int = 0

    @property
    def questions(self) -> list[str]:
        """The messages that were sent, those that were refused too."""
        return [body["messages"][0]["content"] for body in self.log]


@contextmanager
def serving_teacher(teacher: Teacher) -> Iterator[Teacher]:
    """Serve a teacher; its address is `teacher.url`."""
    lock = threading.Lock()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/v1/models":
            send_json(handler, {"data": [{"id": name} for name in teacher.models]})
            return
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with lock:
            teacher.log.append(body)
            teacher.keys.append(handler.headers.get("Authorization"))
            before = teacher.before.pop(0) if teacher.before else None
            teacher._now += 1
            teacher.most_at_once = max(teacher.most_at_once, teacher._now)
        said = None
        if not before and handler.path == "/v1/chat/completions":
            question = body["messages"][0]["content"]
            said = teacher.spoil(question, say(question, body["seed"]))
        with lock:  # before the answer is sent, after which the next question may come at once
            teacher._now -= 1
        if handler.path != "/v1/chat/completions":
            send(handler, 404)
        elif before:
            before(handler)
        else:
            send_json(handler, message(said))

    with serving(answer) as url:
        teacher.url = f"{url}/v1"
        yield teacher


def message(content: object) -> dict[str, Any]:
    """Return an answer as the API has it."""
    return {"choices": [{"message": {"role": "assistant", "content": content}}]}


def say(question: str, seed: int) -> str:
    """Answer a question well: topics, pairs, or the output of an input."""
    if found := re.search(r"\[INPUT\]\n(.*)\n\[END_INPUT\]", question, re.DOTALL):
        return right(found[1])
    if "different topics" in question:
        return json.dumps([f"topic {number}" for number in range(10)])
    number, label = re.search(r"Write (\d+) examples", question), re.search(r'"(yes|no)"', question)
    assert number
    chance = random.Random(seed)
    said = label[1] if label else "yes"
    return json.dumps([pair(chance, said) for _ in range(int(number[1]))])


def pair(chance: random.Random, label: str) -> dict[str, str]:
    """Make a pair with a label."""
    what = chance.choice(_FOOD if label == "yes" else _OTHER)
    who, did, when = (chance.choice(words) for words in (_WHO, _DID, _WHEN))
    return {"input": f"{when} {who} {did} {what}", "output": label}


def right(text: str) -> str:
    """Whether a message is about food."""
    return "yes" if any(food in text for food in _FOOD) else "no"
