"""Select the teacher of a scheme."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdbench.errors import SuiteError

if TYPE_CHECKING:
    from kdbench.api.specs import SchemeSpec
    from kdbench.suite.schema import Component, Student, Suite, Teacher


@dataclass(frozen=True)
class TeacherChoice:
    """A teacher and how it comes about.

    Attributes
    ----------
    member
        Of several that differ by their seeds, from 0.
    pretraining
        Name of the scheme that trains its network before it is fine-tuned; "" for none.
    label
        What it is called; its architecture where empty.
    """

    teacher: Teacher
    member: int = 0
    pretraining: str = ""
    label: str = ""

    @property
    def title(self) -> str:
        words = [self.label or f"teacher {self.teacher.architecture.title}"]
        words += [f"pretrained by {self.pretraining}"] if self.pretraining else []
        words += [f"member {self.member + 1}"] if self.member else []
        return " · ".join(words)

    def is_of(self, suite: Suite) -> bool:
        """Whether it is the suite's own teacher, trained as the suite says."""
        return self.teacher is suite.teacher and not self.pretraining

    def pretrained_by(self, scheme: str) -> TeacherChoice:
        """The same, all of its weights fine-tuned after `scheme` has trained them."""
        teacher = self.teacher.model_copy(update={"mode": "all", "source": None})
        return replace(self, teacher=teacher, pretraining=scheme)


def teacher_of(suite: Suite, spec: SchemeSpec, scheme: Component) -> TeacherChoice:
    """The teacher that a scheme of a suite learns from.

    Parameters
    ----------
    suite
        The suite.
    spec
        Spec of the scheme; it uses a teacher.
    scheme
        The scheme as the suite has it.

    Returns
    -------
    TeacherChoice
        The teacher; the first one if the scheme uses several.

    Raises
    ------
    SuiteError
        The suite has no teacher.
    """
    if spec.teacher == "own":
        choice = own_teacher(suite.student_of(scheme))
    elif suite.teacher is None:
        raise SuiteError(
            f"scheme {scheme.title!r} needs a teacher, and the suite has none",
            where=f"suite {suite.name}",
            hint="add a [teacher] table",
        )
    elif spec.teacher == "untrained":
        choice = untrained_teacher(suite.teacher)
    else:
        choice = TeacherChoice(suite.teacher)
    return choice.pretrained_by(spec.pretraining) if spec.pretraining else choice


def own_teacher(student: Student) -> TeacherChoice:
    """A network of the student's architecture, trained by its recipe on the labelled images."""
    from kdbench.suite.schema import Teacher

    fields = {name: getattr(student, name) for name in type(student).model_fields}
    return TeacherChoice(Teacher(**fields), label=f"own teacher {student.architecture.title}")


def untrained_teacher(teacher: Teacher) -> TeacherChoice:
    """The suite's teacher as its architecture builds it."""
    never = teacher.model_copy(update={"epochs": 0, "steps": None, "mode": "all", "source": None})
    return TeacherChoice(never, label=f"untrained {teacher.architecture.title}")
