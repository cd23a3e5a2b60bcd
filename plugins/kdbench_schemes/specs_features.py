"""What distils activations at taps."""

from __future__ import annotations

from kdbench.api import SchemeSpec

FEATURE_SCHEMES: tuple[SchemeSpec, ...] = ()
