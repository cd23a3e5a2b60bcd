"""Names and sizes of ivis' parts, for signatures that must not cost an import of PyTorch."""

from __future__ import annotations

from typing import Literal

LossVariant = Literal["both", "min", "an"]
Sampling = Literal["rank_per_batch", "per_row"]

#: Hidden layers of the package's base networks.
WIDTHS = {"szubert": (128, 128, 128), "hinton": (2000, 1000, 500), "maaten": (500, 500, 2000)}
