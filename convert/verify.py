"""Whether two artifacts are one: their mathematics site by site, and what they say on a base.

Neither is the truth, so either may be the other's rounding, or both may be roundings of a
third. On a base they go in step: both read the prompt, and then both follow the tokens that
the first one chooses, so that logits stay comparable after their choices have parted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from paw_mlx.convert.compare import compare
from paw_mlx.convert.receipt import Receipt
from paw_mlx.errors import FormatError, InputTooLong, OptionError
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine.decode import prefill
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import Base
from paw_mlx.program import Template
from paw_mlx.rows.jsonl import numbered_lines, read_jsonl

if TYPE_CHECKING:
    from paw_mlx.convert.program import Artifact

INPUTS = ("The server is down.", "Is Friday good for you?", "12 pears, 3 figs and a lemon: $4.50")
NEAR_TIE = 0.1  # nats: the better token is at most a tenth likelier than the other
_TEXTS = ("template", "spec", "pseudo_program", "interpreter")


@dataclass(frozen=True)
class Run:
    """One input on both. `prompt_diff` and `path_diff` are the largest differences of logits,
    after the prompt and anywhere along A's tokens; `parted` counts the tokens before A and B
    choose differently (None if they never do), and `gap` is how far A's two best are apart
    there, in nats."""

    input: str
    outputs: tuple[str, str]
    num_tokens: int
    prompt_diff: float
    path_diff: float
    parted: int | None
    gap: float | None

    @property
    def equal(self) -> bool:
        return self.parted is None

    @property
    def is_near_tie(self) -> bool:
        """Whether a rounding is enough to make them part where they do."""
        return self.gap is not None and self.gap <= NEAR_TIE


@dataclass(frozen=True)
class Verdict:
    """What two artifacts have in common. `differing` names the texts that differ; only the
    template among them changes what is computed."""

    receipt: Receipt
    differing: tuple[str, ...]
    runs: tuple[Run, ...]

    @property
    def ok(self) -> bool:
        return self.receipt.ok and "template" not in self.differing

    @property
    def num_equal(self) -> int:
        return sum(run.equal for run in self.runs)

    def __str__(self) -> str:
        if not self.receipt.ok:
            return f"They differ: {self.receipt}."
        if not self.ok:
            return "They differ: their adapters are the same, their templates are not."
        return f"They are the same: {self.receipt}."

    def record(self) -> dict[str, Any]:
        """Return the verdict as JSON has it."""
        return {
            "ok": self.ok,
            "verdict": str(self),
            "differing": list(self.differing),
            "num_equal": self.num_equal,
            "runs": [{**asdict(run), "equal": run.equal} for run in self.runs],
            "receipt": self.receipt.record(),
        }


def verify(
    a: Artifact,
    b: Artifact,
    *,
    base: Base | None = None,
    inputs: Sequence[str] = INPUTS,
    max_tokens: int = 128,
) -> Verdict:
    """Compare two artifacts, and on `base` also their logits and greedy outputs for `inputs`.

    A bare adapter runs in the other's template, and without any it gets the inputs alone.
    AdapterMismatch if one does not fit the base, InputTooLong, OptionError.
    """
    receipt = compare(a.adapter, b.adapter, mutual=True)
    if base is None:
        return Verdict(receipt, _differing_texts(a, b), ())
    with _both_on(base, a, b) as (one, other):
        runs = tuple(_run_in_step(one, other, text, max_tokens) for text in inputs)
    return Verdict(receipt, _differing_texts(a, b), runs)


def read_inputs(path: Path) -> list[str]:
    """Read inputs from a file: one a line, or the "input" of each row of a `.jsonl`."""
    if path.suffix != ".jsonl":
        return [line.rstrip("\r") for _, line in numbered_lines(path, "inputs")]
    inputs = []
    for number, row in read_jsonl(path, "inputs"):
        if not isinstance(row, dict) or not isinstance(row.get("input"), str):
            raise FormatError(f'{path}, line {number}: a row needs the string "input"')
        inputs.append(row["input"])
    return inputs


def _differing_texts(a: Artifact, b: Artifact) -> tuple[str, ...]:
    """Return the texts that two programs do not share; a bare adapter has none to differ in."""
    one, other = a.program, b.program
    if one is None or other is None:
        return ()
    return tuple(text for text in _TEXTS if getattr(one, text) != getattr(other, text))


class _Side:
    """One artifact on the base: its matrices, and its prefix, evaluated."""

    def __init__(self, base: Base, a: Artifact, template: Template) -> None:
        base.profile.check(a.adapter)
        self.base, self.suffix = base, template.suffix
        self.pairs = lora.pairs(a.adapter, base.dtype)
        self.prefix = KV(base.model.num_layers)
        tokens = base.tokenizer.encode(template.prefix, control=True)
        self._check_room(len(tokens))
        if tokens:
            self._attach()
            prefill(base.model, tokens, self.prefix)

    def start(self, text: str) -> tuple[mx.array, KV]:
        """Evaluate a prompt: the logits (1, V) after it, and what continues it."""
        kv, tokens = self.prefix.fork(), self.base.tokenizer.encode_input(text, self.suffix)
        if not tokens:
            raise OptionError("an input is empty, and so is the template after it")
        self._check_room(self.prefix.offset + len(tokens))
        self._attach()
        return prefill(self.base.model, tokens, kv), kv

    def step(self, token: int, kv: KV) -> mx.array:
        """Evaluate one more token: the logits (1, V) after it."""
        self._attach()
        return self.base.model.logits(self.base.model.hidden(mx.array([[token]]), kv)[:, -1])

    def output(self, text: str, limit: int) -> str:
        """Return what it says greedily, of its own."""
        logits, kv = self.start(text)
        tokens: list[int] = []
        while len(tokens) < limit and (token := _best_token(logits)) not in self.base.eos:
            tokens.append(token)
            logits = self.step(token, kv)
        return self.base.tokenizer.decode(tokens).strip()

    def _attach(self) -> None:
        lora.attach(self.base.groups, self.pairs)

    def _check_room(self, num_tokens: int) -> None:
        if num_tokens >= self.base.window:
            raise InputTooLong(
                f"a prompt of {num_tokens} tokens leaves no room in the window of "
                f"{self.base.window}"
            )


@contextmanager
def _both_on(base: Base, a: Artifact, b: Artifact) -> Iterator[tuple[_Side, _Side]]:
    """Put both artifacts on one base, which is bare again afterwards."""
    try:
        yield _Side(base, a, _template_of(a, b)), _Side(base, b, _template_of(b, a))
    finally:
        lora.attach(base.groups, {})


def _template_of(own: Artifact, other: Artifact) -> Template:
    """Return the template of one artifact, or of the other, or one that is nothing."""
    program = own.program or other.program
    return program.template if program else Template("", "")


def _run_in_step(one: _Side, other: _Side, text: str, max_tokens: int) -> Run:
    """Run both on one input, in step along the first one's tokens."""
    base = one.base
    (first, kv_1), (second, kv_2) = one.start(text), other.start(text)
    limit = min(max_tokens, base.window - max(kv_1.offset, kv_2.offset))
    off = at_prompt = _difference(first, second)
    tokens: list[int] = []
    parted = gap = None
    while True:
        token = _best_token(first)
        if parted is None and _best_token(second) != token:
            two = mx.topk(first[0].astype(mx.float32), 2)
            parted, gap = len(tokens), float(mx.abs(two[0] - two[1]))
        if token in base.eos:
            break
        tokens.append(token)
        if len(tokens) == limit:
            break
        first, second = one.step(token, kv_1), other.step(token, kv_2)
        off = max(off, _difference(first, second))
    said = base.tokenizer.decode(tokens).strip()
    outputs = said, said if parted is None else other.output(text, limit)
    return Run(text, outputs, len(tokens), at_prompt, off, parted, gap)


def _best_token(logits: mx.array) -> int:
    return int(mx.argmax(logits, axis=-1)[0])


def _difference(first: mx.array, second: mx.array) -> float:
    return float(mx.abs(first.astype(mx.float32) - second.astype(mx.float32)).max())
