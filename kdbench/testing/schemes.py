"""Conformance checks of schemes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdbench.testing.check import Check, check
from kdbench.testing.fixtures.schemes import EPOCHS, FixtureRun, SchemeFixture, terms_of
from kdbench.testing.outcome import NotApplicable, Violation
from kdbench.training.average import moving_average
from kdbench.training.optimizer import trained_parameters

#: A gradient this much smaller than the one beside the minimum is none, in single precision.
NO_GRADIENT = 2e-3


@check(
    "schemes",
    "keep what is yielded a finite scalar tensor (or named ones): clamp what a logarithm is taken of",
)
def check_loss_is_finite(fixture: SchemeFixture) -> None:
    """Every loss that is yielded is a finite scalar, alone or by name."""
    fixture.watched  # noqa: B018 - the training raises


@check(
    "schemes", "compute the term from what the student says in this step; detach what is only compared with"
)
def check_gradient_reaches_student(fixture: SchemeFixture) -> None:
    """The loss has a gradient with respect to the student, and each of its terms with respect to the student or
    what the scheme trains beside it: a term that compares a network with itself has none."""
    run = fixture.run(sure=True)
    student = set(trained_parameters(run.student))
    both = trained_parameters(run.student, run.modules)
    reached: dict[str, bool] = {}
    of_student = False
    for _, terms in _losses(run, range(EPOCHS)):
        for name, term in terms.items():
            if reached.get(name) and of_student:
                continue
            found = {p for p, g in _gradients(term, both).items() if bool(g.any())}
            reached[name] = reached.get(name, False) or bool(found)
            of_student = of_student or bool(found & student)
    if not reached:
        raise NotApplicable("it takes no steps")
    if dead := [name for name, there in reached.items() if not there]:
        raise Violation(f"no gradient flows from {' and '.join(dead)} to anything that is trained")
    if not of_student:
        raise Violation("no gradient reaches the student")


@check(
    "schemes", "leave the teacher in evaluation mode, and its parameters and the average's without gradients"
)
def check_teacher_stays_as_it_is(fixture: SchemeFixture) -> None:
    """No gradient reaches a teacher or the moving average, and training leaves a teacher as it was, its batch
    statistics too."""
    run = fixture.watched.run
    if not run.teachers and run.ema is None:
        raise NotApplicable("it has neither a teacher nor a moving average")
    if fixture.watched.changed:
        raise Violation(f"the teacher's {fixture.watched.changed[0]} changed")
    for name, network in [*(("a teacher", t) for t in run.teachers), ("the moving average", run.ema)]:
        if network is not None and any(p.requires_grad or p.grad is not None for p in network.parameters()):
            raise Violation(f"{name} has gradients")


@check(
    "schemes",
    "treat both networks alike (temperature, normalisation), or take the term out of minimum_at_teacher",
)
def check_minimum_where_student_is_teacher(fixture: SchemeFixture) -> None:
    """The terms in `minimum_at_teacher` have no gradient where the student says what its teacher says, and grow
    where it begins to say something else."""
    names = tuple(getattr(fixture.scheme(), "minimum_at_teacher", ()))
    if not names:
        raise NotApplicable("it declares no minimum_at_teacher")
    if not fixture.is_taught:
        raise Violation("minimum_at_teacher is for schemes that need a teacher")
    run = fixture.run(student_is_teacher=True)
    run.student.eval()  # as its teacher is
    least, flat = _terms_and_slopes(run, names)
    _perturb(run.student, seed=0)
    moved, steep = _terms_and_slopes(run, names)
    for name in names:
        if name not in least:
            raise Violation(f"minimum_at_teacher names {name!r}; its terms are {', '.join(sorted(least))}")
        if flat[name] > NO_GRADIENT * steep[name]:
            raise Violation(
                f"{name} has a gradient of norm {flat[name]:.3g} where the student equals its teacher; beside it, "
                f"{steep[name]:.3g}"
            )
        if not least[name] < moved[name]:
            raise Violation(
                f"{name} is {least[name]:.6g} where the student equals its teacher, and {moved[name]:.6g} beside it"
            )


@check("schemes", "remove the term, or whatever keeps it from the student (detach, a weight of 0)")
def check_each_term_changes_the_student(fixture: SchemeFixture) -> None:
    """A training without one of the loss's terms ends with another student."""
    names = _term_names(fixture)
    if len(names) < 2:
        raise NotApplicable("its loss has a single term")
    whole = fixture.train(fixture.run(sure=True))
    for name in names:
        run = fixture.run(sure=True)
        without = fixture.train(run, _Without(run.scheme, name))
        if not any(k.startswith("student/") for k in whole.differs(without)):
            raise Violation(f"training without {name} ends with the same student")


@check("schemes", "read labels of labelled batches alone")
def check_labels_of_the_pool_are_never_read(fixture: SchemeFixture) -> None:
    """Other labels of the unlabelled images change nothing."""
    if not fixture.uses_pool:
        raise NotApplicable("it has no unlabelled images")
    if changed := fixture.reference.differs(fixture.relabelled):
        raise Violation(f"other labels of the unlabelled images change {changed[0]}")


@check(
    "schemes",
    "draw from torch's generator, which the engine seeds every epoch, and keep no state in the class",
)
def check_same_seed_same_result(fixture: SchemeFixture) -> None:
    """The same seed leads to the same bits."""
    if fixture.uses_pool and not fixture.reference.differs(fixture.relabelled):
        return  # that was a second training
    if changed := fixture.reference.differs(fixture.train(fixture.run())):
        raise Violation(f"a second training with the same seed differs in {', '.join(changed[:3])}")


@check(
    "schemes",
    "keep what lives from epoch to epoch in buffers and parameters of the module that `modules` returns",
)
def check_resumed_ends_bit_identical(fixture: SchemeFixture) -> None:
    """A training that is interrupted and resumed by new objects ends like one that was not."""
    with tempfile.TemporaryDirectory(prefix="kdbench-check-") as folder:
        for epoch in range(1, EPOCHS):
            fixture.train(fixture.run(), checkpoints=Path(folder), stop_after=epoch)
        resumed = fixture.train(fixture.run(), checkpoints=Path(folder))
    if changed := fixture.reference.differs(resumed):
        raise Violation(
            f"a resumed training differs in {', '.join(changed[:3])}: what lives from epoch to epoch belongs in the "
            "module that `modules` returns"
        )


@check("schemes", 'look at run.n_unlabelled before run.unlabelled(), or need "unlabelled"')
def check_trains_without_a_pool(fixture: SchemeFixture) -> None:
    """A scheme that takes unlabelled images if there are any trains where there are none."""
    if "unlabelled_if_any" not in fixture.spec.needs:
        raise NotApplicable('it does not need "unlabelled_if_any"')
    outcome = fixture.train(fixture.run(pool=False))
    if not outcome.history:
        raise Violation("a training without unlabelled images leaves no history")


CHECKS: tuple[Check, ...] = (
    check_loss_is_finite,
    check_gradient_reaches_student,
    check_teacher_stays_as_it_is,
    check_minimum_where_student_is_teacher,
    check_each_term_changes_the_student,
    check_labels_of_the_pool_are_never_read,
    check_same_seed_same_result,
    check_resumed_ends_bit_identical,
    check_trains_without_a_pool,
)


class _Without:
    """A scheme without one term of its loss."""

    def __init__(self, scheme: Any, name: str) -> None:
        self._scheme, self._name = scheme, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheme, name)

    def epoch(self, run: Any) -> Iterator[Mapping[str, torch.Tensor]]:
        for loss in self._scheme.epoch(run):
            terms = terms_of(loss)
            # a step that has this term alone is still taken, and changes nothing but by momentum and decay
            yield {k: v * 0 if k == self._name else v for k, v in terms.items()}


def _term_names(fixture: SchemeFixture) -> list[str]:
    return list(
        dict.fromkeys(n.removeprefix("loss.") for n in fixture.reference.history if n.startswith("loss."))
    )


def _losses(run: FixtureRun, epochs: range) -> Iterator[tuple[int, Mapping[str, torch.Tensor]]]:
    """What a scheme yields in some epochs for a student that stays as it is; the moving average, where the scheme
    has one, is of another student."""
    scheme = run.scheme
    if getattr(scheme, "ema_decay", None) is not None:
        run.ema = moving_average(run.student, scheme.ema_decay).module
        _perturb(run.ema, seed=1)
    for epoch in epochs:
        run.epoch, run.passes, run.views, run.progress = epoch, 0, 0, epoch / EPOCHS
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(epoch)
            for loss in scheme.epoch(run):
                yield epoch, terms_of(loss)
                run.step += 1


@torch.no_grad()
def _perturb(network: nn.Module, *, seed: int) -> None:
    """Add noise to the weights, in proportion to how widely each layer's are spread."""
    noise = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.add_(0.3 * p.std(correction=0) * torch.randn(p.shape, generator=noise).to(p.device))


def _gradients(term: torch.Tensor, parameters: list[nn.Parameter]) -> dict[nn.Parameter, torch.Tensor]:
    if not term.requires_grad:
        return {}
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return {p: g for p, g in zip(parameters, found, strict=True) if g is not None}


def _terms_and_slopes(run: FixtureRun, names: tuple[str, ...]) -> tuple[dict[str, float], dict[str, float]]:
    """Each term summed over the last epoch, and the norms of the named ones' gradients with respect to the
    student."""
    parameters = trained_parameters(run.student)
    values: dict[str, float] = {}
    squares = dict.fromkeys(names, 0.0)
    for _, terms in _losses(run, range(EPOCHS - 1, EPOCHS)):
        for name, term in terms.items():
            values[name] = values.get(name, 0.0) + float(term.detach())
            if name in squares:
                found = _gradients(term, parameters).values()
                squares[name] += sum(float(g.square().sum()) for g in found)
    return values, {k: v**0.5 for k, v in squares.items()}
