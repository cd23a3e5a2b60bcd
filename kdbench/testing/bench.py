"""A workbench for schemes: a task of 32 small images, small networks, and the real engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from kdbench.api.data import Normalization
from kdbench.api.specs import SchemeSpec
from kdbench.suite.schema import Training
from kdbench.testing.outcome import Violation
from kdbench.training.data import Augmentation, ImageSource
from kdbench.training.loop import Run, training_steps
from kdbench.training.outputs import Anatomy
from kdbench.training.precision import channels_last
from kdbench.training.setup import Setup, scheme_modules
from kdbench.training.teaching import LiveTeacher, Teaching

if TYPE_CHECKING:
    from kdbench.registry import Registry

N_CLASSES, SIDE, EPOCHS = 4, 8, 2
LABELLED, POOL = 16, 16
RECIPE: Any = Training.model_validate(
    {
        "epochs": EPOCHS,
        "batch_size": 8,
        "learning_rate": 0.05,
        "schedule": "constant",
        "shift": 2,
        "precision": "float32",
    }
)
STUDENT = {"depth": 10, "width": 1}
WIDER = {"depth": 10, "width": 2}
#: The last layer's weights of a student that is sure of what it says: schemes that ask for confidence before they
#: learn from an image find it there.
SURE = 30.0

State = Mapping[str, torch.Tensor]


@dataclass
class Outcome:
    """What a training leaves.

    Attributes:
        state: of all networks that live across epochs, by "network/name".
        history: curves by epoch. steps, images: what it took.
    """

    state: State
    history: Mapping[str, list[float]]
    steps: int
    images: int

    def differs(self, other: Outcome) -> list[str]:
        """Names of what is not the same, bit by bit."""
        names = [*self.state, *(n for n in other.state if n not in self.state)]
        wrong = [
            n
            for n in names
            if n not in self.state or n not in other.state or not torch.equal(self.state[n], other.state[n])
        ]
        for curve in sorted(set(self.history) | set(other.history)):
            mine, theirs = self.history.get(curve, ()), other.history.get(curve, ())
            if not np.array_equal(mine, theirs, equal_nan=True):
                wrong.append(f"curve {curve}")
        return wrong + [n for n in ("steps", "images") if getattr(self, n) != getattr(other, n)]


@dataclass(frozen=True)
class SchemeBench:
    """One scheme with one set of parameters, and tiny trainings of it.

    The student is WRN-10-1 on 8x8 images of four classes, 16 labelled and 16 not, in batches of 8. Its teacher is
    WRN-10-2 where the scheme reads its activations, else WRN-10-1 too; a check may ask for one like the student.
    Teachers are drawn, not trained: a check asks how a scheme uses what it is told, not whether that is wise.

    Args:
        name: of a scheme of the registry.
        params: the scheme's parameters where the defaults do not do.
        device: the bits are held to be the same on "cpu"; kernels of other devices may add in any order.
    """

    name: str
    registry: Registry
    params: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    @cached_property
    def spec(self) -> SchemeSpec:
        return cast(SchemeSpec, self.registry.spec("schemes", self.name))

    @cached_property
    def watched(self) -> Watched:
        """An ordinary training that is looked at meanwhile."""
        run = self.run()
        teachers = [(t, states_of(t)) for t in run.teachers]
        outcome = self.train(run, Watch(run.scheme))
        changed = [
            k for t, before in teachers for k in before if not torch.equal(t.state_dict()[k], before[k])
        ]
        return Watched(outcome, run, tuple(changed))

    @property
    def reference(self) -> Outcome:
        """What an ordinary training leaves."""
        return self.watched.outcome

    @cached_property
    def relabelled(self) -> Outcome:
        """What the same training leaves where the unlabelled images have other labels."""
        labels = tiny_images()[1]
        labels[LABELLED:] = (labels[LABELLED:] + 1) % N_CLASSES
        return self.train(self.run(labels=labels))

    @property
    def uses_pool(self) -> bool:
        return bool(self.spec.needs & {"unlabelled", "unlabelled_if_any"})

    @property
    def is_taught(self) -> bool:
        return bool(self.spec.needs & {"teacher_logits", "teacher_features", "several_teachers"})

    def scheme(self) -> Any:
        """A new instance."""
        return self.registry.create("schemes", self.name, dict(self.params))

    def run(
        self,
        *,
        seed: int = 0,
        labels: np.ndarray | None = None,
        pool: bool = True,
        sure: bool = False,
        student_is_teacher: bool = False,
    ) -> BenchRun:
        """Everything for a training, as a student's stage puts it together.

        Args:
            labels: int64 (32,), other labels than the task's. pool: have unlabelled images.
            sure: a student that is sure of what it says. student_is_teacher: one with its teacher's weights.
        """
        scheme = self.scheme()
        images, given = tiny_images()
        given = given if labels is None else labels
        labelled, unlabelled = np.arange(LABELLED), np.arange(LABELLED, LABELLED + POOL)
        augmentation = Augmentation(RECIPE.flip, RECIPE.shift)
        norm = Normalization((0.5,) * 3, (0.25,) * 3)

        def source(rows: np.ndarray) -> ImageSource:
            return ImageSource(images, rows, norm, augmentation=augmentation, device=self.device)

        alike = student_is_teacher or self.spec.teacher == "own" or "teacher_features" not in self.spec.needs
        like = STUDENT if alike else WIDER
        teachers = []
        if self.is_taught:
            count = scheme.teachers if "several_teachers" in self.spec.needs else 1
            everything = source(np.arange(len(images)))
            for which in range(count):
                model, anatomy = self.network(like, seed=1000 if student_is_teacher else 1000 + which)
                teachers.append(LiveTeacher(model, everything, anatomy, "float32"))
        student, anatomy = self.network(STUDENT, seed=seed)
        if student_is_teacher:
            student.load_state_dict(teachers[0].model.state_dict())
        if sure:
            with torch.no_grad():
                student.get_submodule(anatomy.head).weight.mul_(SURE)  # type: ignore[union-attr, operator]
        run = BenchRun(
            student=student,
            epochs=EPOCHS,
            batch_size=RECIPE.batch_size,
            seed=seed,
            labelled_source=source(labelled),
            labels=torch.as_tensor(given[labelled], device=self.device),
            unlabelled_source=source(unlabelled) if self.uses_pool and pool else None,
            teaching=self._teaching(teachers),
            anatomy=anatomy,
            n_classes=N_CLASSES,
            teachers=tuple(t.model for t in teachers),
            scheme=scheme,
        )
        run.modules = self._modules(scheme, run, teachers)
        return run

    def network(self, params: Mapping[str, Any], *, seed: int) -> tuple[nn.Module, Anatomy]:
        """A wide residual network with the initial weights of `seed`."""
        architecture = self.registry.create("architectures", "wide-resnet", dict(params))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = architecture.build(N_CLASSES, (SIDE, SIDE, 3))
        return channels_last(model, self.device), Anatomy.of(architecture, model)

    def _teaching(self, teachers: list[LiveTeacher]) -> Teaching | None:
        """What the spec's needs entitle the scheme to, and no more."""
        if not teachers:
            return None
        if "several_teachers" in self.spec.needs:
            live = teachers[0] if "teacher_features" in self.spec.needs else None
            return Teaching(live=live, several=teachers)
        if "teacher_features" in self.spec.needs:
            return Teaching(live=teachers[0])
        return Teaching(logits=teachers[0])

    def _modules(self, scheme: Any, run: Run, teachers: list[LiveTeacher]) -> nn.Module | None:
        assert run.anatomy is not None
        sample = run.labelled_source.batch(torch.arange(2))
        shapes, width = run.anatomy.shapes(run.student, sample)
        taught: dict[str, Any] = {}
        if "teacher_features" in self.spec.needs:
            live = teachers[0]
            shape, wide = live.anatomy.shapes(live.model, sample)
            taught = {"teacher": live.model, "teacher_features": shape, "teacher_width": wide}
        setup = Setup(
            **{"teacher": None, **taught},
            student=run.student,
            n_classes=N_CLASSES,
            n_train=LABELLED + POOL,
            n_labelled=LABELLED,
            n_unlabelled=run.n_unlabelled,
            student_features=shapes,
            student_width=width,
            build=lambda seed: self.network(STUDENT, seed=seed)[0],
            seed=run.seed,
        )
        return scheme_modules(scheme, setup, self.device)

    def train(
        self,
        run: BenchRun,
        wrapped: Any = None,
        *,
        checkpoints: Path | None = None,
        stop_after: int | None = None,
    ) -> Outcome:
        """Train with the real engine.

        Args:
            wrapped: what takes the place of the run's scheme.
            checkpoints: a folder to save to after every epoch, and to resume from.
            stop_after: break off after so many epochs.
        """
        scheme = run.scheme if wrapped is None else wrapped
        done = 0

        def count(_images: int, _losses: Mapping[str, float]) -> None:
            nonlocal done
            done += 1

        steps = training_steps(
            run, scheme, RECIPE, precision="float32", checkpoints=checkpoints, save_every=0.0, progress=count
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                trained = end.value
                break
            if done == stop_after:  # the first step of the epoch after: what was saved is the epoch before
                return Outcome({}, {}, run.step, run.images)
        return Outcome(states(run), trained.history, trained.steps, trained.images)


class Watch:
    """A scheme whose losses are looked at as they are yielded. Raises Violation where one is no finite scalar."""

    def __init__(self, scheme: Any) -> None:
        self._scheme = scheme

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheme, name)

    def epoch(self, run: Run) -> Iterator[Any]:
        for loss in self._scheme.epoch(run):
            for name, term in terms_of(loss).items():
                if not isinstance(term, torch.Tensor):
                    raise Violation(f"{name}: a scalar tensor is expected, not {type(term).__name__}")
                if term.ndim:
                    raise Violation(f"{name}: a scalar tensor is expected, not shape {tuple(term.shape)}")
                if not bool(term.isfinite()):
                    raise Violation(f"{name} is {float(term.detach())} in epoch {run.epoch + 1}")
            yield loss


@dataclass(frozen=True)
class Watched:
    """A training, and which of its teachers' weights and statistics changed."""

    outcome: Outcome
    run: BenchRun
    changed: tuple[str, ...]


@dataclass
class BenchRun(Run):
    """A run that knows its scheme, and its teachers' networks."""

    teachers: tuple[nn.Module, ...] = ()
    scheme: Any = None


def states(run: Run) -> dict[str, torch.Tensor]:
    """A copy of all that lives across epochs."""
    networks = {"student": run.student, "modules": run.modules, "average": run.ema}
    known = {which: states_of(network) for which, network in networks.items() if network is not None}
    return {f"{which}/{name}": value for which, state in known.items() for name, value in state.items()}


def states_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a network's weights and statistics."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def terms_of(loss: Any) -> Mapping[str, Any]:
    """A loss as named terms."""
    return loss if isinstance(loss, Mapping) else {"loss": loss}


def tiny_images() -> tuple[np.ndarray, np.ndarray]:
    """32 images, uint8 (32, 8, 8, 3), and their classes, int64 (32,), in turn; a class is a colour with noise."""
    rng = np.random.default_rng(20211109)
    labels = np.arange(LABELLED + POOL, dtype=np.int64) % N_CLASSES
    colours = rng.integers(60, 196, (N_CLASSES, 1, 1, 3))
    noise = rng.integers(-60, 60, (len(labels), SIDE, SIDE, 3))
    return (colours[labels] + noise).astype(np.uint8), labels
