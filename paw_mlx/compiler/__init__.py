"""Making programs."""
