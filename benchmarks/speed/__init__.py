"""Tokens and calls per second, and memory: of models each in a process, of engines in turn."""
