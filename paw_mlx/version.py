"""The version of this package, said once: pyproject.toml reads it here."""

VERSION = "0.1.0"
