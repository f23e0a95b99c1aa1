"""The daemon's client: programs run by another process.

protocol    what both sides say to each other
places      where the socket lies, and whom it may belong to
wire        a connection, blocking: all that `paw-mlx run` needs (no numpy, no click)
stamps      what tells a file's bytes from those it had before
contents    a program's bytes, for a daemon that lacks them
link        a connection for any number of threads
runner      the daemon as a `Runner`
connection  `connect`, and functions on it
"""
