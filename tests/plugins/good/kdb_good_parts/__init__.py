"""What the good plugin's specs point to. Importing it leaves a trace: it must happen on demand alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


class Data:
    """Data of some size."""

    def __init__(self, *, size: int = 5, root: Path | None = None) -> None:
        if size < 1:
            raise ValueError(f"size={size}: at least 1")
        self.size, self.root = size, root


class Family:
    """A family of data."""

    def __init__(self, *, model: str, ratio: float = 0.5) -> None:
        self.model, self.ratio = model, ratio


class Reducer:
    """A reducer."""

    def __init__(
        self,
        *,
        k: int = 15,
        margin: float = 1.0,
        kind: Literal["pn", "fast"] = "pn",
        hidden: tuple[int, ...] = (8, 8),
        cut: float | None = None,
        on: bool = False,
        random_state: int | None = None,
        n_jobs: int = 1,
    ) -> None:
        self.k, self.margin, self.kind, self.hidden, self.cut, self.on = k, margin, kind, hidden, cut, on
        self.random_state, self.n_jobs = random_state, n_jobs

    def fit_transform(self, X: Any) -> Any:
        return X


class Net:
    """A network."""

    def __init__(self, *, depth: int = 10, width: float = 1.0) -> None:
        self.depth, self.width = depth, width


class Scheme:
    """A scheme."""

    def __init__(self, *, temperature: float = 4.0) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: above 0")
        self.temperature = temperature


class Score:
    """A metric."""

    def __init__(self, *, grid: int = 64) -> None:
        self.grid = grid


class Metric:
    """A metric whose constructor is not of the contract: its parameter is positional."""

    def __init__(self, level=0.5):
        self.level = level
