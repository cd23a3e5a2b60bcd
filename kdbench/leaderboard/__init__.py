"""Leaderboards as data: cells to rows, claims to verdicts."""

from kdbench.leaderboard.claims import ClaimVerdict, evaluate
from kdbench.leaderboard.collate import COLUMNS, collate
from kdbench.leaderboard.own import completed

__all__ = [
    "COLUMNS",
    "ClaimVerdict",
    "collate",
    "completed",
    "evaluate",
]
