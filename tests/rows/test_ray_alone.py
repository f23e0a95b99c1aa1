"""A Ray that is started for one command, as the network sees it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
LOCAL = "127.0.0.1"
STARTED = """
import json, socket, sys
from paw_mlx.rows.ray.cluster import connect, library

assert connect(None)
ray = library()
there = ray.get_runtime_context().gcs_address
ports = [int(there.rpartition(":")[2]), *(node["NodeManagerPort"] for node in ray.nodes())]

def answers(host, port):
    try:
        socket.create_connection((host, port), timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True

found = {host: [answers(host, port) for port in ports] for host in sys.argv[1:]}
work = ray.remote(num_cpus=0)(lambda: "done")
print(json.dumps([there, found, ray.get(work.remote(), timeout=100)]))
ray.shutdown()
"""


def own_address() -> str:
    """The address by which others know this machine, if it has one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            return LOCAL
        return str(asked.getsockname()[0])


@pytest.mark.slow
def test_a_ray_of_this_machine_alone_is_there_for_nobody_else(tmp_path: Path) -> None:
    own = own_address()
    done = subprocess.run(
        [sys.executable, "-c", STARTED, LOCAL, own],
        env={**os.environ, "HOME": str(tmp_path)},  # where Ray keeps its token
        capture_output=True,
        timeout=300,
        check=True,
    )
    there, found, said = json.loads(done.stdout)
    assert (there.rpartition(":")[0], said) == (LOCAL, "done")
    assert found.pop(LOCAL) == [True, True]
    assert found in ({}, {own: [False, False]})
