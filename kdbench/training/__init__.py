"""The training loop and its parts, used by teacher and student stages."""
