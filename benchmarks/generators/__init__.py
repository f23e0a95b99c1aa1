"""Generate fuzzy functions whose outputs code computes."""
