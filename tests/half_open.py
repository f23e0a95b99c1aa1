"""Many connections that say half of what they want, from a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# A process has open files of its own; this one lets go of those that the server drops.
_OPEN = """
import resource, select, socket, sys
port, number = int(sys.argv[1]), int(sys.argv[2])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
wanted = number + 100
if soft != resource.RLIM_INFINITY and soft < wanted:
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
poll, held = select.poll(), {}
def add():
    one = socket.create_connection(("127.0.0.1", port), 30)
    one.sendall(b"POST /paw/v1/run/words HTTP/1.1\\r\\nHost: loc")
    held[one.fileno()] = one
    poll.register(one, select.POLLIN | select.POLLHUP)
while len(held) < number:
    add()
print("open", flush=True)
while True:
    for descriptor, _ in poll.poll(100):
        poll.unregister(descriptor)
        held.pop(descriptor).close()
"""


@contextmanager
def half_open(port: int, number: int) -> Iterator[None]:
    """Hold so many half-open connections to a port of loopback while the block runs."""
    command = [sys.executable, "-c", _OPEN, str(port), str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"open\n", process.communicate()
            yield
        finally:
            process.kill()
            process.communicate()
