"""LoRA at run time: one program alone, or another one in every row of a batch."""
