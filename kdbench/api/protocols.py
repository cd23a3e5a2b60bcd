"""Protocols of components. A class with these members is accepted; no base class is needed.

Hyper-parameters are exactly the constructor's keyword-only annotated parameters, and a constructor only stores
and checks them (a bad value raises ValueError with the parameter, its value and what is allowed).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from kdbench.api.data import (
        DataPlaces,
        Embedding,
        ImageData,
        MetricResult,
        Neighbours,
        Normalization,
    )
    from kdbench.api.records import Outcome
    from kdbench.api.specs import Resources


@runtime_checkable
class Dataset(Protocol):
    """A dataset."""

    def load(self, places: DataPlaces) -> ImageData:
        """Find the files, decode them once, return memory-mapped arrays.

        Raises DataError if nothing found (says where it looked and what to do), or a damaged file.
        """
        ...


@runtime_checkable
class Architecture(Protocol):
    """A network family with its parameters.

    An optional member the engine uses where it exists: `for_inference(model) -> nn.Module`, a frozen copy with the
    same taps and head and, within rounding, the same outputs, which runs faster (batch normalisation folded).
    """

    def build(self, n_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        """A network from (b, c, h, w) floats to (b, n_classes) logits, for images of `input_shape` (h, w, c).

        Initial weights are drawn from torch's generator, which the engine seeds around the call. Pretrained
        weights are loaded here; a file that is missing or does not fit raises DataError.
        """
        ...

    def taps(self, model: nn.Module) -> Mapping[str, str]:
        """Tap name to module path, in the order of the forward pass; a tap is that module's output."""
        ...

    def head(self, model: nn.Module) -> str:
        """Module path of the last linear layer (what the training mode `head` trains)."""
        ...

    @property
    def normalization(self) -> Normalization | None:
        """What the network's input is normalised by; None for the dataset's own statistics."""
        ...


class Batch(Protocol):
    """One batch as a scheme sees it. `kdbench.api.moved` takes what is on the CPU to the training device."""

    images: torch.Tensor  #: (b, c, h, w) on the training device, augmented, normalised for the student
    labels: torch.Tensor | None  #: int64 (b,), there too; None for unlabelled images
    index: torch.Tensor  #: int64 (b,) on the CPU, rows of the training split
    view: torch.Tensor  #: int64 (b,) on the CPU, which of the augmentation's distinct views each image is


class Outputs(Protocol):
    """What a network says of a batch."""

    logits: torch.Tensor  #: float32 (b, n_classes)
    features: Mapping[str, torch.Tensor]  #: activations at the taps, input to output: (b, ...)
    penultimate: torch.Tensor  #: (b, d), what goes into the last linear layer


class SchemeSetup(Protocol):
    """What a scheme may look at before training, to size what it adds to it.

    Shapes leave out the batch. Where the scheme has no teacher, `teacher` is None and its shapes are empty.
    """

    student: nn.Module
    teacher: nn.Module | None  #: in evaluation mode, without gradients
    n_classes: int
    n_train: int  #: rows of the training split, which `Batch.index` counts in
    n_labelled: int
    n_unlabelled: int
    student_features: Mapping[str, tuple[int, ...]]  #: tap to shape
    teacher_features: Mapping[str, tuple[int, ...]]
    student_width: int  #: inputs of the last linear layer
    teacher_width: int

    def new_student(self, which: int = 0) -> nn.Module:
        """Another network of the student's architecture, with initial weights of its own."""
        ...


class SchemeRun(Protocol):
    """What a scheme may use while it trains a student.

    torch's global generator is seeded at the start of each epoch, so a scheme may use it.
    """

    student: nn.Module
    modules: nn.Module | None  #: what the scheme's `modules` made, on the training device
    ema: nn.Module | None  #: the moving average of the student, for schemes that need "ema"; no gradients
    n_classes: int
    n_unlabelled: int  #: images in the pool, 0 where there are none to ask for
    batch_size: int
    epoch: int  #: 0-based
    epochs: int
    step: int  #: optimiser steps done
    progress: (
        float  #: share of the training that is done, 0..1: by steps where those are fixed, else by epochs
    )

    def labelled(self, batch_size: int | None = None) -> Iterator[Batch]:
        """One shuffled pass over the labelled images, in the recipe's batches or in those of `batch_size`."""
        ...

    def unlabelled(self, batch_size: int | None = None) -> Iterator[Batch]:
        """One shuffled pass over the unlabelled images."""
        ...

    def labelled_stream(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Passes over the labelled images without end, in batches that are always full: a batch goes on with
        the next pass where one ends."""
        ...

    def unlabelled_stream(self, batch_size: int | None = None) -> Iterator[Batch]:
        """The same of the unlabelled images."""
        ...

    def another_view(self, batch: Batch) -> Batch:
        """The images of a batch in other random views of the recipe's (weak) augmentation."""
        ...

    def augmented(self, batch: Batch, augment: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Images of a batch, each in its view, through an augmentation of the scheme's own.

        Parameters
        ----------
        batch
            The batch to augment.
        augment
            From uint8 (b, c, h, w) to the same shape and dtype, on the training device.

        Returns
        -------
        torch.Tensor
            (b, c, h, w), normalised for the student.
        """
        ...

    def forward(self, images: torch.Tensor) -> Outputs:
        """The student's logits and activations, with gradients."""
        ...

    def teacher_logits(self, batch: Batch) -> torch.Tensor:
        """float32 (b, n_classes), the teacher's logits for exactly the views in `batch`; no gradient."""
        ...

    def teacher_outputs(self, batch: Batch) -> Outputs:
        """The teacher's logits and activations for exactly the views in `batch`; no gradient."""
        ...

    def teachers_logits(self, batch: Batch) -> torch.Tensor:
        """float32 (teachers, b, n_classes), for schemes that need "several_teachers"; no gradient."""
        ...


@runtime_checkable
class Scheme(Protocol):
    """How a student learns.

    Optional members the engine uses where they exist:

    - `modules(setup: SchemeSetup) -> nn.Module | None`: whatever the scheme keeps from step to step. Parameters
      (adapters, a second student) are trained beside the student's by the same optimiser; buffers (a memory
      bank, class counts) are the scheme's to change. All of it is in the checkpoints, so that a training which
      is resumed goes on as if it had not been interrupted. It is called before anything is trained, with
      weights drawn from the training's seed; ValueError where networks or layers do not fit refuses the suite.
    - `ema_decay: float`, of schemes that need "ema": after each step the average moves to
      decay * average + (1 - decay) * student. It is the average that is evaluated and kept.
    - `teachers: int`, of schemes that need "several_teachers"; `temperature: float`, at which a teacher's
      confidence is recorded; `generations: int`: so many students in a row, each the next one's teacher.
    - `minimum_at_teacher: tuple[str, ...]`: terms that are least where the student says what its teacher says;
      the conformance checks (`kdbench.testing`) hold the scheme to it.
    - `finish(run) -> Mapping[str, float] | None`: after the last epoch, before the final evaluation; may change
      the student's weights (to quantised ones, say). What it returns stands in the record by name.
    """

    def epoch(self, run: SchemeRun) -> Generator[torch.Tensor | Mapping[str, torch.Tensor], None, None]:
        """Yield one loss an optimiser step: a scalar tensor, or named terms that are summed and logged."""
        ...


@runtime_checkable
class Reducer(Protocol):
    """scikit-learn's habits: keyword-only parameters, `random_state` and `n_jobs` where they mean something.

    Optional members the engine uses where they exist:

    - `neighbours_wanted(n_samples) -> tuple[int, "euclidean" | "angular"] | None`, and then
      `fit_transform(X, neighbours=Neighbours)` gets them, exact, computed once for all that want them;
    - `loss_history_`: list of floats, one an epoch; `diagnostics_`: dict of floats;
    - `transform(X)`: only where it really maps new points.
    """

    def fit_transform(self, X: np.ndarray) -> np.ndarray:
        """float32 (n, n_features) to float32 (n, d); X is not changed."""
        ...


class View(Protocol):
    """What a metric looks through: one network on the test set, one tap of it, or one embedding of a tap."""

    labels: np.ndarray  #: int64 (n,)
    superclass_of: np.ndarray | None  #: int64 (n_classes,)
    class_names: tuple[str, ...]
    superclass_names: tuple[str, ...]
    masks: np.ndarray | None  #: bool (n, h, w); None if the dataset has none
    tap: str | None
    history: Mapping[str, list[float]]  #: training curves by epoch: "loss", "test_accuracy", ...

    @property
    def logits(self) -> np.ndarray:
        """float32 (n, n_classes): one row for each image of the view, in the order of `labels`."""
        ...

    @property
    def features(self) -> np.ndarray:
        """float32 (n, d): flattened activations at the tap."""
        ...

    @property
    def embedding(self) -> Embedding:
        """The tap's embedding."""
        ...

    @property
    def reducers(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        """The suite's reducers by label, in its order, for metrics that need "reducers".

        Each maps float32 (n, n_features) to float32 (n, d) with a fresh reducer, seeded for the cell's fold:
        the same rows give the same points.
        """
        ...

    @property
    def taps(self) -> tuple[str, ...]:
        """The taps whose activations are there, input to output."""
        ...

    def features_at(self, tap: str) -> np.ndarray:
        """float32 (n, d): flattened activations at one of `taps`."""
        ...

    @property
    def teacher(self) -> View:
        """The suite's teacher of the same budget and fold, on the same images; for metrics that need "teacher".

        With "teacher_features" it has `taps` and `features_at` too.
        """
        ...

    @property
    def independent_teacher(self) -> View | None:
        """The suite's teacher of the same budget and another fold (the one before; of the first, the second):
        other labelled images, other draws. None where the suite has one fold."""
        ...

    @property
    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight (n_classes, d) and bias (n_classes,) of the last linear layer, float32; for "head"."""
        ...

    def neighbours(self, k: int, metric: str = "euclidean") -> Neighbours:
        """Exact neighbours at the tap."""
        ...


@runtime_checkable
class Metric(Protocol):
    """A metric.

    Optional members that are asked before anything runs:

    - `neighbours_wanted(n_samples) -> tuple[int, "euclidean" | "angular"] | None`: how many neighbours it reads;
    - `needs_validation: bool`: it reads validation curves, and a suite without `data.validation` is refused;
    - `invariances: tuple[str, ...]`: what changes none of its values; the conformance checks (`kdbench.testing`) hold
      it to them: "order of images", "logits plus a constant", "logits times a constant", the same of "features" and
      of "embedding", "rotation of features", "rotation of the embedding", "stretch of the embedding".
    """

    def __call__(self, view: View) -> MetricResult: ...


class PlannedStage(Protocol):
    """A stage as an executor sees it. It pickles."""

    @property
    def key(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def component(self) -> str: ...
    @property
    def title(self) -> str: ...


class Listener(Protocol):
    """Hears of a stage while it is executed."""

    def progress(self, key: str, done: float, total: float, unit: str) -> None: ...

    def warning(self, sentence: str) -> None: ...


class Workplace(Protocol):
    """What a process executes stages with: plugins, store and datasets, kept warm from stage to stage."""

    def execute(
        self,
        stages: Sequence[PlannedStage],
        listener: Listener | None = None,
        *,
        threads: int | None = None,
    ) -> Iterator[Outcome]:
        """Execute stages that were submitted together, and yield each one's outcome as it ends.

        What a stage raises is its outcome. `threads`: that it may use; all of the context's cores by default.
        """
        ...


class ExecutorContext(Protocol):
    """What an executor is started with. It pickles, and what arrives in another process serves there as well."""

    @property
    def device(self) -> str:
        """Where networks run: "cpu", "cuda", "cuda:1", ..."""
        ...

    @property
    def cores(self) -> tuple[int, ...]:
        """Ids of the cores that stages may use."""
        ...

    def workplace(self) -> Workplace:
        """This process's place of work: one a process, made where stages are executed."""
        ...

    def resources(self, stage: PlannedStage) -> Resources:
        """What a stage asks for, in the driver's process, once the stages that it needs are done.

        `memory_gib` includes its input.
        """
        ...

    def memory_gib(self) -> float:
        """Memory that is free on this machine, or left of this process's limit, in GiB; inf if unknown."""
        ...


@runtime_checkable
class Executor(Protocol):
    """How the stages of a plan are executed.

    Its constructor's keyword-only parameters are its settings (`--executor '{ name = "x", port = 1 }'`). It
    gets `n_jobs`, what `--jobs` says, and `device` where it has parameters of these names.

    The runner submits bundles of stages whose inputs are done, in the plan's order, while fewer than `slots`
    bundles are under way; then it waits for the next outcome. All calls come from one thread. Work that no
    process survives (a worker that dies) ends as an `Outcome` with status "failed". One more member is used
    where it exists:

    - `choose(ready: Sequence[Sequence[PlannedStage]]) -> int | None`: which of the bundles that are ready to
      submit next, None to wait for an outcome first. Without it, or with nothing under way, the first.
    """

    slots: int  #: bundles under way at once, at most; read after `start`

    def start(self, context: ExecutorContext) -> None:
        """Called once, before anything else. Processes are better started when there is work for them."""
        ...

    def submit(self, stages: Sequence[PlannedStage]) -> None:
        """Take on a bundle: stages to be executed together by one process; mostly one."""
        ...

    def wait(self, listener: Listener) -> Outcome:
        """The next outcome of any stage that was submitted; outcomes of a bundle come one by one.

        What stages tell meanwhile is passed on to `listener`.
        """
        ...

    def stop(self) -> None:
        """Called once, at the end or after an interruption: end what is under way, leave no process behind."""
        ...
