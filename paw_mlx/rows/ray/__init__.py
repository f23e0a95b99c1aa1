"""Rows on the machines of a Ray cluster.

cluster   the library, and a connection
places    which worker goes to which node, with what of it
programs  a program's bytes, in the cluster's store
actor     what runs there: a worker with one base in its memory, and programs by their keys
dispatch  the calls: each to the least busy worker, again if that one dies
faults    what may be wrong with them
runner    all of that as a `Runner`, and functions on it
dataset   a program on every row of a Ray Dataset

Programs travel as the bytes of a `.paw`, answers and errors by their records: no pickles of ours.
Ray is imported when a cluster is asked for, MLX by the workers alone.
"""

from .dataset import map_batches
from .runner import open_function

__all__ = ["map_batches", "open_function"]
