"""Leaderboards: cells to tidy rows, claims to verdicts, both to pages."""

from kdbench.leaderboard.build import build
from kdbench.leaderboard.claims import ClaimVerdict, evaluate
from kdbench.leaderboard.collate import COLUMNS, collate
from kdbench.leaderboard.own import completed
from kdbench.leaderboard.terminal import claims_table, terminal_table

__all__ = [
    "COLUMNS",
    "ClaimVerdict",
    "build",
    "claims_table",
    "collate",
    "completed",
    "evaluate",
    "terminal_table",
]
