"""What a claim may compare with what: two samples that differ in nothing but what the claim is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kdbench.leaderboard.grouping import fingerprint
from kdbench.leaderboard.own import own_params, student_for
from kdbench.leaderboard.samples import Sample

if TYPE_CHECKING:
    from kdbench.suite.schema import Suite

_NETWORK = ("dataset", "student", "teacher")


def comparable(left: Sample, right: Sample, suite: Suite) -> bool:
    """Whether two samples may be the sides of a comparison.

    Always of one dataset, the same images of it included, and of one setting of the metric. Of one scheme: of the
    same networks, student and teacher. Beyond that, of all that the records say of data, student, teacher, metric
    and reducer nothing differs but

    - the student's network and recipe, as far as the suite itself gives the two schemes different ones: then each is
      the network that the suite gives its scheme;
    - the student's whole part, and the precision, where one side is a teacher's row, which has no student;
    - the teacher's part where one side has none, or learns from a teacher that is its scheme's own;
    - the reducer's parameters where the claim compares reducers.
    """
    a, b = left.setup, right.setup
    if a.dataset != b.dataset or left.measured.setting != right.measured.setting:
        return False
    if a.scheme == b.scheme and (a.student, a.teacher) != (b.student, b.teacher):
        return False
    if a.student and b.student and not _students_fit(left, right, suite):
        return False
    with_teacher = bool(a.teacher and b.teacher) and not (own_teacher(left) or own_teacher(right))
    if with_teacher and a.teacher != b.teacher:
        return False
    said = _said(left, teacher=with_teacher) ^ _said(right, teacher=with_teacher)
    names = {name for name, _ in said}
    if not (a.student and b.student):
        names = {n for n in names if n != "precision" and not n.startswith("student.")}
    elif a.scheme != b.scheme:
        names -= _otherwise(a.scheme, b.scheme, suite, names)
    if left.measured.reducer != right.measured.reducer:
        names = {n for n in names if not n.startswith(("reducer.", "reducers."))}
    return not names


def _students_fit(left: Sample, right: Sample, suite: Suite) -> bool:
    wanted = [student_for(suite, s.setup.scheme).architecture for s in (left, right)]
    if wanted[0] == wanted[1]:
        return left.setup.student == right.setup.student
    return [s.setup.student for s in (left, right)] == [w.title for w in wanted]


def _said(sample: Sample, *, teacher: bool) -> frozenset[tuple[str, str]]:
    """What the records say of a sample that another scheme's may be expected to share."""
    if not teacher:
        return sample.shared
    return sample.shared | fingerprint({k: v for k, v in _params(sample).items() if k.startswith("teacher.")})


def _otherwise(one: str, other: str, suite: Suite, names: set[str]) -> set[str]:
    """Those of the names that the suite itself has otherwise for one scheme's students than for the other's."""
    networks = [student_for(suite, scheme).architecture for scheme in (one, other)]
    ours, theirs = own_params(suite, one), own_params(suite, other)
    differing = {n for n in names if n.startswith("student.") and ours.get(n) != theirs.get(n)}
    if networks[0] != networks[1]:  # with parameters that the suite leaves to their defaults
        differing |= {n for n in names if n.startswith("student.architecture")}
    if ours.get("student.precision") != theirs.get("student.precision"):
        differing.add("precision")
    return differing


def own_teacher(sample: Sample) -> bool:
    """Whether the students learnt from a teacher that is their scheme's own, not the suite's."""
    return any(name.startswith("taught_by.") for name in _params(sample))


def _params(sample: Sample) -> Mapping[str, Any]:
    """Those of any of its cells: what differs in more than the fold is another sample."""
    return next(iter(sample.cells.values())).params


def of_suite(taken: list[Sample], suite: Suite) -> list[Sample]:
    """The samples of the suite's own dataset and networks where there are others beside them.

    A scheme's own network is what the suite gives that scheme. A teacher that is a scheme's own counts as the
    suite's.
    """
    students = {c.title: student_for(suite, c.title).architecture.title for c in suite.schemes}

    def own(sample: Sample, name: str) -> bool:
        setup = sample.setup
        if name == "dataset":
            return setup.dataset == suite.data.dataset.title
        if name == "student":
            return setup.student == students.get(setup.scheme, suite.student.architecture.title)
        return suite.teacher is not None and (
            setup.teacher == suite.teacher.architecture.title or own_teacher(sample)
        )

    for name in _NETWORK:
        found = [s for s in taken if not getattr(s.setup, name) or own(s, name)]
        if any(getattr(s.setup, name) for s in found):
            taken = found
    return taken


def several_of(taken: Iterable[Sample]) -> set[str]:
    """Which of dataset, student and teacher are not the same in all of them. A teacher that is a scheme's own is
    told by the scheme."""
    found: dict[str, set[str]] = {name: set() for name in _NETWORK}
    for sample in taken:
        for name in _NETWORK:
            if name != "teacher" or not own_teacher(sample):
                found[name].add(getattr(sample.setup, name))
    return {name for name, values in found.items() if len(values - {""}) > 1}
