"""Rows in, outcomes out: a program on every row of files, tables or a pipe. Nothing here prints.

opening   from what a user names to a source; inputs: the files of folders and patterns
source    lines of bytes from a file or a pipe, and what is too long to hold; several: files as one
packing   gzip and zstd; suffixes: what a file's name tells; magic: what its first bytes do
pipes     reads and writes that wait, where a pipe or a terminal was made non-blocking
formats   lines, jsonl, csv, parquet, sqlite by name; each has its reader and its writer
flow      many inputs through one program, a bounded number of calls in flight
sink      where rows go: a stream, or (part) a file or a table, by way of one that survives a kill
run       all of it for rows (`map_rows`); checks: before the first; filter: for lines with a label
ray       the same on the machines of a Ray cluster; above the interpreter, not imported from here
"""
