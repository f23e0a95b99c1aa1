"""Functions in macOS: files that are generated for a host, installed, known again, and removed.

launchd      property lists of agents, and commands that work without a PATH
text         names and quoting: nothing that a program says of itself becomes code
plan         what is asked for, and what would be written
scripts      the shell scripts that the hosts run
automator    Quick Actions and folder actions; the other hosts: agent, alfred, applescript,
             raycast, shortcut
kinds        the table of all kinds
register     what was installed, file by file, with its hash
install      installing and removing by a plan; `system` is what only a Mac has
tags         Finder's tags

All but the calls of `system` runs anywhere, in a home that is given.
"""
