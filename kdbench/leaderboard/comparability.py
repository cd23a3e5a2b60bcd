"""Select the pairs of samples that a claim may compare: they differ only in what the claim varies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kdbench.api.settings import Flat, difference
from kdbench.leaderboard.samples import Sample

if TYPE_CHECKING:
    from kdbench.plan.settings import SuiteSettings

_NETWORK = ("dataset", "student", "teacher")


def comparable(left: Sample, right: Sample, reference: SuiteSettings) -> bool:
    """Whether two samples may be the sides of a comparison.

    Always of one dataset with the same images, and of one setting of the metric. Two samples of one scheme have the
    same networks. All other settings of data, student, teacher, metric and reducer agree as well, but for

    - the student's network and recipe, where the suite itself gives the two schemes different ones;
    - the student, if one side is a teacher's row, which has none;
    - the teacher, if one side has none or learns from a teacher of its scheme's own;
    - the reducer, if the claim compares reducers.
    """
    a, b = left.row, right.row
    if a.dataset != b.dataset or left.measured.setting != right.measured.setting:
        return False
    if a.scheme == b.scheme and (a.student, a.teacher) != (b.student, b.teacher):
        return False
    ours, theirs = left.settings, right.settings
    if difference(ours.data_part, theirs.data_part) or difference(_metric(left), _metric(right)):
        return False
    if left.measured.reducer == right.measured.reducer and difference(_reducer(left), _reducer(right)):
        return False
    if a.student and b.student and not _students_fit(left, right, reference):
        return False
    if a.teacher and b.teacher and not (ours.own_teacher or theirs.own_teacher):
        return a.teacher == b.teacher and not difference(ours.teacher_part, theirs.teacher_part)
    return True


def _students_fit(left: Sample, right: Sample, reference: SuiteSettings) -> bool:
    """Whether two students are trained alike, or differ as the suite has it."""
    schemes = (left.row.scheme, right.row.scheme)
    wanted = [reference.student(scheme).architecture for scheme in schemes]
    if wanted[0] == wanted[1]:
        if left.row.student != right.row.student:
            return False
    elif [left.row.student, right.row.student] != [w.title for w in wanted]:
        return False
    one, other = (reference.of(scheme).student_part for scheme in schemes)
    meant = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
    return difference(left.settings.student_part, right.settings.student_part).keys() <= meant


def _metric(sample: Sample) -> Flat:
    return sample.settings.measuring(sample.measured.metric, None)


def _reducer(sample: Sample) -> Flat:
    return sample.settings.measuring("", sample.measured.reducer)


def of_suite(samples: list[Sample], reference: SuiteSettings) -> list[Sample]:
    """The samples of the suite's own dataset and networks, where there are others as well.

    A scheme's own network is the one that the suite gives that scheme. A teacher of a scheme's own counts as the
    suite's.
    """
    suite = reference.suite

    def is_own(sample: Sample, name: str) -> bool:
        row = sample.row
        if name == "dataset":
            return row.dataset == suite.data.dataset.title
        if name == "student":
            return row.student == reference.student(row.scheme).architecture.title
        return suite.teacher is not None and (
            row.teacher == suite.teacher.architecture.title or sample.settings.own_teacher
        )

    for name in _NETWORK:
        kept = [s for s in samples if not getattr(s.row, name) or is_own(s, name)]
        if any(getattr(s.row, name) for s in kept):
            samples = kept
    return samples


def varying(samples: Iterable[Sample]) -> set[str]:
    """Which of dataset, student and teacher are not the same in all samples. A teacher of a scheme's own is named by
    the scheme."""
    values: dict[str, set[str]] = {name: set() for name in _NETWORK}
    for sample in samples:
        for name in _NETWORK:
            if name != "teacher" or not sample.settings.own_teacher:
                values[name].add(getattr(sample.row, name))
    return {name for name, found in values.items() if len(found - {""}) > 1}
