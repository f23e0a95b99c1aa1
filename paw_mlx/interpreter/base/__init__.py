"""A base's files: what they hold, read and written."""
