"""What comes from PyTorch land, once. Installed as `paw_mlx.convert`."""
