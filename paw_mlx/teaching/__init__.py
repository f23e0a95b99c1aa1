"""Teachers: larger models that write a function's examples, and what is trained on them.

from paw_mlx.teaching.pairs import write_pairs    a spec becomes a file of pairs
"""

from .. import device  # noqa: F401  loads a BLAS before anything below imports mlx.core
