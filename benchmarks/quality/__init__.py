"""How good the programs are that a compiler makes of specs (`bench compile-quality`)."""
