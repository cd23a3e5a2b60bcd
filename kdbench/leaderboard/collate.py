"""Collate cells into the tidy rows of a leaderboard: one row a result, averaged over folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kdbench.api.records import CellRecord
from kdbench.leaderboard.rows import Row
from kdbench.leaderboard.samples import Sample, base_name, samples
from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW, estimate, paired

if TYPE_CHECKING:
    from kdbench.plan.settings import SuiteSettings
    from kdbench.suite.schema import Published, Suite


def collate(
    cells: Iterable[CellRecord],
    reference: SuiteSettings | None = None,
    known_samples: list[Sample] | None = None,
) -> list[Row]:
    """Rows of `COLUMNS`, in an order that depends on the cells alone; None where a column does not apply.

    Parameters
    ----------
    cells
        Oldest first; failed ones are counted.
    reference
        Gives the published numbers, the order of schemes and taps, and decides which experiment is the main one.
    known_samples
        The samples of these cells, if they were computed before.

    Returns
    -------
    list of Row
        One a sample.
    """
    known_samples = samples(cells, reference) if known_samples is None else known_samples
    suite = reference.suite if reference is not None else None
    undistilled = _by_comparison(known_samples)
    rows = []
    for sample in known_samples:
        values = estimate([sample.values[k] for k in sorted(sample.values)])
        baseline = _undistilled(sample, undistilled)
        difference = paired(sample.values, baseline.values) if baseline else None
        published = _published(sample, suite) if suite and not sample.variant else None
        row, measured = sample.row, sample.measured
        steps, images_seen = sample.cost
        rows.append(
            Row(
                **row._asdict(),
                tap=measured.tap,
                reducer=measured.reducer,
                metric=f"{measured.metric}.{measured.value_name}",
                n=values.n,
                mean=values.mean,
                ci_low=values.low,
                ci_high=values.high,
                difference=difference.mean if difference else None,
                difference_low=difference.low if difference else None,
                difference_high=difference.high if difference else None,
                published=published.value if published else None,
                published_source=published.source if published else None,
                hardware=_origins(sample, "hardware"),
                kdbench_version=_origins(sample, "kdbench"),
                sd=values.sd,
                setting=measured.setting,
                variant=sample.variant,
                failed=sample.failed,
                descriptive=values.n < DESCRIPTIVE_BELOW,
                primary=sample.primary,
                difference_n=difference.n if difference else None,
                steps=steps,
                images_seen=images_seen,
                published_spread=published.spread if published else None,
                published_spread_kind=(published.spread_kind or None) if published else None,
            )
        )
    return _ordered(rows, suite)


def _origins(sample: Sample, part: str) -> str:
    """What the numbers of a sample came from, its cells joined with " + "."""
    m = sample.measured
    found = {cell.origin(m.metric, m.tap, m.reducer)[part] for cell in sample.cells.values()}
    return " + ".join(sorted(text for text in found if text))


def _comparison(sample: Sample) -> tuple:
    """What a student and the undistilled one that it is compared with have in common."""
    return (sample.measured, sample.row[:4], sample.row.student, sample.shared)


def _by_comparison(samples: list[Sample]) -> dict[tuple, list[Sample]]:
    """The undistilled samples by their `_comparison`."""
    found: dict[tuple, list[Sample]] = defaultdict(list)
    for sample in samples:
        if base_name(sample.row.scheme) == "undistilled":
            found[_comparison(sample)].append(sample)
    return found


def _undistilled(sample: Sample, undistilled: dict[tuple, list[Sample]]) -> Sample | None:
    """The sample of students that differ from these in the scheme alone; None for teachers and for itself."""
    row = sample.row
    if not row.student or base_name(row.scheme) == "undistilled":
        return None
    fitting = undistilled.get(_comparison(sample), [])
    main = [s for s in fitting if s.row.scheme == "undistilled"] or fitting
    main = [s for s in main if s.variant == sample.variant] or main
    # what differs in no more than what the students share
    least = min((s.variant.count("=") for s in main), default=0)
    main = [s for s in main if s.variant.count("=") == least]
    return main[0] if len(main) == 1 else None


def _published(sample: Sample, suite: Suite) -> Published | None:
    """The published number of a sample: of those whose given fields all fit, the one that gives most."""
    row, measured = sample.row, sample.measured
    if not of_paper(row.dataset, suite):
        return None
    metric = f"{measured.metric}.{measured.value_name}"
    position = (metric, row.budget, row.scheme, measured.tap, measured.reducer)
    return quoted(suite.published, *position, student=row.student)


def quoted(
    published: Iterable[Published],
    metric: str,
    budget: int,
    scheme: str,
    tap: str | None,
    reducer: str | None,
    *,
    student: str,
) -> Published | None:
    """The published number that may stand beside ours of this place: of those that fit it and are of no other
    student the one that says most; None where there is none."""

    def given(p: Published) -> int:
        exact = (p.scheme == scheme) + (p.reducer == reducer)
        return 2 * sum(v is not None for v in (p.budget, p.scheme, p.tap, p.reducer)) + exact

    fitting = (
        p for p in published if p.student in (None, student) and fits(p, metric, budget, scheme, tap, reducer)
    )
    return max(fitting, key=given, default=None)


def of_paper(dataset: str, suite: Suite) -> bool:
    """Whether the suite's published numbers are of this dataset: then they may stand beside ours."""
    return suite.published_dataset in ("", dataset, base_name(dataset))


def fits(p: Published, metric: str, budget: int, scheme: str, tap: str | None, reducer: str | None) -> bool:
    """Whether a published number is of this place: every field that it gives agrees."""
    return (
        f"{p.metric}.{p.value_name}" == metric
        and p.budget in (None, budget)
        and p.scheme in (None, scheme, base_name(scheme))
        and p.tap in (None, tap)
        and p.reducer in (None, reducer, base_name(reducer or ""))
    )


def _ordered(rows: list[Row], suite: Suite | None) -> list[Row]:
    schemes = [c.title for c in suite.schemes] if suite else []
    taps = list(suite.taps) if suite else []
    for row in rows:  # a network's taps come in its own order, input to output
        if row.tap is not None and row.tap not in taps:
            taps.append(row.tap)

    def place(row: Row) -> tuple:
        return (
            row.suite, row.scale, row.dataset, row.student == "", row.student,
            row.metric, row.reducer or "", row.setting, row.variant,
            row.budget, scheme_place(row.scheme, schemes), row.teacher,
            -1 if row.tap is None else taps.index(row.tap),
        )  # fmt: skip

    return sorted(rows, key=place)


def scheme_place(scheme: str, schemes: list[str]) -> tuple[int, int, str]:
    """Sorts schemes: undistilled, the suite's in its order, others by name, the teacher."""
    kind = 0 if base_name(scheme) == "undistilled" else 2 if scheme == "teacher" else 1
    return (kind, schemes.index(scheme) if scheme in schemes else len(schemes), scheme)
