"""Schemes that each break one promise, as published code has."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from kdbench.api import SchemeSpec, hookimpl

TEACHER = frozenset({"unlabelled_if_any", "teacher_logits"})


class Sound:
    """Cross-entropy, and regression on the teacher's logits."""

    minimum_at_teacher = ("mse",)

    def epoch(self, run):
        for batch in run.labelled():
            logits = run.student(batch.images).float()
            yield {"ce": F.cross_entropy(logits, batch.labels), "mse": self.term(run, batch, logits)}

    def term(self, run, batch, logits):
        return F.mse_loss(logits, run.teacher_logits(batch))


class NotANumber(Sound):
    def term(self, run, batch, logits):
        return (logits - logits).sum().log() * 0


class NotAScalar(Sound):
    def epoch(self, run):
        for batch in run.labelled():
            yield run.student(batch.images).square().mean(0)


class ComparesAverageWithItself(Sound):
    """The dead consistency term of one published Mean Teacher."""

    ema_decay = 0.9
    minimum_at_teacher = ()

    def term(self, run, batch, logits):
        return F.mse_loss(run.ema(batch.images), run.ema(batch.images).detach()) + 1


class TrainsNoStudent:
    def modules(self, setup):
        return torch.nn.Linear(setup.student_width, setup.n_classes)

    def epoch(self, run):
        for batch in run.labelled():
            seen = run.forward(batch.images).penultimate.detach()
            yield F.cross_entropy(run.modules(seen), batch.labels)


class TeacherInTrainingMode(Sound):
    """A teacher that is never put into evaluation mode follows the students' batches."""

    minimum_at_teacher = ()

    def modules(self, setup):
        self.teacher = setup.teacher.train()

    def term(self, run, batch, logits):
        return F.mse_loss(logits, self.teacher(batch.images).detach())


class TeacherWithGradients(Sound):
    minimum_at_teacher = ()

    def modules(self, setup):
        self.teacher = setup.teacher.requires_grad_()

    def term(self, run, batch, logits):
        return F.mse_loss(logits, self.teacher(batch.images))


class LeastElsewhere(Sound):
    """Softened student, sharp teacher."""

    def term(self, run, batch, logits):
        return F.mse_loss(logits / 4, run.teacher_logits(batch))


class NamesATermThatIsNotThere(Sound):
    minimum_at_teacher = ("kl",)


class UnseededDraws(Sound):
    minimum_at_teacher = ()
    drawn = 0

    def term(self, run, batch, logits):
        type(self).drawn += 1
        return self.drawn * F.mse_loss(logits, run.teacher_logits(batch))


class KeepsStateToItself(Sound):
    """What it counts is not in a checkpoint."""

    minimum_at_teacher = ()

    def __init__(self) -> None:
        self.steps = 0

    def term(self, run, batch, logits):
        self.steps += 1
        return self.steps * F.mse_loss(logits, run.teacher_logits(batch))


class AsksForAPool(Sound):
    minimum_at_teacher = ()

    def epoch(self, run):
        for batch in run.unlabelled():
            yield self.term(run, batch, run.student(batch.images))


class ReadsLabelsOfThePool(AsksForAPool):
    def term(self, run, batch, logits):
        return F.cross_entropy(logits, batch.labels)


class AsksForWhatItDidNotNeed(Sound):
    minimum_at_teacher = ()

    def term(self, run, batch, logits):
        return F.mse_loss(logits, run.teacher_outputs(batch).logits)


def spec(name: str, target: str, needs=TEACHER) -> SchemeSpec:
    return SchemeSpec(name=name, target=f"kdb_broken_schemes:{target}", summary=name, needs=needs)


@hookimpl
def kdbench_schemes():
    features = TEACHER | {"teacher_features"}
    return [
        spec("sound", "Sound"),
        spec("not-a-number", "NotANumber"),
        spec("not-a-scalar", "NotAScalar"),
        spec("average-with-itself", "ComparesAverageWithItself", frozenset({"ema"})),
        spec("trains-no-student", "TrainsNoStudent", frozenset()),
        spec("teacher-in-training-mode", "TeacherInTrainingMode", features),
        spec("teacher-with-gradients", "TeacherWithGradients", features),
        spec("least-elsewhere", "LeastElsewhere"),
        spec("names-no-term", "NamesATermThatIsNotThere"),
        spec("unseeded", "UnseededDraws"),
        spec("state-to-itself", "KeepsStateToItself"),
        spec("asks-for-a-pool", "AsksForAPool"),
        spec("reads-labels-of-the-pool", "ReadsLabelsOfThePool"),
        spec("asks-for-more", "AsksForWhatItDidNotNeed"),
    ]
