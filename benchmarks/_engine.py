"""What the benchmarks train, and the one place where they touch the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from kdbench.api import Normalization
from kdbench.training.data import NO_AUGMENTATION, Augmentation, ImageSource
from kdbench.training.evaluate import accuracy, predict
from kdbench.training.loop import Run, Supervised, train
from kdbench.training.precision import channels_last
from kdbench.training.teaching import KnownLogits, Teaching

#: CIFAR-100's training images.
NORMALIZATION = Normalization((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
FLIPS = Augmentation(flip=True)


@dataclass(frozen=True)
class Images:
    """uint8 (n, 32, 32, 3) and int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int) -> Images:
        return Images(self.images[:n], self.labels[:n])


def noise(n: int, n_classes: int = 100) -> Images:
    """Random pixels, for what is timed alone."""
    rng = np.random.default_rng(0)
    return Images(
        rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), rng.integers(0, n_classes, n).astype(np.int64)
    )


def student_network(seed: int = 0, n_classes: int = 100) -> nn.Module:
    """WRN-28-1 with the weights of `seed`, as PyTorch lays them out."""
    from kdbench_networks.wide_resnet import WideResNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WideResNet(depth=28, width=1).build(n_classes, (32, 32, 3))


def teacher_network(seed: int = 0, n_classes: int = 100) -> nn.Module:
    """ResNet-18 with the stem that is usual for 32 x 32 images: 3x3, stride 1, no pooling; 11.2 M parameters."""
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = resnet18(num_classes=n_classes)
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()  # type: ignore[assignment]
        return model


class InDouble(nn.Module):
    """A network that computes in float64 from the very pixels, for gates.

    A ReLU that falls on the other side of 0 changes the gradient by a jump: 1e-7 between two ways to normalise an
    image end as 1e-3 between the gradients at the first step, which would hide a wrong loop as well.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()
        self.mean, self.std = (
            torch.tensor(v, dtype=torch.float64)[:, None, None]
            for v in (NORMALIZATION.mean, NORMALIZATION.std)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = ((images.double() * self.std + self.mean) * 255).round()
        return self.network((pixels / 255 - self.mean) / self.std)


def recipe(
    epochs: int, *, batch_size: int = 64, learning_rate: float = 0.05, schedule: str = "constant"
) -> Any:
    """SGD with momentum 0.9 and decay 5e-4; by default at one rate, so that a run's first epochs are those of a
    shorter run."""
    return SimpleNamespace(
        epochs=epochs, steps=None, batch_size=batch_size, optimizer="sgd", learning_rate=learning_rate,
        momentum=0.9, nesterov=False, weight_decay=5e-4, weight_decay_on="all", schedule=schedule,
        decay_every=60, decay_factor=0.2, compile=False,
    )  # fmt: skip


class Hinton:
    """alpha * cross-entropy + (1 - alpha) * T^2 * KL(teacher || student) on labelled images: what torchdistill
    calls `KDLoss`."""

    def __init__(self, *, temperature: float = 4.0, alpha: float = 0.1) -> None:
        self.temperature, self.alpha = temperature, alpha

    def epoch(self, run: Any) -> Any:
        """Yield {"cross_entropy": ..., "kl": ...} for every labelled batch."""
        from kdbench_lee2021.schemes import kl_divergence

        for batch in run.labelled():
            logits = run.student(batch.images)
            soft = kl_divergence(
                logits, run.teacher_logits(batch), temperature=self.temperature, t2_scaling=True
            )
            wide = logits if logits.element_size() == 8 else logits.float()
            hard = nn.functional.cross_entropy(wide, batch.labels)
            yield {"cross_entropy": self.alpha * hard, "kl": (1 - self.alpha) * soft}


def source(data: Images, augmentation: Augmentation = NO_AUGMENTATION) -> ImageSource:
    return ImageSource(data.images, np.arange(len(data)), NORMALIZATION, augmentation=augmentation)


def targets(teacher: nn.Module, images: ImageSource, precision: str) -> Callable[[Any], torch.Tensor]:
    """The teacher's logits for every view, computed now; gives those of a batch."""
    views = range(images.augmentation.n_views)
    logits = torch.stack([predict(teacher, images, precision=precision, view=view) for view in views])
    return KnownLogits(logits, images.rows, len(images))


def live(teacher: nn.Module, precision: str) -> Callable[[Any], torch.Tensor]:
    """The teacher's logits for a batch, computed when asked for."""
    from kdbench.training.precision import autocast

    teacher.eval()

    def logits(batch: Any) -> torch.Tensor:
        with torch.no_grad(), autocast(precision, "cpu"):
            return teacher(batch.images).float()

    return logits


def training(
    model: nn.Module,
    images: ImageSource,
    labels: np.ndarray,
    how: Any,
    *,
    seed: int = 0,
    teacher: Callable[[Any], torch.Tensor] | None = None,
) -> Run:
    """A training by the engine; `model` is changed in place."""
    return Run(
        student=channels_last(model, "cpu"), epochs=how.epochs, batch_size=how.batch_size, seed=seed,
        labelled_source=images, labels=torch.as_tensor(labels),
        teaching=None if teacher is None else Teaching(teacher), n_classes=100,
    )  # fmt: skip


def fit(
    run: Run,
    how: Any,
    precision: str,
    *,
    scheme: Any = None,
    progress: Callable[[int, Mapping[str, float]], None] | None = None,
) -> None:
    train(run, scheme or Supervised(), how, precision=precision, progress=progress)


def test_accuracy(model: nn.Module, data: Images, precision: str) -> float:
    """Top-1, 0..1, as stages measure it."""
    return accuracy(predict(model, source(data), precision=precision), torch.as_tensor(data.labels))
