"""The content of a leaderboard, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdbench.api.records import CellRecord
from kdbench.leaderboard.claims import ClaimVerdict
from kdbench.leaderboard.rows import Row

if TYPE_CHECKING:
    from kdbench.registry import Registry
    from kdbench.suite.schema import Suite

#: Metric name to whether higher is better.
Directions = Mapping[str, bool | None]


def directions_of(registry: Registry) -> Directions:
    """Metric name to whether higher is better, of all installed metrics."""
    return {spec.name: getattr(spec, "higher_is_better", None) for spec in registry.specs("metrics")}


@dataclass(frozen=True)
class Board:
    """All that the pages of a leaderboard show.

    Attributes
    ----------
    directions
        Metric to whether higher is better.
    changes
        How the settings in the records differ from the suite file.
    seeds
        Those that the folds were drawn from.
    given
        The suite as commands take it, with the plugins it needs: "own.toml --plugin nets.py"; its name for "".
    """

    suite_name: str
    scale: str
    rows: Sequence[Row]
    claims: Sequence[ClaimVerdict] = ()
    failed: Sequence[CellRecord] = ()
    suite: Suite | None = None
    directions: Directions = field(default_factory=dict)
    changes: Sequence[str] = ()
    seeds: Sequence[int] = ()
    given: str = ""
