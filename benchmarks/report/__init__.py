"""Reports: what was measured, as JSON, tables and plots; two compared; the paper's beside them."""
