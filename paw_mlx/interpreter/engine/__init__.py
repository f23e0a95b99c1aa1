"""Calls that decode together: rows, their keys and values, their tokens."""
