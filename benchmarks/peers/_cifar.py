"""CIFAR-100 and a teacher for the peers of training."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from _engine import (
    FLIPS,
    NORMALIZATION,
    Images,
    fit,
    recipe,
    source,
    teacher_network,
    test_accuracy,
    training,
)

#: Ignored by git.
KEPT = Path(__file__).parent / ".benchmarks"


def cifar100(n_train: int, n_test: int) -> tuple[Images, Images]:
    """Balanced, seeded draws of CIFAR-100's training and test images, through kdbench's own loader ($KDBENCH_DATA).

    Raises:
        kdbench.errors.DataError: the files are not there.
    """
    from kdbench.locations import data_places
    from kdbench_datasets.cifar import Cifar100

    data = Cifar100().load(data_places())
    return _draw(data.train, n_train), _draw(data.test, n_test)


def _draw(split, n: int) -> Images:
    """The first n / 100 images of each class, in a seeded order."""
    labels = np.asarray(split.labels)
    rows = np.concatenate([np.flatnonzero(labels == c)[: n // 100] for c in range(100)])
    rows = np.random.default_rng(0).permutation(rows)
    return Images(np.ascontiguousarray(split.images[rows]), labels[rows])


def teacher(n_images: int, epochs: int, test: Images) -> tuple[nn.Module, float]:
    """A ResNet-18 trained by the engine in float32, kept in a file for the next call, and its accuracy on
    `test`."""
    from safetensors.torch import load_file, save_file

    file = KEPT / f"resnet18-{n_images}-{epochs}.safetensors"
    model = teacher_network()
    if file.is_file():
        model.load_state_dict(load_file(file))
    else:
        started = time.perf_counter()
        train_images, _ = cifar100(n_images, 100)
        how = recipe(epochs, schedule="cosine")
        fit(training(model, source(train_images, FLIPS), train_images.labels, how), how, "float32")
        KEPT.mkdir(exist_ok=True)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, file)
        print(f"trained the teacher in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    model = model.to(memory_format=torch.contiguous_format).eval()
    return model, test_accuracy(model, test, "float32")


class PilImages(torch.utils.data.Dataset):
    """Images as torchvision's datasets give them out, each through PIL and its transforms."""

    def __init__(self, data: Images, *, flip: bool) -> None:
        from torchvision import transforms

        steps = [transforms.ToTensor(), transforms.Normalize(NORMALIZATION.mean, NORMALIZATION.std)]
        self.transform = transforms.Compose([transforms.RandomHorizontalFlip(), *steps] if flip else steps)
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.data.images[i])), int(self.data.labels[i])


def same_within_seeds(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the means over the seeds are no further apart than the seeds of the side where they differ more."""
    spread = max(max(one) - min(one), max(other) - min(other))
    return abs(statistics.mean(one) - statistics.mean(other)) <= spread
