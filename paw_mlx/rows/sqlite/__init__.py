"""Rows in SQLite databases, with the standard library's sqlite3.

database   how one is opened, what is in it, and what its errors mean
opening    from a database and a name, or a query, to a source
source     a table, a view or a query, read in short steps
reader     its rows, as other formats have theirs
writer     rows on their way to a table; making: it is there as a whole or not at all
runs       which tables were written so
"""

from ...errors import OptionError

try:
    import sqlite3 as sqlite3
except ImportError as error:
    raise OptionError(
        f"this Python was built without sqlite3 ({error})", hint="Use one that has it."
    ) from error
