"""kdbench: run, compare and rank explanations of why knowledge distillation works."""

__version__ = "0.1.0"
