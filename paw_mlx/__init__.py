"""paw-mlx: run Program-as-Weights programs on Apple Silicon, through MLX.

    import paw_mlx as paw
    fn = paw.function("email-triage.paw")
    fn("Urgent: the server is down!")        # 'immediate'

The public names stand in `__init__.pyi` and are imported when first used: `import paw_mlx` alone
touches neither MLX nor numpy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
