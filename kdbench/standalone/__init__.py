"""Measure and embed networks without a suite: `kdbench.score` and `kdbench.embed`."""
