"""Evaluated prefixes on disk: the right one or none, whatever happens to the files."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tiny

from paw_mlx import OptionError, files, settings
from paw_mlx.adapter import Adapter, Matrix
from paw_mlx.interpreter.engine import prefixes
from paw_mlx.interpreter.engine.prefixes import Layer, PrefixFolder, prefix_key
from paw_mlx.interpreter.models.load import Base, load_base
from paw_mlx.program import Program

ROOT = Path(__file__).parents[2]
KEY = '{"a key": 1}'
GB = 10**9


def key_of(base: Base, program: Program) -> str:
    tokens = base.tokenizer.encode(program.template.prefix, control=True)
    return prefix_key(base, program, tokens)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prefixes"


@pytest.fixture
def cache(folder: Path) -> PrefixFolder:
    return PrefixFolder(folder, GB)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(tiny.write_base(tmp_path_factory.mktemp("base"), "qwen3"))


def layers(seed: int = 0, dtype: mx.Dtype = mx.float32, positions: int = 9) -> list[Layer]:
    """Keys and values of three layers, as views of larger buffers."""
    mx.random.seed(seed)
    made = [mx.random.normal((1, 2, 2 * positions, 8)).astype(dtype) for _ in range(6)]
    views = [array[:, :, ::2] for array in made]
    return list(zip(views[::2], views[1::2], strict=True))


def same(a: list[Layer] | None, b: list[Layer]) -> bool:
    """Whether all numbers are the same, to the bit."""
    if a is None or len(a) != len(b):
        return False
    pairs = [
        (x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    ]
    return all(x.dtype == y.dtype and bool(mx.array_equal(x, y)) for x, y in pairs)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_what_was_saved_is_loaded_to_the_bit(cache, folder, dtype):
    assert cache.load(KEY) is None
    cache.save(KEY, layers(dtype=dtype))
    assert same(PrefixFolder(folder, GB).load(KEY), layers(dtype=dtype))
    cache.save(KEY, layers(1, dtype))
    assert same(cache.load(KEY), layers(1, dtype))
    assert len(names(folder)) == 1
    assert cache.load("another key") is None


def flipped(data: bytes, at: int, bits: int = 4) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def test_every_damage_is_a_miss_and_is_removed(cache, folder):
    cache.save(KEY, layers())
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(0, header), header, header + 1, len(whole) // 2, len(whole) - 1]
    damaged = [flipped(whole, at) for at in places if whole[at : at + 1] != b" "]
    damaged += [flipped(whole, at, 0x80) for at in places]  # text that is no text
    damaged += [whole[:size] for size in (0, 1, 7, 8, 100, header, header + 1, len(whole) - 1)]
    damaged += [b"\xff" * 8 + whole, b"GGUF", os.urandom(4096)]
    for data in damaged:
        path.write_bytes(data)
        assert cache.load(KEY) is None
        assert names(folder) == []
    path.write_bytes(whole)
    assert same(cache.load(KEY), layers())


def test_a_file_under_another_name_is_not_taken_for_it(cache, folder):
    cache.save(KEY, layers())
    (one,) = folder.iterdir()
    cache.save("other", layers(1))
    (other,) = set(folder.iterdir()) - {one}
    one.replace(other)
    assert cache.load("other") is None
    assert names(folder) == []


def test_what_is_no_file_is_a_miss(cache, folder):
    cache.save(KEY, layers())
    (path,) = folder.iterdir()
    path.unlink()
    path.mkdir()
    assert cache.load(KEY) is None
    cache.save(KEY, layers())
    assert same(cache.load(KEY), layers())


def grown(program: Program, number: float) -> Program:
    """The program with one weight of its adapter changed."""
    site, lora = next(iter(program.adapter.sites.items()))
    A = lora.A.dense()
    A[-1, -1] += number
    sites = {**program.adapter.sites, site: replace(lora, A=Matrix.from_array(A))}
    return replace(program, adapter=Adapter(sites))


CHANGES: dict[str, Callable[[Program], Program]] = {
    "one weight": lambda program: grown(program, 1e-3),
    "alpha": lambda program: replace(
        program,
        adapter=Adapter({s: replace(lora, alpha=9.0) for s, lora in program.adapter.sites.items()}),
    ),
    "no adapter": lambda program: replace(program, adapter=None),
    "prefix": lambda program: replace(
        program, template=replace(program.template, prefix=program.template.prefix + " ")
    ),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_another_program_has_another_key(base, change):
    program = tiny.program("qwen3")
    key = key_of(base, program)
    assert key_of(base, replace(program, meta={"program_id": "x"})) == key
    changed = CHANGES[change](replace(program, meta={"program_id": "x"}))
    assert key_of(base, changed) != key


def test_another_base_or_form_of_it_has_another_key(base, tmp_path, monkeypatch):
    program = tiny.program("qwen3")
    folder = tiny.write_base(tmp_path / "base", "qwen3")
    keys = [key_of(load_base(folder), program)]
    assert keys == [key_of(base, program)]  # a copy elsewhere is the same base
    keys += [key_of(load_base(folder, bits=4, group_size=32), program)]
    keys += [key_of(load_base(folder, bits=8, group_size=32), program)]
    keys += [key_of(replace(base, form="float32, 4-bit g64"), program)]
    keys += [key_of(replace(base, form="bfloat16"), program)]
    (folder / "config.json").write_text(tiny.changed("qwen3", rope_theta=5000.0))
    keys += [key_of(load_base(folder), program)]
    keys += [key_of(load_base(tiny.write_base(folder, "qwen3", seed=1)), program)]
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    keys += [key_of(load_base(folder), replace(program))]
    monkeypatch.setattr(prefixes, "_version", lambda package: "9.9.9")
    keys += [key_of(base, program)]
    assert len(set(keys)) == len(keys)


def test_a_conversion_is_not_taken_for_the_base_it_was_made_from(base, tmp_path):
    """Quantized beforehand and decoded on load, it has the same form and the same source."""
    from paw_mlx.interpreter.base.read import read_source
    from paw_mlx.interpreter.base.write import write_base
    from paw_mlx.interpreter.models import make_model

    kept = tmp_path / "kept"
    kept.mkdir()
    source = read_source(base.path)
    write_base(source, make_model(source.config), kept, 4, 32)
    converted = load_base(kept)
    assert converted.form == base.form == "float32"
    program = tiny.program("qwen3")
    assert key_of(converted, program) != key_of(base, program)


def test_a_base_whose_files_are_gone_keeps_nothing(cache, folder, tmp_path):
    made = tiny.write_base(tmp_path / "base", "qwen3")
    base = load_base(made)
    for path in made.iterdir():
        path.unlink()
    key = key_of(base, tiny.program("qwen3"))
    cache.save(key, layers())
    assert cache.load(key) is None
    assert not folder.exists()


def test_the_least_recently_used_goes_when_the_room_is_full(folder):
    cache = PrefixFolder(folder, GB)
    for seed in range(4):
        cache.save(str(seed), layers(seed))
    (size,) = {path.stat().st_size for path in folder.iterdir()}
    for age, seed in enumerate((3, 2, 1, 0)):
        past = 1e9 - age
        os.utime(cache._path(str(seed)), (past, past))
    assert same(cache.load("0"), layers(0))  # now the newest
    PrefixFolder(folder, 3 * size).save("4", layers(4))
    assert [seed for seed in range(5) if cache.load(str(seed))] == [0, 3, 4]


def test_what_is_larger_than_the_room_is_not_written(folder):
    PrefixFolder(folder, GB).save("small", layers(positions=2))
    PrefixFolder(folder, 4000).save("large", layers(positions=500))
    assert PrefixFolder(folder, GB).load("small")
    assert len(names(folder)) == 1


def test_no_room_at_all_turns_it_off(cache, folder):
    off = PrefixFolder(folder, 0)
    off.save(KEY, layers())
    assert not folder.exists()
    cache.save(KEY, layers())
    assert off.load(KEY) is None
    assert cache.load(KEY)


def test_the_room_is_a_setting(monkeypatch):
    assert settings.prefix_bytes() == GB
    monkeypatch.setenv("PAW_MLX_PREFIX_BYTES", "0")
    assert settings.prefix_bytes() == 0
    for wrong in ("much", "-1", "1e9", "²"):
        monkeypatch.setenv("PAW_MLX_PREFIX_BYTES", wrong)
        with pytest.raises(OptionError, match="PAW_MLX_PREFIX_BYTES is"):
            settings.prefix_bytes()


@pytest.mark.parametrize("where", ["mkdtemp", "replace", "fsync", "scandir", "save"])
def test_a_full_disk_is_no_error(cache, folder, monkeypatch, where):
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache.save("before", layers())
    homes = {"mkdtemp": files.tempfile, "replace": Path, "save": mx}
    home = homes.get(where, os)
    with monkeypatch.context() as patched:
        patched.setattr(home, {"save": "save_safetensors"}.get(where, where), refuse)
        cache.save(KEY, layers(1))
    assert same(cache.load("before"), layers())
    assert cache.load(KEY) is None or where == "scandir"
    assert [name for name in names(folder) if name.startswith(".")] == []


START = """
import os, sys, random, signal, threading
sys.path[:0] = [sys.argv[1] + "/interpreter", sys.argv[1]]
from pathlib import Path
import paw_mlx.interpreter
from test_prefixes import layers, same, flipped
from paw_mlx.interpreter.engine.prefixes import PrefixFolder
folder = Path(sys.argv[2])
"""


def start(code: str, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    words = [str(ROOT / "tests"), str(folder), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.Popen(
        [sys.executable, "-c", START + code, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


LIMITED = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
PrefixFolder(folder, 10**9).save("large", layers(positions=50))
print("alive", PrefixFolder(folder, 10**9).load("large"), os.listdir(folder))
"""


def test_a_disk_that_is_full_in_the_middle_of_a_file_is_no_error(folder):
    process = start(LIMITED, folder)
    said, errors = process.communicate()
    assert (process.returncode, said.strip()) == (0, "alive None []"), errors


KILLED = """
import mlx.core as mx
from paw_mlx import files
save = mx.save_safetensors
def killed(path, *rest):
    save(path, *rest)
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
mx.save_safetensors = killed
PrefixFolder(folder, 10**9).save("key", layers())
"""


def test_a_killed_process_leaves_no_half_file_and_is_swept_up_after(folder):
    process = start(KILLED, folder)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    cache = PrefixFolder(folder, GB)
    assert cache.load("key") is None
    (left,) = folder.iterdir()
    assert left.is_dir()
    cache.save("key", layers())
    assert not left.exists()
    assert same(cache.load("key"), layers())


def test_what_is_written_elsewhere_is_swept_when_it_is_old(cache, folder):
    """A process of another machine, or on a disk without locks, might be at work on it."""
    cache.save("one", layers())
    left = folder / ".two.safetensors.paw-abcdefgh"
    left.mkdir()
    cache.save("other", layers())
    assert left.exists()
    os.utime(left, (1e9, 1e9))
    cache.save("key", layers())
    assert not left.exists()


MANY = """
chance = random.Random(int(sys.argv[3]))
cache = PrefixFolder(folder, int(sys.argv[4]))
known = {str(seed): layers(seed) for seed in range(6)}
hits = misses = 0
for _ in range(150):
    key = chance.choice(list(known))
    if chance.random() < 0.4:
        cache.save(key, known[key])
    elif chance.random() < 0.1 and (path := cache._path(key)).exists():
        # Another process's file, renamed into place; from elsewhere, for here it would be swept.
        damaged = folder.parent / f"{os.getpid()}.tmp"
        damaged.write_bytes(flipped(os.urandom(3000), 9))
        damaged.replace(path)
    elif (found := cache.load(key)) is None:
        misses += 1
    else:
        assert same(found, known[key])
        hits += 1
print(hits, misses)
"""


@pytest.mark.slow
def test_several_processes_save_prune_and_load_at_once(folder):
    cache = PrefixFolder(folder, GB)
    cache.save("0", layers())
    size = next(folder.iterdir()).stat().st_size
    processes = [start(MANY, folder, seed, 3 * size) for seed in range(4)]
    done = [(process.communicate(), process.returncode) for process in processes]
    assert [code for _, code in done] == [0] * 4, done
    counts = [tuple(map(int, said.split())) for (said, _), _ in done]
    assert all(hits > 5 and misses > 5 for hits, misses in counts)
    cache = PrefixFolder(folder, 3 * size)
    cache.save("0", layers())
    assert same(cache.load("0"), layers())
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3 * size


def test_a_saved_prefix_goes_on_as_the_evaluated_one(base, cache):
    """What a second process computes from the file is what the first one computes."""
    from paw_mlx.interpreter.engine.decode import prefill
    from paw_mlx.interpreter.engine.kv import KV

    program = tiny.program("qwen3", None, prefix="Task: triage. " * 5)
    tokens = base.tokenizer.encode(program.template.prefix, control=True)
    warm = KV(base.model.num_layers)
    prefill(base.model, tokens, warm)
    key = key_of(base, program)
    cache.save(key, [(k[:, :, : len(tokens)], v[:, :, : len(tokens)]) for k, v in warm.layers])
    read = KV.of(cache.load(key))
    assert read.offset == len(tokens)
    expected, found = (
        np.array(base.model.logits(base.model.hidden(mx.array([[5, 6, 7]]), kv)))
        for kv in (warm, read)
    )
    assert (expected == found).all()


class Idle:
    """A bank whose programs need no room."""

    always_hot = False

    def use(self, programs: object) -> None:
        pass


def test_what_was_evaluated_is_written_once_and_the_oldest_leaves_memory(base, cache, folder):
    programs = [tiny.program("qwen3") for _ in range(2)]
    tokens = [base.end] * 40
    room = prefixes.Prefixes(base, Idle(), cache, lambda: GB)
    for program in programs:
        room.get(program, tokens)
    assert (len(room), folder.exists() and names(folder)) in ((2, False), (2, []))
    room.keep()
    (path,) = folder.iterdir()
    second = prefixes.Prefixes(base, Idle(), PrefixFolder(folder, GB), lambda: GB)
    second.get(programs[0], tokens)  # as it was read, it need not be written
    os.utime(path, (1e9, 1e9))
    for again in (room, second):
        again.keep()
        assert path.stat().st_mtime == 1e9
    small = prefixes.Prefixes(base, Idle(), cache, lambda: 1)
    for program in programs:
        small.get(program, tokens)
    assert len(small) == 1
