"""The training loop: one for teachers and students, images and precomputed features."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from kdbench.api.draws import derive_seed
from kdbench.training.checkpoint import Checkpointer
from kdbench.training.data import FeatureSource, ImageSource, TrainingBatch, generator_for, shuffled
from kdbench.training.precision import autocast

Loss = torch.Tensor | Mapping[str, torch.Tensor]


class Diverged(RuntimeError):
    """A loss that is not finite."""


class Recipe(Protocol):
    """The fields of `kdbench.suite.schema.Training` that the loop reads."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float
    schedule: str
    decay_every: int
    decay_factor: float


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Rate of a 0-based epoch: step decay every `decay_every` epochs (LW 4.2), a half cosine, or constant."""
    if recipe.schedule == "step":
        return recipe.learning_rate * recipe.decay_factor ** (epoch // recipe.decay_every)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
    return recipe.learning_rate


@dataclass
class Run:
    """What a scheme sees of its training (`kdbench.api.SchemeRun`)."""

    student: nn.Module
    epochs: int
    batch_size: int
    seed: int
    labelled_source: ImageSource | FeatureSource
    labels: torch.Tensor
    unlabelled_source: ImageSource | None = None
    teacher: Callable[[TrainingBatch], torch.Tensor] | None = None
    epoch: int = 0
    passes: int = field(default=0, repr=False)

    def _generator(self, which: str) -> torch.Generator:
        # from (seed, epoch, pass) alone, so that resuming at an epoch draws what an uninterrupted run draws
        self.passes += 1
        return generator_for(self.seed, "order", which, self.epoch, self.passes)

    def labelled(self) -> Iterator[TrainingBatch]:
        return shuffled(self.labelled_source, self.labels, self.batch_size, self._generator("labelled"))

    def unlabelled(self) -> Iterator[TrainingBatch]:
        if self.unlabelled_source is None:
            raise RuntimeError('the scheme reads unlabelled images; its spec must need "unlabelled"')
        return shuffled(self.unlabelled_source, None, self.batch_size, self._generator("unlabelled"))

    def teacher_logits(self, batch: TrainingBatch) -> torch.Tensor:
        if self.teacher is None:
            raise RuntimeError('the scheme asks for a teacher; its spec must need "teacher_logits"')
        return self.teacher(batch)


class _Scheme(Protocol):
    def epoch(self, run: Any) -> Generator[Loss, None, None]: ...


class Supervised:
    """Cross-entropy on labelled images: how teachers and source networks are trained."""

    def epoch(self, run: Run) -> Generator[Loss, None, None]:
        for batch in run.labelled():
            logits = run.student(batch.images).float()
            yield {"cross_entropy": nn.functional.cross_entropy(logits, batch.labels)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Trained:
    """What a training leaves: curves by epoch, and what it cost."""

    history: dict[str, list[float]]
    images: int
    steps: int


def train(
    run: Run,
    scheme: _Scheme,
    recipe: Recipe,
    *,
    precision: str,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    eval_every: int = 0,
    checkpoints: Path | None = None,
    progress: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Trained:
    """Train `run.student` in place.

    Every random draw depends on the seed and the epoch alone, and checkpoints hold all that lives across
    epochs, so a training that is resumed ends with the same weights as one that was not interrupted.

    Args:
        evaluate: called after every `eval_every` epochs (0: none of them) and after the last; its numbers join
            the history, NaN standing for the epochs between.
        checkpoints: a folder to save to now and then, and to resume from.
        progress: called after each epoch with the images seen in it and the epoch's mean losses.

    Raises:
        Diverged: a mean loss of an epoch is not finite.
    """
    student, device = run.student, run.labelled_source.device
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    history: dict[str, list[float]] = {}
    images = steps = start = 0
    saver = Checkpointer(checkpoints) if checkpoints else None
    if saver and (resumed := saver.load(student, optimizer, parameters)):
        start, history, images, steps = resumed.epoch, resumed.history, resumed.images, resumed.steps
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        for epoch in range(start, recipe.epochs):
            torch.manual_seed(derive_seed(run.seed, "epoch", epoch) % 2**63)  # dropout draws
            run.epoch, run.passes = epoch, 0
            rate = learning_rate(recipe, epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            student.train()
            sums, seen, count = _one_epoch(run, scheme, optimizer, precision, device)
            images, steps = images + seen, steps + count
            losses = {name: float(total) / n for name, (total, n) in sums.items()}  # the epoch's one wait
            bad = {k: v for k, v in losses.items() if not math.isfinite(v)}
            if bad:
                raise Diverged(f"loss {bad} in epoch {epoch + 1} of {recipe.epochs} (learning rate {rate:g})")
            row = {f"loss.{k}": v for k, v in losses.items()} | {"learning_rate": rate}
            last = epoch + 1 == recipe.epochs
            if evaluate and (last or (eval_every and (epoch + 1) % eval_every == 0)):
                row |= evaluate()
            for name in set(history) | set(row):
                history.setdefault(name, [math.nan] * epoch).append(row.get(name, math.nan))
            if progress:
                progress(seen, losses)
            if saver and not last:
                saver.maybe_save(student, optimizer, parameters, epoch + 1, history, images, steps)
    return Trained(history, images, steps)


def _one_epoch(
    run: Run, scheme: _Scheme, optimizer: torch.optim.Optimizer, precision: str, device: str
) -> tuple[dict[str, tuple[torch.Tensor, int]], int, int]:
    """Sums of the loss terms (left on the device), images seen, optimiser steps."""
    sums: dict[str, tuple[torch.Tensor, int]] = {}
    steps = 0
    counter = _CountingRun(run)
    losses = scheme.epoch(counter)
    while True:
        with autocast(precision, device):  # the generator's body runs in here
            loss = next(losses, None)
        if loss is None:
            break
        terms = loss if isinstance(loss, Mapping) else {"loss": loss}
        total = torch.stack([t.float() for t in terms.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        steps += 1
        for name, term in terms.items():
            before, n = sums.get(name, (torch.zeros((), device=device), 0))
            sums[name] = (before + term.detach().float(), n + 1)
    return sums, counter.images, steps


class _CountingRun:
    """A run that counts the images it gives out."""

    def __init__(self, run: Run) -> None:
        self._run, self.images = run, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def _count(self, batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        for batch in batches:
            self.images += len(batch.positions)
            yield batch

    def labelled(self) -> Iterator[TrainingBatch]:
        return self._count(self._run.labelled())

    def unlabelled(self) -> Iterator[TrainingBatch]:
        return self._count(self._run.unlabelled())
