"""Which teacher a scheme learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdbench.api.specs import SchemeSpec

if TYPE_CHECKING:
    from kdbench.suite.schema import Student, Teacher

#: Needs of a scheme that make it one that learns from a teacher.
TEACHER_NEEDS = frozenset({"teacher_logits", "teacher_features", "several_teachers"})


@dataclass(frozen=True)
class TeacherChoice:
    """A teacher and how it comes about.

    Attributes:
        member: of several that differ by their seeds, from 0.
        pretraining: name of the scheme that trains its network before it is fine-tuned; "" for none.
        label: what it is called; its architecture where empty.
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

    def pretrained_by(self, scheme: str) -> TeacherChoice:
        """The same, all of its weights fine-tuned after `scheme` has trained them."""
        teacher = self.teacher.model_copy(update={"mode": "all", "source": None})
        return replace(self, teacher=teacher, pretraining=scheme)


def is_taught(spec: SchemeSpec) -> bool:
    return bool(spec.needs & TEACHER_NEEDS)


def own_teacher(student: Student) -> TeacherChoice:
    """A network of the student's architecture, trained by its recipe on the labelled images."""
    from kdbench.suite.schema import Teacher

    fields = {name: getattr(student, name) for name in type(student).model_fields}
    return TeacherChoice(Teacher(**fields), label=f"own teacher {student.architecture.title}")


def untrained_teacher(teacher: Teacher) -> TeacherChoice:
    """The suite's teacher as its architecture builds it."""
    never = teacher.model_copy(update={"epochs": 0, "steps": None, "mode": "all", "source": None})
    return TeacherChoice(never, label=f"untrained {teacher.architecture.title}")
