"""Leaderboards as data: cells to rows, claims to verdicts."""

from kdbench.leaderboard.claims import ClaimVerdict, evaluate
from kdbench.leaderboard.collate import collate
from kdbench.leaderboard.rows import COLUMNS, Row

__all__ = [
    "COLUMNS",
    "ClaimVerdict",
    "Row",
    "collate",
    "evaluate",
]
