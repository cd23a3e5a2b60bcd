"""The training loop of teachers and students, for images and precomputed features."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from kdbench.api.draws import derive_seed
from kdbench.training.average import moving_average
from kdbench.training.checkpoint import Checkpointer, Position
from kdbench.training.compiled import Compiled
from kdbench.training.data import (
    FeatureSource,
    ImageSource,
    TrainingBatch,
    generator_for,
    make_batch,
    shuffled,
    streamed,
)
from kdbench.training.optimizer import Recipe, learning_rate, make_optimizer, trained_parameters
from kdbench.training.outputs import Anatomy, NetworkOutputs
from kdbench.training.precision import autocast
from kdbench.training.setup import NO_TEACHER

if TYPE_CHECKING:
    from kdbench.training.teaching import Teaching

Loss = torch.Tensor | Mapping[str, torch.Tensor]


class Diverged(RuntimeError):
    """A loss that is not finite."""


@dataclass
class Run:
    """What a scheme sees of its training (`kdbench.api.SchemeRun`).

    Attributes
    ----------
    teaching
        What the engine has of a teacher.
    anatomy
        Of the student, for schemes that read its activations.
    images
        Given out so far; another view of an image counts as the same one.
    """

    student: nn.Module
    epochs: int
    batch_size: int
    seed: int
    labelled_source: ImageSource | FeatureSource
    labels: torch.Tensor
    unlabelled_source: ImageSource | None = None
    teaching: Teaching | None = None
    anatomy: Anatomy | None = None
    n_classes: int = 0
    modules: nn.Module | None = None
    ema: nn.Module | None = None
    epoch: int = 0
    step: int = 0
    progress: float = 0.0
    images: int = field(default=0, repr=False)
    passes: int = field(default=0, repr=False)
    views: int = field(default=0, repr=False)

    def _generator(self, which: str) -> torch.Generator:
        # from (seed, epoch, pass) alone, so that resuming at an epoch draws what an uninterrupted run draws
        self.passes += 1
        return generator_for(self.seed, "order", which, self.epoch, self.passes)

    def _counted(self, batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        for batch in batches:
            self.images += len(batch.positions)
            yield batch

    def _pool(self) -> ImageSource:
        if self.unlabelled_source is None:
            raise RuntimeError('the scheme reads unlabelled images; its spec must need "unlabelled"')
        return self.unlabelled_source

    @property
    def n_unlabelled(self) -> int:
        return 0 if self.unlabelled_source is None else len(self.unlabelled_source)

    def labelled(self, batch_size: int | None = None) -> Iterator[TrainingBatch]:
        size, generator = batch_size or self.batch_size, self._generator("labelled")
        return self._counted(shuffled(self.labelled_source, self.labels, size, generator))

    def unlabelled(self, batch_size: int | None = None) -> Iterator[TrainingBatch]:
        pool = self._pool()
        size, generator = batch_size or self.batch_size, self._generator("unlabelled")
        return self._counted(shuffled(pool, None, size, generator))

    def labelled_stream(self, batch_size: int | None = None) -> Iterator[TrainingBatch]:
        size, generator = batch_size or self.batch_size, self._generator("labelled stream")
        return self._counted(streamed(self.labelled_source, self.labels, size, generator))

    def unlabelled_stream(self, batch_size: int | None = None) -> Iterator[TrainingBatch]:
        pool = self._pool()
        size, generator = batch_size or self.batch_size, self._generator("unlabelled stream")
        return self._counted(streamed(pool, None, size, generator))

    def another_view(self, batch: TrainingBatch) -> TrainingBatch:
        assert batch.source is not None
        self.views += 1
        generator = generator_for(self.seed, "views", self.epoch, self.views)
        view = batch.source.augmentation.draw(len(batch.positions), generator)
        other = make_batch(batch.source, None, batch.positions, view)
        return TrainingBatch(other.images, batch.labels, batch.index, view, batch.positions, batch.source)

    def augmented(
        self, batch: TrainingBatch, augment: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        source = batch.source
        if not isinstance(source, ImageSource):
            raise RuntimeError("features that were computed once can't be augmented")
        with torch.no_grad(), torch.autocast(torch.device(source.device).type, enabled=False):
            images = augment(source.raw(batch.positions, batch.view))
            if images.dtype != torch.uint8 or images.shape != batch.images.shape:
                raise TypeError(
                    f"an augmentation returned {images.dtype} {tuple(images.shape)} for uint8 "
                    f"{tuple(batch.images.shape)}"
                )
            return source.normalised(images)

    def forward(self, images: torch.Tensor) -> NetworkOutputs:
        if self.anatomy is None:
            raise RuntimeError("this training knows no taps")
        student = self.student.network if isinstance(self.student, Compiled) else self.student
        return self.anatomy.forward(student, images)

    def _teacher(self) -> Teaching:
        if self.teaching is None:
            raise RuntimeError(NO_TEACHER)
        return self.teaching

    def teacher_logits(self, batch: TrainingBatch) -> torch.Tensor:
        return self._teacher().logits(batch)

    def teacher_outputs(self, batch: TrainingBatch) -> NetworkOutputs:
        return self._teacher().outputs(batch)

    def teachers_logits(self, batch: TrainingBatch) -> torch.Tensor:
        return self._teacher().all_logits(batch)


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
    """What a training leaves: curves by epoch, what it cost, what the scheme says at its end."""

    history: dict[str, list[float]]
    images: int
    steps: int
    figures: Mapping[str, float] = field(default_factory=dict)


class _Randomness:
    """PyTorch's own generators as one training sees them, so that several may take turns in a process."""

    def __init__(self, device: str) -> None:
        self._cuda = torch.device(device) if device.startswith("cuda") else None
        self._states: list[torch.Tensor] = []

    def _get(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        return states if self._cuda is None else [*states, torch.cuda.get_rng_state(self._cuda)]

    def _set(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self._cuda is not None:
            torch.cuda.set_rng_state(states[1], self._cuda)

    @contextmanager
    def __call__(self, seed: int | None = None) -> Iterator[None]:
        outside = self._get()
        if seed is not None:
            torch.manual_seed(seed)
        elif self._states:
            self._set(self._states)
        try:
            yield
        finally:
            self._states = self._get()
            self._set(outside)


def train(run: Run, scheme: _Scheme, recipe: Recipe, **more: Any) -> Trained:
    """Train `run.student` in place; arguments as `training_steps` has them."""
    steps = training_steps(run, scheme, recipe, **more)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def training_steps(
    run: Run,
    scheme: _Scheme,
    recipe: Recipe,
    *,
    precision: str,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    eval_every: int = 0,
    checkpoints: Path | None = None,
    save_every: float = 10.0,
    progress: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Generator[None, None, Trained]:
    """Train `run.student` in place, pausing after each optimiser step, so that several can take turns.

    Every random draw depends on the seed and the epoch alone, and checkpoints hold all that lives across
    epochs, so a training that is resumed ends with the same weights as one that was not interrupted.

    A recipe with `steps` has so many optimiser steps in all, spread evenly over its epochs: the scheme's epoch
    is begun anew, or broken off, to make the number. Without it an epoch is what the scheme makes of it.

    Parameters
    ----------
    run
        The training.
    scheme
        The scheme.
    recipe
        The recipe.
    precision
        "float32" or "bfloat16".
    evaluate
        Called after every `eval_every` epochs (0: none of them) and after the last; its numbers join the history, NaN
        standing for the epochs between.
    eval_every
        Evaluate every so many epochs; 0 for the end only.
    checkpoints
        a folder to save to now and then, and to resume from.
    save_every
        Seconds between two saves, which are made at the ends of epochs.
    progress
        Called after each epoch with the images seen in it and the epoch's mean losses.

    Returns
    -------
    Trained
        Histories and counts.

    Raises
    ------
    Diverged
        a mean loss of an epoch is not finite.
    """
    student, device = run.student, run.labelled_source.device
    average = _average(run, scheme)
    if recipe.compile:
        run.student = Compiled(student, run.batch_size, device)
    parameters = trained_parameters(student, run.modules)
    optimizer = make_optimizer(recipe, parameters)
    networks = {"student": student, "modules": run.modules, "average": run.ema}
    history: dict[str, list[float]] = {}
    start = 0
    saver = None
    if checkpoints:
        known = {name: m for name, m in networks.items() if m is not None}
        saver = Checkpointer(checkpoints, known, optimizer, parameters, seconds=save_every)
        if resumed := saver.load():
            start, history = resumed.epoch, resumed.history
            run.images, run.step = resumed.images, resumed.steps
    randomness = _Randomness(device)
    for epoch in range(start, recipe.epochs):
        run.epoch, run.passes, run.views = epoch, 0, 0
        seen = run.images
        student.train()
        if run.modules is not None:
            run.modules.train()
        sums: dict[str, tuple[torch.Tensor, int]] = {}
        losses = _epoch_losses(scheme, run, recipe)
        seed: int | None = derive_seed(run.seed, "epoch", epoch) % 2**63  # of dropout's draws, say
        rate = math.nan  # of the last step
        while True:
            run.progress = run.step / recipe.steps if recipe.steps else epoch / recipe.epochs
            with randomness(seed):
                seed = None
                with autocast(precision, device):  # the generator's body runs in here
                    loss = next(losses, None)
                if loss is None:
                    break
                rate = learning_rate(recipe, epoch, run.progress)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                _step(loss, optimizer, sums, device)
            if average is not None:
                average.update_parameters(student)
            run.step += 1
            yield
        means = {name: float(total) / n for name, (total, n) in sums.items()}  # the epoch's one wait
        bad = {k: v for k, v in means.items() if not math.isfinite(v)}
        if bad:
            raise Diverged(f"loss {bad} in epoch {epoch + 1} of {recipe.epochs} (learning rate {rate:g})")
        row = {f"loss.{k}": v for k, v in means.items()} | {"learning_rate": rate}
        last = epoch + 1 == recipe.epochs
        figures = _finish(scheme, run, randomness) if last else {}
        if evaluate and (last or (eval_every and (epoch + 1) % eval_every == 0)):
            row |= evaluate()
        for name in set(history) | set(row):
            history.setdefault(name, [math.nan] * epoch).append(row.get(name, math.nan))
        if progress:
            progress(run.images - seen, means)
        if last:
            return Trained(history, run.images, run.step, figures)
        if saver:
            saver.maybe_save(Position(epoch + 1, history, run.images, run.step))
    return Trained(history, run.images, run.step)


def _average(run: Run, scheme: _Scheme) -> AveragedModel | None:
    """The moving average of a scheme that says how fast one moves; `run.ema` is its network."""
    decay = getattr(scheme, "ema_decay", None)
    if decay is None:
        return None
    average = moving_average(run.student, decay)
    run.ema = average.module
    return average


def _epoch_losses(scheme: _Scheme, run: Run, recipe: Recipe) -> Iterator[Loss]:
    """The losses of an epoch; with a fixed number of steps exactly as many as this epoch's share."""
    if not recipe.steps:
        yield from scheme.epoch(run)
        return
    left = recipe.steps * (run.epoch + 1) // recipe.epochs - recipe.steps * run.epoch // recipe.epochs
    while left:
        before = left
        for loss in scheme.epoch(run):
            yield loss
            left -= 1
            if not left:
                return
        if left == before:  # a scheme that takes no steps
            return


def _step(
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    sums: dict[str, tuple[torch.Tensor, int]],
    device: str,
) -> None:
    """One optimiser step; the terms are added to `sums`, which stay on the device."""
    terms = loss if isinstance(loss, Mapping) else {"loss": loss}
    first, *rest = terms.values()
    total = sum((t.float() for t in rest), first.float())
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    for name, term in terms.items():
        before, n = sums.get(name, (torch.zeros((), device=device), 0))
        sums[name] = (before + term.detach().float(), n + 1)


def _finish(scheme: _Scheme, run: Run, randomness: _Randomness) -> dict[str, float]:
    finish = getattr(scheme, "finish", None)
    if finish is None:
        return {}
    with randomness(), torch.no_grad():
        run.progress = 1.0
        return {k: float(v) for k, v in (finish(run) or {}).items()}
