"""The interpreter that programs are written for: all of it but its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import prompts
from ..formats.fingerprint import base_fingerprint
from ..interpreter.base.read import read_source
from ..interpreter.base.tokenizer import Tokenizer
from ..profiles import Profile
from .pseudo import Room

_RESERVE = 256  # tokens of the interpreter's window that a pseudo-program leaves free


@dataclass(frozen=True)
class Target:
    """The interpreter that programs are written for: all of it but its weights."""

    path: Path
    profile: Profile
    tokenizer: Tokenizer
    window: int
    fingerprint: str

    @classmethod
    def read(cls, path: Path) -> Target:
        """Read a base's folder or GGUF file."""
        source = read_source(path)
        profile = Profile.from_config(source.config)
        window = min(profile.window, source.context)
        return cls(path, profile, source.tokenizer, window, base_fingerprint(path))

    @property
    def room(self) -> Room:
        """How long a pseudo-program may be, its template around it."""
        return Room(self._count, self.window - _RESERVE)

    def _count(self, pseudo_program: str) -> int:
        template = prompts.template(pseudo_program, self.profile.turn)
        return len(self.tokenizer.encode(template.render(""), control=True))
