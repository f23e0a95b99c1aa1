"""Teachers: whoever answers questions about a function. A local chat model is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import mlx.core as mx

from .. import hub
from ..compiler.chat import ChatModel
from ..compiler.constrained import Constraints
from ..compiler.installed import loadable_by_mlx_lm
from ..compiler.pipeline import PSEUDO_COMPILER
from ..errors import NotFound, OptionError, OutputError
from ..files import exists
from ..formats.fingerprint import fingerprint
from ..output import Output
from ..progress import Progress, quiet
from .endpoint import Endpoint, is_url
from .questions import Question


class Teacher(Protocol):
    """Answers questions; `name` says which one it is, in records."""

    name: str

    def ask(self, questions: Sequence[Question]) -> Iterator[str | None]:
        """Answer each in order; None where no usable answer came."""
        ...

    def close(self) -> None:
        """Give memory and connections back."""
        ...


def find_teacher(
    reference: str | None = None,
    *,
    model: str | None = None,
    plain_http: bool = False,
    offline: bool = False,
    progress: Progress = quiet,
) -> Teacher | Path:
    """Return the teacher of a reference: an endpoint's URL, an instruct model, or a file of pairs.

    Without one, the model that writes pseudo-programs. `model` is which one an endpoint is to
    use. Errors as of `Endpoint` and `hub.resolve_base`.
    """
    reference = reference or PSEUDO_COMPILER
    if is_url(reference):
        return Endpoint(reference, model, plain_http=plain_http, offline=offline)
    if model:
        raise OptionError(f"{reference} is no URL: there is one model, and none to name")
    path = Path(reference).expanduser()
    if path.suffix == ".jsonl":
        if not exists(path):
            raise NotFound(f"no such file: {path}")
        return path
    found = hub.resolve_base(reference, offline=offline, progress=progress)
    return ChatTeacher(loadable_by_mlx_lm(found, progress), progress)


class ChatTeacher:
    """An instruct model in a folder, through mlx-lm; loaded when it is first asked.

    Its answers are of a question's type, whatever it would say otherwise, as far as its tokens and
    what is installed allow.
    """

    def __init__(self, path: Path, progress: Progress = quiet) -> None:
        self.name = f"{path.name} {fingerprint(path)[:16]}"
        self._path, self._progress = path, progress
        self._model: ChatModel | None = None
        self._lead = ""  # what the model has evaluated
        self._constraints: dict[Output, Constraints | None] = {}

    def ask(self, questions: Sequence[Question]) -> Iterator[str | None]:
        """Answer each in order; None where its type has come to a dead end."""
        if self._model is None:
            self._progress(f"loading {self._path.name}")
            self._model = ChatModel(self._path)
        for question in questions:
            if question.lead != self._lead:
                texts = (f"{question.lead}\n\n{letter}" for letter in "A1")
                self._model.share(*([_message(text)] for text in texts))
                self._lead = question.lead
            yield self._answer(self._model, question)

    def close(self) -> None:
        """Drop the model; the next question loads it again."""
        if self._model is not None:
            self._model.close()
            self._model, self._lead = None, ""
        mx.clear_cache()

    def _answer(self, model: ChatModel, question: Question) -> str | None:
        output = question.output
        if output not in self._constraints:
            try:
                self._constraints[output] = Constraints(output, self._path, model.ends)
            except OptionError:  # what comes is checked in any case
                self._constraints[output] = None
        constraints = self._constraints[output]
        try:
            return model.answer(
                [_message(question.text)],
                question.max_tokens,
                lambda text: False,
                temperature=question.temperature,
                seed=question.seed,
                constraint=constraints.start() if constraints else None,
            )
        except OutputError:
            return None


def _message(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
