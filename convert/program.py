"""Any LoRA in, any layout out, and the proof that it is the same one.

Every reader ends in an `Adapter` and every writer begins with one. What was written is read
back and compared, site by site, before it takes its place: what fails never appears, and what
lay there stays.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paw_mlx import formats, hub, kept_cases, prompts
from paw_mlx.adapter import Adapter
from paw_mlx.cases import KEY, without_cases
from paw_mlx.convert import torch_adapter
from paw_mlx.convert.compare import compare
from paw_mlx.convert.receipt import Receipt, ReceiptError
from paw_mlx.errors import FormatError, OptionError, listed
from paw_mlx.files import replacing
from paw_mlx.formats.untrusted import MAX_TEXT_BYTES, json_object, read_bytes
from paw_mlx.profiles import PROFILES, Profile, find_fitting, find_profile
from paw_mlx.program import Program, Template
from paw_mlx.progress import Progress, quiet

LAYOUTS = {"paw": "paw", "dir": "directory", "peft": "peft", "gguf": "gguf", "mlx": "mlx"}
_PROGRAMS = ("paw", "directory", "paw-v2")  # what holds a prompt besides the adapter
_SUFFIXES = {".paw": "paw", ".gguf": "gguf"}


@dataclass(frozen=True)
class Artifact:
    """What a file or folder holds: an adapter, the base it names, and maybe a program."""

    layout: str
    adapter: Adapter
    interpreter: str
    program: Program | None = None


@dataclass(frozen=True)
class Converted:
    """What a conversion read and wrote, and the proof that both are one."""

    source: Path
    out: Path
    layouts: tuple[str, str]
    num_bytes: int
    receipt: Receipt
    seconds: float
    num_cases: int = 0  # that the program in `out` carries

    def record(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        before, after = self.layouts
        return {
            "source": {"path": str(self.source), "layout": before},
            "out": {"path": str(self.out), "layout": after, "bytes": self.num_bytes},
            "num_cases": self.num_cases,
            "receipt": self.receipt.record(),
            "seconds": self.seconds,
        }


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: str | None = None,
    dtype: str | None = None,
    interpreter: str | None = None,
    template: str | None = None,
    spec: str | None = None,
    pseudo_program: str | None = None,
    rank: int | None = None,
    alpha: float | None = None,
    rslora: bool = False,
    with_cases: bool = True,
    offline: bool = False,
    progress: Progress = quiet,
) -> Converted:
    """Convert an adapter or program to another layout, and prove it.

    `source` is a path, a name in the store, or a hub repo. `to` is paw, dir, peft, gguf or mlx;
    without it, `out`'s suffix tells (.paw, .gguf). `dtype` None keeps what the layout can hold.
    `interpreter` names the base where the source does not. An adapter becomes a program by a
    `template`, or by a `pseudo_program` (and the `spec` it came from). `rank` and `alpha` are
    those of a torch checkpoint without a config, and `rslora` says that its scale is
    alpha / sqrt(rank). All are texts, not paths. A stored program takes the cases kept with its
    name along, in its meta.json, and another its own, unless they shall stay behind (`with_cases`).

    Raises NotFound, FormatError, AdapterMismatch, OptionError, HubError or DiskError; whatever
    is raised, `out` is as it was.
    """
    start = time.perf_counter()
    out = Path(out)
    layout = _choose_layout(to, out)
    path = hub.resolve_adapter(str(source), offline=offline, progress=progress)
    _check_out(path, out, layout)
    if (rank is not None or alpha is not None or rslora) and not torch_adapter.is_torch(path):
        formats.sniff(path)  # what is there may be nothing at all
        raise OptionError(
            "rank, alpha and rslora are for torch checkpoints: this layout says its own"
        )
    profile = _find_profile(interpreter, offline, progress) if interpreter else None
    found = read_any(path, profile, rank=rank, alpha=alpha, rslora=rslora)
    profile = profile or _profile_of_source(path, found, progress)
    program = None
    if layout in _PROGRAMS:
        program = _make_program(found, profile, template, spec, pseudo_program)
        program = kept_cases.export(program, path) if with_cases else without_cases(program)
    elif template or spec or pseudo_program:
        raise OptionError(f"{layout} holds an adapter alone, and no prompt")
    elif found.program:
        progress(f"the prompt of {path} stays behind: {layout} holds an adapter alone")
    with replacing(out) as temporary:
        if program:
            formats.save(program, temporary, dtype, layout=layout, profile=profile)
        else:
            formats.save_adapter(found.adapter, temporary, layout, profile, dtype)
        receipt = _prove(found.adapter, temporary, profile, out)
        num_bytes = sum(p.stat().st_size for p in [temporary, *temporary.rglob("*")] if p.is_file())
    seconds = time.perf_counter() - start
    carried = program.meta.get(KEY) if program else None
    num_cases = len(carried) if isinstance(carried, list) else 0
    return Converted(path, out, (found.layout, layout), num_bytes, receipt, seconds, num_cases)


def read_any(
    path: Path,
    profile: Profile | None = None,
    *,
    rank: int | None = None,
    alpha: float | None = None,
    rslora: bool = False,
) -> Artifact:
    """Read an adapter or program in any layout, torch's included.

    `rank`, `alpha` and `rslora` are for torch checkpoints, which do not say them; the others say
    their own. NotFound, FormatError, OptionError, or AdapterMismatch if it does not fit `profile`.
    """
    if torch_adapter.is_torch(path):
        found = torch_adapter.read(path, profile, rank=rank, alpha=alpha, rslora=rslora)
        return Artifact("torch", found.adapter, found.interpreter)
    layout = formats.sniff(path)
    if layout in _PROGRAMS:
        program = formats.load(path, profile)
        if program.adapter is None:
            raise FormatError(f"{path} is a prompt alone: it has no adapter")
        return Artifact(layout, program.adapter, program.interpreter, program)
    read = formats.read_adapter(path, profile)
    return Artifact(layout, read.adapter, read.interpreter)


def _prove(read: Adapter, written: Path, profile: Profile, out: Path) -> Receipt:
    """Read back what was written, and return the receipt; ReceiptError for another adapter."""
    receipt = compare(read, formats.load_adapter(written, profile))
    if receipt.ok:
        return receipt
    raise ReceiptError(
        f"what was written to {out} is not what was read: {listed(receipt.problems)}", receipt
    )


def _profile_of_source(source: Path, found: Artifact, progress: Progress) -> Profile:
    """Find the profile of the base that the source itself names.

    Of a base that is not known by its name, the sizes are those of a known one where the adapter
    fits it up to the last layer; its name stays, for its weights are its own.
    """
    base, fitting = found.interpreter, find_fitting(found.adapter)
    if profile := find_profile(base):
        return _named(profile, base)
    if base and fitting and found.adapter.layers[-1] == fitting.num_layers - 1:
        progress(f"{base} is not known by its name; the adapter's sizes are {fitting.name}'s")
        return replace(fitting, name=base, repos=(base,), compiler="")
    likely = f"{fitting.name}, whose sizes fit; or " if fitting else ""
    raise OptionError(
        f"{source} does not name a base that is known: {base or 'it names none'}",
        hint=f"Name it with --interpreter: {likely}a hub repo, or a folder with its config.json.",
    )


def _choose_layout(to: str | None, out: Path) -> str:
    to = to or _SUFFIXES.get(out.suffix)
    if to in LAYOUTS:
        return LAYOUTS[to]
    fault = f"{to!r} is no layout" if to else f"the layout of {out} does not follow from its name"
    raise OptionError(fault, hint=f"Say it with --to: {', '.join(LAYOUTS)}.")


def _find_profile(reference: str, offline: bool, progress: Progress) -> Profile:
    """Find the profile of a base, under the name its user gave it; a known one needs no files."""
    if reference in PROFILES:
        return PROFILES[reference]
    profile = None if hub.local(reference) else hub.find_namesake(reference)
    if profile is None:
        path = hub.resolve_config(reference, offline=offline, progress=progress)
        if path.name == "config.json":
            config = json_object(read_bytes(path, MAX_TEXT_BYTES), path.name)
        else:
            from paw_mlx.interpreter.base.read import read_source

            config = read_source(path).config
        profile = Profile.from_config(config)
    if not hub.local(reference):
        return _named(profile, reference)
    # A folder's path means nothing elsewhere: a known base keeps its own name.
    return profile if profile.repos else replace(profile, name=reference)


def _named(profile: Profile, base: str) -> Profile:
    """Return a profile whose files name the base as it was named: a fine-tune is another base."""
    return replace(profile, repos=(base, *profile.repos))


def _check_out(source: Path, out: Path, layout: str) -> None:
    """Raise OptionError if something would be lost: the source, or what is no such adapter."""
    here, there = source.resolve(), out.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise OptionError(
            f"{out} and {source} are one, or one lies in the other", hint="Name another place."
        )
    formats.check_replaceable(out, layout)
    if out.is_file():
        try:
            formats.read_adapter(out)
        except FormatError as error:
            raise OptionError(
                f"{out} exists, and is no adapter or program: {error}", hint="Name another file."
            ) from error


def _make_program(
    found: Artifact,
    profile: Profile,
    template: str | None,
    spec: str | None,
    pseudo_program: str | None,
) -> Program:
    """Make the program to write: the one that was read, with what the caller changes."""
    if template and pseudo_program:
        raise OptionError("give a template or a pseudo-program, not both: it makes the template")
    program = found.program
    if program is None and not (template or pseudo_program):
        raise OptionError(
            f"a program needs a prompt, and {found.layout} holds an adapter alone",
            hint="Give --template FILE, or --pseudo-program FILE (and --spec FILE).",
        )
    if program is None:
        program = Program(Template("", ""), found.adapter, profile.repo)
    changes: dict[str, Any] = {"adapter": found.adapter, "interpreter": profile.repo}
    if template:
        changes |= {"template": Template.parse(template), "pseudo_program": ""}
    if pseudo_program:
        made = prompts.template(pseudo_program, profile.turn)
        changes |= {"template": made, "pseudo_program": pseudo_program}
    if spec:
        changes["spec"] = spec
    if len(changes) > 2:  # it is another program now; in another dtype it is the same
        changes["meta"] = {k: v for k, v in program.meta.items() if k != "program_id"}
    return replace(program, **changes)
