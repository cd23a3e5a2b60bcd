"""Leaderboards as data: cells to rows, claims to verdicts."""

from kdbench.leaderboard.claims import ClaimVerdict, evaluate
from kdbench.leaderboard.collate import COLUMNS, collate

__all__ = [
    "COLUMNS",
    "ClaimVerdict",
    "collate",
    "evaluate",
]
