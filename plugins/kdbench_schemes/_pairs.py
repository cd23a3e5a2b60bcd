"""Pairs of taps: which layer of the student learns from which layer of the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kdbench.api import SchemeSetup

#: Type of the parameter `pairs` of a feature scheme: "auto", or student tap to teacher tap.
Pairs = Literal["auto"] | dict[str, str]

#: Name of the input of the last linear layer in either network, even if it is not a tap.
PENULTIMATE = "penultimate"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """A tap of the student and one of the teacher, with the shapes of one image's activations."""

    student: str
    teacher: str
    student_shape: Shape
    teacher_shape: Shape

    def __str__(self) -> str:
        return f"{self.student} {self.student_shape} = {self.teacher} {self.teacher_shape}"


def checked(pairs: Pairs) -> Pairs:
    """Validate the parameter `pairs` of a constructor.

    Parameters
    ----------
    pairs
        The value to check.

    Returns
    -------
    Pairs
        `pairs`.

    Raises
    ------
    ValueError
        `pairs` is neither "auto" nor a non-empty table of names.
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
    """Determine the pairs of layers of two networks.

    Parameters
    ----------
    pairs
        The parameter of the scheme.
    setup
        The networks and their taps.
    auto
        Selects the pairs for "auto": `stages`, `last_stage`, ...
    refuse
        Returns the reason why a pair can't be used, "" if it can.

    Returns
    -------
    tuple[Pair, ...]
        The pairs with the shapes of their activations.

    Raises
    ------
    ValueError
        A tap does not exist, or shapes do not fit; the message lists the available taps.
    """
    student, teacher = shapes(setup, "student"), shapes(setup, "teacher")
    wanted = auto(setup) if pairs == "auto" else list(pairs.items())  # type: ignore[union-attr]
    result = []
    for student_tap, teacher_tap in wanted:
        for who, tap, taps in (("student", student_tap, student), ("teacher", teacher_tap, teacher)):
            if tap not in taps:
                raise ValueError(f"pairs={pairs!r}: the {who} has no tap {tap!r}; it has {_listed(taps)}")
        pair = Pair(student_tap, teacher_tap, student[student_tap], teacher[teacher_tap])
        if reason := _not_activations(pair) or refuse(pair):
            what = f"student {_listed(student)}; teacher {_listed(teacher)}"
            raise ValueError(f"pairs={pairs!r}: {pair}: {reason}. Available: {what}")
        result.append(pair)
    return tuple(result)


def shapes(setup: SchemeSetup, who: Literal["student", "teacher"]) -> dict[str, Shape]:
    """The shapes of one image's activations by tap, "penultimate" last."""
    if who == "student":
        features, width = setup.student_features, setup.student_width
    else:
        features, width = setup.teacher_features, setup.teacher_width
    return dict(features) | ({} if PENULTIMATE in features else {PENULTIMATE: (width,)})


def stages(setup: SchemeSetup) -> list[tuple[str, str]]:
    """Pair the last taps of both networks' stages by position, counted from the output.

    A stage is a sequence of taps whose maps (c, h, w) have the same size h x w, larger than 1 x 1. A stem before
    the student's first stage, and additional stages of the deeper network, are not paired.

    Parameters
    ----------
    setup
        The networks and their taps.

    Returns
    -------
    list[tuple[str, str]]
        Pairs of student tap and teacher tap.

    Raises
    ------
    ValueError
        A network has no tap with maps.
    """
    ends = []
    for who in ("student", "teacher"):
        taps = shapes(setup, who)  # type: ignore[arg-type]
        by_size: list[tuple[Shape, str]] = []
        for tap, shape in taps.items():
            if is_map(shape):
                if by_size and by_size[-1][0] == shape[1:]:
                    by_size.pop()
                by_size.append((shape[1:], tap))
        if not by_size:
            raise ValueError(
                f"pairs='auto': the {who} has no tap of maps (c, h, w); name taps of: {_listed(taps)}"
            )
        ends.append([tap for _, tap in by_size])
    n = min(map(len, ends))
    return list(zip(ends[0][-n:], ends[1][-n:], strict=True))


def last_stage(setup: SchemeSetup) -> list[tuple[str, str]]:
    """The last taps with maps in both networks."""
    return stages(setup)[-1:]


def middle_stage(setup: SchemeSetup) -> list[tuple[str, str]]:
    """The middle pair of `stages`; of an even number, the deeper of the two middle pairs."""
    pairs = stages(setup)
    return [pairs[len(pairs) // 2]]


def penultimate(setup: SchemeSetup) -> list[tuple[str, str]]:
    """The inputs of the last linear layers."""
    return [(PENULTIMATE, PENULTIMATE)]


def is_map(shape: Shape) -> bool:
    """Whether activations are maps (c, h, w) of more than one pixel."""
    return len(shape) == 3 and shape[1] * shape[2] > 1


def _not_activations(pair: Pair) -> str:
    for shape in (pair.student_shape, pair.teacher_shape):
        if len(shape) not in (1, 3):
            return f"activations must be vectors (d,) or maps (c, h, w), not {shape}"
    return ""


def _listed(taps: Mapping[str, Shape]) -> str:
    return ", ".join(f"{tap} {shape}" for tap, shape in taps.items())
