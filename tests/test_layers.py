"""The floors of the house: who may import whom, who reads the environment, who prints.

Imports are read from the source, those inside functions too. What stands under
`if TYPE_CHECKING:` costs nothing when the program runs: floors let it be, circles do not.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A unit may import units of its own floor and of those below. `paw_mlx` is its __init__.
FLOORS = (
    {"errors", "version", "words", "settings", "files", "locks", "progress", "blas", "deadline"},
    {
        "adapter",
        "annotations",
        "families",
        "json_types",
        "lint",
        "output",
        "profiles",
        "program",
        "program_names",
        "prompts",
        "runner",
        "runtimes",
        "spec_output",
    },
    {
        "cases",
        "corpus",
        "formats",
        "hub",
        "jobs",
        "kept_cases",
        "mac",
        "rows",
        "service",
        "store",
        "streams",
        "wheels",
    },
    {"functions", "device"},
    {"machine", "evaluation", "calibration", "client"},
    {"interpreter"},
    {"convert", "rows.ray"},
    {"compiler"},
    {"teaching", "training"},
    {"benchmarks", "serving"},
    {"cli", "paw_mlx", "__main__", "quick"},
)
# A unit within another one, which stands above it.
INNER = ("rows.ray",)
FLOOR = {unit: number for number, units in enumerate(FLOORS) for unit in units}

# Formats turn bytes into programs: where the bytes come from is not their business.
APART = {("formats", unit) for unit in ("hub", "service", "store", "wheels")}

# The same within the interpreter; its modules beside these stand above all of them.
INTERPRETER = ("base", "adapters", "models", "engine")

# The standard library is everyone's. Of the rest, a module may import what is named here
# with the start of its path; what is not named, nobody imports.
THIRD_PARTY = {
    "click": ("cli/", "benchmarks/"),
    "gguf": ("formats/gguf",),
    "huggingface_hub": ("hub/client.py",),
    "llama_cpp": ("benchmarks/speed/llamacpp.py",),
    "llguidance": ("interpreter/engine/grammar.py",),
    "matplotlib": ("benchmarks/report/plots.py", "cli/reliability.py"),
    "lazy_loader": ("__init__.py",),
    "mlx": (
        "device.py",
        "machine/",
        "interpreter/",
        "teaching/",
        "training/",
        "convert/",
        "compiler/",
        "benchmarks/",
    ),
    "mlx_lm": ("compiler/", "benchmarks/"),
    "mcp": ("serving/mcp/",),
    "numpy": (
        "adapter.py",
        "calibration/",
        "formats/",
        "interpreter/",
        "rows/ray/",
        "training/",
        "compiler/",
        "convert/",
        "benchmarks/",
    ),
    "pyarrow": ("benchmarks/accuracy/tasks.py", "rows/"),
    "ray": ("rows/ray/",),
    "safetensors": ("formats/", "interpreter/", "convert/"),
    "starlette": ("serving/http/",),
    "tokenizers": ("interpreter/", "compiler/"),
    "uvicorn": ("serving/http/",),
}
# Where mlx may be imported: such a package begins by loading a BLAS.
MLX_UNITS = {
    "interpreter": "paw_mlx/interpreter",
    "teaching": "paw_mlx/teaching",
    "training": "paw_mlx/training",
    "convert": "convert",
    "compiler": "paw_mlx/compiler",
    "benchmarks": "benchmarks",
}
PRINTING = ("cli", "benchmarks", "quick", "streams")


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module as (its path inside the installed paw_mlx, its file)."""
    for file in sorted((root / "paw_mlx").rglob("*.py")):
        yield file.relative_to(root / "paw_mlx").as_posix(), file
    for folder in ("convert", "benchmarks"):
        for file in sorted((root / folder).rglob("*.py")):
            yield file.relative_to(root).as_posix(), file


def unit_of(path: str) -> str:
    """The unit that a module belongs to: a folder, or a module of the top."""
    first, *rest = path.removesuffix(".py").split("/")
    if inner := named_within(first, rest):
        return inner
    return "paw_mlx" if first == "__init__" else first


def named_within(first: str, rest: list[str]) -> str | None:
    """The unit within another one that a path or a dotted name leads to."""
    inner = f"{first}.{rest[0]}" if rest else ""
    return inner if inner in INNER else None


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: `if TYPE_CHECKING:` is skipped, its `else` is not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for branch in node.orelse:
                yield branch
                yield from nodes(branch)
            continue
        yield node
        yield from nodes(node)


def imported(node: ast.AST, path: str) -> Iterator[str]:
    """The full dotted names that a statement imports; none if it imports nothing."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        package = ["paw_mlx", *path.split("/")[:-1]]
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        yield from (f"{module}.{alias.name}" for alias in node.names)


def import_problems(name: str, path: str) -> Iterator[str]:
    """What is wrong with this module's importing that name."""
    top, *rest = name.split(".")
    unit = unit_of(path)
    if top == "paw_mlx":
        other = rest[0] if rest and rest[0] in FLOOR else "paw_mlx"
        other = named_within(other, rest[1:]) or other
        if FLOOR[other] > FLOOR[unit]:
            yield f"imports {other}, which stands on floor {FLOOR[other]}, above {FLOOR[unit]}"
        if (unit, other) in APART:
            yield f"imports {other}, and {unit} does not know it"
    elif top not in sys.stdlib_module_names and not path.startswith(THIRD_PARTY.get(top, ())):
        yield f"imports {top}"


def room_of(path: str) -> int:
    """The floor of a module of the interpreter within it."""
    folder = path.split("/")[1]
    return INTERPRETER.index(folder) if folder in INTERPRETER else len(INTERPRETER)


def interpreter_problems(name: str, path: str) -> Iterator[str]:
    """What is wrong with a module of the interpreter importing that name."""
    parts = name.split(".")
    if unit_of(path) == "interpreter" and parts[:2] == ["paw_mlx", "interpreter"]:
        floor = room_of("/".join([*parts[1:], ""]))
        if floor > room_of(path):
            yield f"imports {name}, which stands above it in the interpreter"


def conduct_problems(node: ast.AST, path: str) -> Iterator[str]:
    """What is wrong with a statement besides imports: the environment, printing."""
    text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
    if text in ("os.environ", "os.environb", "os.getenv", "os.putenv") and path != "settings.py":
        yield f"reads {text}"
    if isinstance(node, ast.ImportFrom) and node.module == "os" and path != "settings.py":
        yield from (f"reads os.{a.name}" for a in node.names if a.name in ("environ", "getenv"))
    if text in ("print", "sys.stdout", "sys.stderr") and unit_of(path) not in PRINTING:
        yield f"prints, by {text}"


def problems(root: Path) -> list[str]:
    """All that breaks the rules in a tree, one sentence each."""
    found = []
    for path, file in sources(root):
        if unit_of(path) not in FLOOR:
            found.append(f"{path} stands on no floor")
            continue
        for node in nodes(ast.parse(file.read_text())):
            faults = [p for name in imported(node, path) for p in import_problems(name, path)]
            faults += [p for name in imported(node, path) for p in interpreter_problems(name, path)]
            faults += conduct_problems(node, path)
            found += [f"{path}:{getattr(node, 'lineno', 0)} {fault}" for fault in faults]
    return found + [
        f"{unit} does not begin with importing device, and imports mlx"
        for unit, package in MLX_UNITS.items()
        if imports_mlx(root, unit) and not begins_with_blas(root / package)
    ]


def module_of(path: str) -> str:
    """The dotted name of a module: a package's is that of its `__init__`."""
    return ".".join(["paw_mlx", *path.removesuffix(".py").split("/")]).removesuffix(".__init__")


def circle(root: Path) -> list[str]:
    """Modules that import each other in a circle, wherever the imports stand; [] if none do."""
    trees = {module_of(path): (path, ast.parse(file.read_text())) for path, file in sources(root)}
    graph: dict[str, set[str]] = {}
    for module, (path, tree) in trees.items():
        names = {name for node in ast.walk(tree) for name in imported(node, path)}
        found = {name if name in trees else name.rpartition(".")[0] for name in names}
        graph[module] = found & trees.keys() - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def imports_mlx(root: Path, unit: str) -> bool:
    """Whether any module of a unit imports mlx or mlx_lm."""
    return any(
        name.startswith("mlx")
        for path, file in sources(root)
        if unit_of(path) == unit
        for node in nodes(ast.parse(file.read_text()))
        for name in imported(node, path)
    )


def begins_with_blas(package: Path) -> bool:
    """Whether the first thing that a package does is to load the BLAS, which device does."""
    body = ast.parse((package / "__init__.py").read_text()).body
    acts = [ast.unparse(s) for s in body if not ast.unparse(s).startswith(("'", '"'))]
    acts = [act for act in acts if not act.startswith("from __future__")]
    return bool(acts) and acts[0] in (
        "from .. import device",
        "from paw_mlx import device",
    )


def test_every_module_keeps_to_its_floor() -> None:
    found = problems(ROOT)
    assert not found, "\n".join(found)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(ROOT) == []


@pytest.mark.parametrize(
    "back",
    [
        "from .two import b",
        "def f():\n  from . import two",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  from .two import b",
    ],
)
def test_a_circle_is_found_wherever_its_imports_stand(tmp_path: Path, back: str) -> None:
    package = tmp_path / "paw_mlx" / "interpreter"
    package.mkdir(parents=True)
    (package / "one.py").write_text(back)
    (package / "two.py").write_text("import os\nfrom paw_mlx.interpreter import one")
    assert set(circle(tmp_path)) == {"paw_mlx.interpreter.one", "paw_mlx.interpreter.two"}


@pytest.mark.parametrize(
    ("path", "source", "problem"),
    [
        ("paw_mlx/errors.py", "from .adapter import Site", "errors.py:1 imports adapter, which"),
        ("paw_mlx/files.py", "import numpy", "files.py:1 imports numpy"),
        ("paw_mlx/adapter.py", "from .formats import gguf", "adapter.py:1 imports formats, which"),
        ("paw_mlx/program.py", "from . import function", "program.py:1 imports paw_mlx, which"),
        ("paw_mlx/formats/mlx.py", "import mlx.core as mx", "formats/mlx.py:1 imports mlx"),
        ("paw_mlx/formats/peft.py", "import gguf", "formats/peft.py:1 imports gguf"),
        ("paw_mlx/formats/peft.py", "from .. import hub", "formats does not know it"),
        ("paw_mlx/store.py", "from huggingface_hub import x", "store.py:1 imports huggingface_hub"),
        ("paw_mlx/interpreter/models/llama.py", "from ...cli import cli", "imports cli, which"),
        ("paw_mlx/interpreter/models/llama.py", "from ..engine import kv", "which stands above"),
        ("paw_mlx/interpreter/base/write.py", "from ..models import make_model", "stands above"),
        ("paw_mlx/interpreter/engine/batch.py", "from ..shared import x", "stands above"),
        (
            "paw_mlx/interpreter/decode.py",
            "def f():\n  import mlx_lm",
            ":2 imports mlx_lm",
        ),
        ("paw_mlx/rows/run.py", "def f():\n  from . import ray", "run.py:2 imports rows.ray,"),
        ("paw_mlx/rows/run.py", "from .ray.actor import x", "run.py:1 imports rows.ray, which"),
        ("paw_mlx/output.py", "def f():\n  import llguidance", "output.py:2 imports llguidance"),
        ("paw_mlx/training/loop.py", "import torch", "training/loop.py:1 imports torch"),
        (
            "convert/torch.py",
            "from paw_mlx.cli import main",
            "imports cli, which stands on",
        ),
        ("paw_mlx/hub.py", "import os\nos.environ['A']", "hub.py:2 reads os.environ"),
        ("paw_mlx/hub.py", "from os import getenv", "hub.py:1 reads os.getenv"),
        ("paw_mlx/store.py", "print('done')", "store.py:1 prints, by print"),
        (
            "paw_mlx/store.py",
            "import sys\nsys.stderr.write('')",
            "store.py:2 prints",
        ),
        ("paw_mlx/store.py", "import click\nclick.echo('')", "store.py:1 imports click"),
        ("paw_mlx/models.py", "", "models.py stands on no floor"),
        (
            "paw_mlx/compiler/encoder.py",
            "import mlx.nn",
            "compiler does not begin with",
        ),
    ],
)
def test_what_breaks_a_floor_is_found(tmp_path: Path, path: str, source: str, problem: str) -> None:
    for folder in ("interpreter", "compiler"):
        (tmp_path / "paw_mlx" / folder).mkdir(parents=True)
        (tmp_path / "paw_mlx" / folder / "__init__.py").write_text('"""Empty."""')
    planted = tmp_path / path
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(source)
    assert [sentence for sentence in problems(tmp_path) if problem in sentence]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("paw_mlx/adapter.py", "if TYPE_CHECKING:\n  import mlx.core\nelse:\n  import numpy"),
        ("paw_mlx/formats/gguf_write.py", "import gguf\nimport numpy as np\nfrom .. import files"),
        ("paw_mlx/interpreter/__init__.py", "from .. import device\nimport mlx.core"),
        ("paw_mlx/cli/run.py", "import click\nfrom .. import interpreter\nprint(1)"),
        ("benchmarks/quality.py", "from paw_mlx.formats import load\nprint(1)"),
        ("paw_mlx/settings.py", "import os\nos.environ.get('PAW_MLX_HOME')"),
    ],
)
def test_what_keeps_to_its_floor_is_let_be(tmp_path: Path, path: str, source: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    assert problems(tmp_path) == []


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


HEAVY = {"mlx", "mlx_lm", "transformers", "tokenizers", "huggingface_hub", "numpy", "gguf"}
HEAVY |= {"llguidance"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    done = python("-X", "importtime", "-c", "import paw_mlx; print('function' in dir(paw_mlx))")
    modules = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "paw_mlx" in modules
    assert {name.split(".")[0] for name in modules} & HEAVY == set()
    assert done.stdout == "True\n"


def test_help_imports_no_model_code() -> None:
    done = python(
        "-c",
        "import sys; from paw_mlx.__main__ import main; sys.argv = ['paw-mlx', '--help']\n"
        "try:\n  main()\nexcept SystemExit as end:\n"
        f"  print({{name.split('.')[0] for name in sys.modules}} & {HEAVY}, end.code)",
    )
    assert done.stdout.splitlines()[-1] == "set() 0"
    assert "Run a program on one input." in done.stdout
