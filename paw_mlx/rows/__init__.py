"""Rows in, outcomes out: a program on every row of a file or a pipe. Nothing here prints.

source    lines of bytes from a file or a pipe, and what is too long to hold
pipes     reads and writes that wait, where a pipe or a terminal was made non-blocking
formats   lines, jsonl and csv by name and suffix; each has its reader and its writer
flow      many inputs through one program, a bounded number of calls in flight
sink      where rows go: a stream, or (part) a file that survives a kill
run       all of it for rows (`map_rows`); filter: for lines with a label
"""
