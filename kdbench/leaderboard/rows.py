"""A row of a leaderboard."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Row:
    """One measurement of one experiment, averaged over folds; None where a column does not apply.

    Attributes
    ----------
    suite, scale, dataset
        Where it belongs.
    budget
        Number of labelled images.
    scheme, student, teacher
        Labels; `student` is "" in a teacher's row, `teacher` is "" if none is used.
    tap, reducer
        Labels of what was measured.
    metric
        "<metric>.<value>".
    n
        Number of folds.
    mean
        Mean over folds.
    ci_low, ci_high
        95 % interval of the mean, Student's t.
    difference, difference_low, difference_high
        To the undistilled student, paired by fold, with its 95 % interval.
    published, published_source
        Number quoted from the paper and where it is from; in rows of the paper's own dataset only.
    hardware, kdbench_version
        Where the numbers were made: "; " separates training, embedding and metric if they differ, " + " folds.
    sd
        Standard deviation over folds.
    setting
        What the number depends on first of all: "n=2000, k=15".
    variant
        Settings that differ from the main row of the same name; "" for the main row.
    failed
        Number of folds that failed.
    descriptive
        Whether there are too few folds to conclude from.
    primary
        Whether the metric ranks by this value.
    difference_n
        Number of folds of the difference.
    steps, images_seen
        Optimiser steps and images of the training of one network in one fold.
    published_spread, published_spread_kind
        Spread of the published number, and what kind of spread it is.
    """

    suite: str
    scale: str
    dataset: str
    budget: int
    scheme: str
    student: str
    teacher: str
    tap: str | None
    reducer: str | None
    metric: str
    n: int
    mean: float
    ci_low: float | None
    ci_high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    published: float | None
    published_source: str | None
    hardware: str
    kdbench_version: str
    sd: float | None
    setting: str
    variant: str
    failed: int
    descriptive: bool
    primary: bool
    difference_n: int | None
    steps: int | None
    images_seen: int | None
    published_spread: float | None
    published_spread_kind: str | None

    def to_dict(self) -> dict[str, Any]:
        """Column to value, in the order of `COLUMNS`."""
        return asdict(self)


#: Columns of a leaderboard, in order.
COLUMNS = tuple(f.name for f in fields(Row))
