"""One optimiser step of WRN-28-1 at batch 64, through the engine, in each precision; and as a plain loop.

Compare the rows of one run with each other: on a shared machine absolute times mean little.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdbench.api import Normalization
from kdbench.training.data import Augmentation, ImageSource
from kdbench.training.loop import Run, Supervised, train
from kdbench.training.precision import channels_last, cpu_has_bfloat16

BATCH, STEPS = 64, 4
NORMALIZATION = Normalization((0.507, 0.487, 0.441), (0.267, 0.256, 0.276))


def _network() -> torch.nn.Module:
    from kdbench_networks.wide_resnet import WideResNet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WideResNet(depth=28, width=1).build(100, (32, 32, 3))


def _images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    n = BATCH * STEPS
    return rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), rng.integers(0, 100, n)


def _engine(precision: str):
    images, labels = _images()
    source = ImageSource(images, np.arange(len(images)), NORMALIZATION, augmentation=Augmentation(flip=True))
    run = Run(
        student=channels_last(_network(), "cpu"), epochs=1, batch_size=BATCH, seed=0, labelled_source=source,
        labels=torch.as_tensor(labels),
    )  # fmt: skip
    recipe = SimpleNamespace(
        epochs=1, batch_size=BATCH, learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=5e-4,
        schedule="constant", decay_every=60, decay_factor=0.2,
    )  # fmt: skip
    return lambda: train(run, Supervised(), recipe, precision=precision)


def _plain():
    """As one writes it first: NCHW, float32, the default optimiser."""
    images, labels = _images()
    model = _network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    mean, std = (torch.tensor(v)[:, None, None] for v in (NORMALIZATION.mean, NORMALIZATION.std))
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    y = torch.as_tensor(labels)

    def epoch() -> None:
        for i in torch.randperm(len(x)).split(BATCH):
            batch = (x[i].float() / 255 - mean) / std
            flip = torch.rand(len(batch)) < 0.5
            batch[flip] = batch[flip].flip(-1)
            loss = torch.nn.functional.cross_entropy(model(batch), y[i])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


@pytest.mark.benchmark(group=f"WRN-28-1, {STEPS} steps of {BATCH} images")
@pytest.mark.parametrize("how", ["engine-bfloat16", "engine-float32", "plain-nchw-float32"])
def test_training_step(benchmark, how: str) -> None:
    if how == "engine-bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    call = _plain() if how.startswith("plain") else _engine(how.removeprefix("engine-"))
    benchmark.pedantic(call, rounds=7, warmup_rounds=2)
    benchmark.extra_info["images_per_second"] = round(BATCH * STEPS / benchmark.stats["median"])
