"""The engine that teacher and student stages use."""
