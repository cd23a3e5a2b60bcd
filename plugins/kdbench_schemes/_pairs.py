"""Which of the student's layers learns from which of the teacher's, by tap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kdbench.api import SchemeSetup

#: What the parameter `pairs` of a feature scheme can be: "auto", or student tap to teacher tap.
Pairs = Literal["auto"] | dict[str, str]

#: Names what goes into the last linear layer, of either network, whether or not it is a tap.
PENULTIMATE = "penultimate"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """A tap of the student, one of the teacher, and the shapes of one image's activations there."""

    student: str
    teacher: str
    student_shape: Shape
    teacher_shape: Shape

    def __str__(self) -> str:
        return f"{self.student} {self.student_shape} = {self.teacher} {self.teacher_shape}"


def checked(pairs: Pairs) -> Pairs:
    """`pairs`, for a constructor to store.

    Raises:
        ValueError: neither "auto" nor a table of names that is not empty.
    """
    named = isinstance(pairs, Mapping) and all(isinstance(t, str) for kv in pairs.items() for t in kv)
    if pairs != "auto" and not (named and pairs):
        raise ValueError(f'pairs={pairs!r}: "auto", or a table of student tap = teacher tap')
    return pairs


def find_pairs(
    pairs: Pairs,
    setup: SchemeSetup,
    auto: Callable[[SchemeSetup], Sequence[tuple[str, str]]],
    *,
    refuse: Callable[[Pair], str] = lambda pair: "",
) -> tuple[Pair, ...]:
    """The pairs that a scheme's parameter means for two networks.

    Args:
        auto: what "auto" means: `stages`, `last_stage`, ...
        refuse: why a pair's shapes can't be brought together, "" where they can.

    Raises:
        ValueError: a tap that does not exist, or shapes that do not fit; names the parameter, its value and what
            there is.
    """
    student, teacher = shapes(setup, "student"), shapes(setup, "teacher")
    wanted = auto(setup) if pairs == "auto" else list(pairs.items())  # type: ignore[union-attr]
    found = []
    for of_student, of_teacher in wanted:
        for who, tap, there in (("student", of_student, student), ("teacher", of_teacher, teacher)):
            if tap not in there:
                raise ValueError(f"pairs={pairs!r}: the {who} has no tap {tap!r}; it has {_listed(there)}")
        pair = Pair(of_student, of_teacher, student[of_student], teacher[of_teacher])
        if reason := _not_activations(pair) or refuse(pair):
            what = f"student {_listed(student)}; teacher {_listed(teacher)}"
            raise ValueError(f"pairs={pairs!r}: {pair}: {reason}. There are: {what}")
        found.append(pair)
    return tuple(found)


def shapes(setup: SchemeSetup, who: Literal["student", "teacher"]) -> dict[str, Shape]:
    """The shapes of one image's activations by tap, "penultimate" last."""
    if who == "student":
        features, width = setup.student_features, setup.student_width
    else:
        features, width = setup.teacher_features, setup.teacher_width
    return dict(features) | ({} if PENULTIMATE in features else {PENULTIMATE: (width,)})


def stages(setup: SchemeSetup) -> list[tuple[str, str]]:
    """The ends of both networks' stages, paired by position counted from the output.

    A stage is a run of taps whose maps (c, h, w) are of one size h x w, more than one place; its end is the last
    of them. A stem before the student's first stage, and what the deeper network has more of, stay unpaired.

    Raises:
        ValueError: a network without maps.
    """
    ends = []
    for who in ("student", "teacher"):
        there = shapes(setup, who)  # type: ignore[arg-type]
        by_size: list[tuple[Shape, str]] = []
        for tap, shape in there.items():
            if is_map(shape):
                if by_size and by_size[-1][0] == shape[1:]:
                    by_size.pop()
                by_size.append((shape[1:], tap))
        if not by_size:
            raise ValueError(
                f"pairs='auto': the {who} has no tap of maps (c, h, w); name taps: it has {_listed(there)}"
            )
        ends.append([tap for _, tap in by_size])
    n = min(map(len, ends))
    return list(zip(ends[0][-n:], ends[1][-n:], strict=True))


def last_stage(setup: SchemeSetup) -> list[tuple[str, str]]:
    """The last maps of both."""
    return stages(setup)[-1:]


def middle_stage(setup: SchemeSetup) -> list[tuple[str, str]]:
    """The middle one of `stages`; of an even number, the deeper of the two in the middle."""
    found = stages(setup)
    return [found[len(found) // 2]]


def penultimate(setup: SchemeSetup) -> list[tuple[str, str]]:
    """What goes into the last linear layers."""
    return [(PENULTIMATE, PENULTIMATE)]


def is_map(shape: Shape) -> bool:
    """Whether activations are maps (c, h, w) of more than one place."""
    return len(shape) == 3 and shape[1] * shape[2] > 1


def _not_activations(pair: Pair) -> str:
    for shape in (pair.student_shape, pair.teacher_shape):
        if len(shape) not in (1, 3):
            return f"activations must be vectors (d,) or maps (c, h, w), not {shape}"
    return ""


def _listed(there: Mapping[str, Shape]) -> str:
    return ", ".join(f"{tap} {shape}" for tap, shape in there.items())
