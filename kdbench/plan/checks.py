"""Checks of a plan that need the data and the networks, made before anything is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api.data import ImageData
from kdbench.api.draws import draw_fold, draw_test
from kdbench.errors import SuiteError

if TYPE_CHECKING:
    from kdbench.registry import Registry
    from kdbench.suite.schema import Component, Student, Suite


def check_draws(suite: Suite, registry: Registry, data: ImageData, seed: int) -> None:
    """Refuse numbers of images that the dataset does not have. Raises SuiteError."""
    d = suite.data
    schemes = [registry.spec("schemes", s.name) for s in suite.schemes]
    unlabelled = d.unlabelled if any(s.uses_unlabelled for s in schemes) else "rest"
    for budget in d.budgets:
        draw_fold(
            data.train.labels, data.n_classes, budget=budget, fold=0, seed=seed, train=d.train,
            validation=d.validation, unlabelled=unlabelled,
        )  # fmt: skip
    for key, size in (("test", d.test), ("embedded", d.embedded)):
        try:
            draw_test(data.test.labels, data.n_classes, size=size, seed=seed)
        except SuiteError as error:
            raise SuiteError(error.what, where=f"data.{key}", hint=error.hint) from error


def check_views(suite: Suite) -> None:
    """Refuse augmentations that a teacher's precomputed outputs can't follow.

    Raises SuiteError if says which of the teacher's and the student's settings clash.
    """
    teacher = suite.teacher
    if teacher is None or teacher.mode != "head":
        return
    if teacher.shift:
        raise SuiteError(
            f"a head is trained on features computed once, which know no shifts; shift is {teacher.shift}",
            where="teacher.shift",
            hint='shift = 0, or mode = "all"',
        )
    if any(student.flip for student in suite.students()) and not teacher.flip:
        raise SuiteError(
            "the student sees flipped images and the teacher's features are of unflipped ones alone",
            where="teacher.flip",
            hint="teacher.flip = true",
        )


def check_metrics(suite: Suite, registry: Registry, data: ImageData) -> None:
    """Refuse metrics that would look at logits of images no logits were kept of, or at a validation split that
    the suite does not have.

    Raises SuiteError if more test images are embedded than tested; no validation images.
    """
    n = len(data.test.labels)
    tested = n if suite.data.test == "all" else suite.data.test
    embedded = n if suite.data.embedded == "all" else suite.data.embedded
    for metric in suite.metrics:
        spec = registry.spec("metrics", metric.name)
        if spec.scope != "network" and "logits" in spec.needs and embedded > tested:
            raise SuiteError(
                f"metric {metric.title!r} reads logits of the {embedded} embedded images, and {tested} are tested",
                where="data.test",
                hint="data.embedded at most data.test",
            )
        component = registry.create("metrics", metric.name, metric.params)
        if getattr(component, "needs_validation", False) and not suite.data.validation:
            raise SuiteError(
                f"metric {metric.title!r} reads a validation split, and data.validation is 0",
                where=f"metrics/{metric.title}",
                hint="data.validation = how many training images to hold out",
            )


def check_whole_passes(
    scheme: Component, student: Student, labelled: int, unlabelled: int, *, whole: bool, parameter: str
) -> None:
    """Refuse a share of steps in which a scheme that passes over two kinds of images in turn never comes to the
    second, or never ends it.

    Parameters
    ----------
    scheme
        The scheme.
    student
        Its student.
    labelled
        Images of each kind.
    unlabelled
        Images of each kind.
    whole
        It takes whole passes in turn; else batches.
    parameter
        Of the scheme, that decides so.

    Raises
    ------
    SuiteError
        Says how many steps an epoch needs and how many it has.
    """
    if not student.steps:
        return
    if not whole:
        if student.steps // student.epochs < 2:
            raise SuiteError(
                f"scheme {scheme.title!r} takes turns by batches, and {student.steps} steps in {student.epochs} "
                "epochs leave less than one batch of each kind for each",
                where=f"schemes/{scheme.title}",
                hint=f"at least {2 * student.epochs} steps, or fewer epochs",
            )
        return
    size = student.batch_size
    passes = -(-labelled // size) + -(-unlabelled // size)
    share = student.steps // student.epochs
    if share < passes:
        most = student.steps // passes
        fewer = f", at most {most} {'epoch' if most == 1 else 'epochs'}" if most else ""
        raise SuiteError(
            f"scheme {scheme.title!r} passes over {labelled} labelled images and then over {unlabelled} unlabelled "
            f"ones, {passes} steps, and {student.steps} steps in {student.epochs} epochs leave {share} for each",
            where=f"schemes/{scheme.title}",
            hint=f"at least {passes * student.epochs} steps{fewer}, or another {parameter} of the scheme",
        )
