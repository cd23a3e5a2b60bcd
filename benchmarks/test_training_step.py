"""What a training is made of, at batch 64: optimiser steps of WRN-28-1, a teacher's targets, features.

Compare the rows of one run with each other: on a shared machine absolute times mean little. Where a figure is to be
met, the case times its counterpart before each of its own rounds, and the median of the rounds' ratios is in
`extra_info` (and printed with -s).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import _engine
from _engine import FLIPS, noise
from plain_loop import bare_loop, plain_loop

from kdbench.training.evaluate import activations, predict
from kdbench.training.precision import channels_last, cpu_has_bfloat16

BATCH, STEPS = 64, 4
PRECISIONS = ["bfloat16", "float32"]


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    if request.param == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    return request.param


def _engine_epoch(precision: str, *, distilled: bool = False) -> Callable[[], None]:
    """An epoch of the engine; `distilled`: cross-entropy and KL to targets that are there already."""
    data = noise(BATCH * STEPS)
    source, how = _engine.source(data, FLIPS), _engine.recipe(1)
    model = _engine.student_network()
    ask = _engine.targets(_engine.student_network(1), source, precision) if distilled else None
    scheme = _engine.Hinton() if distilled else None
    return lambda: _engine.fit(
        _engine.training(model, source, data.labels, how, teacher=ask), how, precision, scheme=scheme
    )


def _bare_epoch(precision: str) -> Callable[[], None]:
    data, model = noise(BATCH * STEPS), _engine.student_network()
    return lambda: bare_loop(model, data, 1, precision)


def _plain_epoch() -> Callable[[], None]:
    data, model = noise(BATCH * STEPS), _engine.student_network()
    return lambda: plain_loop(model, data, 1)


def _beside(
    benchmark: Any, name: str, call: Callable[[], Any], other: Callable[[], Any], rounds: int
) -> None:
    """Benchmark `call`, and `other` just before each round of it."""
    others: list[float] = []
    warm = 2

    def before() -> None:
        started = time.perf_counter()
        other()
        others.append(time.perf_counter() - started)

    for _ in range(warm):
        other()
        call()
    benchmark.pedantic(call, setup=before, rounds=rounds)
    ratios = [mine / theirs for mine, theirs in zip(benchmark.stats.stats.data, others, strict=True)]
    benchmark.extra_info[name] = round(statistics.median(ratios), 3)
    benchmark.extra_info[f"{name}, range"] = [round(min(ratios), 3), round(max(ratios), 3)]
    print(f"\n{name}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def _images_per_second(benchmark: Any, n: int) -> None:
    benchmark.extra_info["images_per_second"] = round(n / benchmark.stats["median"])


@pytest.mark.benchmark(group=f"WRN-28-1, {STEPS} steps of {BATCH} images")
def test_engine_against_bare_loop(benchmark: Any, precision: str) -> None:
    """At most 1.03 times the time of a loop with the same tricks and nothing else."""
    _beside(benchmark, "over the bare loop", _engine_epoch(precision), _bare_epoch(precision), rounds=11)
    _images_per_second(benchmark, BATCH * STEPS)


@pytest.mark.benchmark(group=f"WRN-28-1, {STEPS} steps of {BATCH} images")
def test_distillation_step_against_supervised_step(benchmark: Any, precision: str) -> None:
    """With targets computed ahead, at most 1.1 times the time of a supervised step."""
    distilled = _engine_epoch(precision, distilled=True)
    _beside(benchmark, "over a supervised step", distilled, _engine_epoch(precision), rounds=11)
    _images_per_second(benchmark, BATCH * STEPS)


@pytest.mark.benchmark(group=f"WRN-28-1, {STEPS} steps of {BATCH} images")
def test_plain_loop(benchmark: Any) -> None:
    """What one writes first: a DataLoader over PIL images, NCHW, float32, the optimiser as it comes."""
    benchmark.pedantic(_plain_epoch(), rounds=5, warmup_rounds=1)
    _images_per_second(benchmark, BATCH * STEPS)


@pytest.mark.benchmark(group="ResNet-18's targets for 128 images in 2 views")
def test_targets(benchmark: Any, precision: str) -> None:
    data = noise(128)
    source = _engine.source(data, FLIPS)
    teacher = channels_last(_engine.teacher_network(), "cpu")
    benchmark.pedantic(lambda: _engine.targets(teacher, source, precision), rounds=3, warmup_rounds=1)
    _images_per_second(benchmark, 2 * len(data))


@pytest.mark.benchmark(group="WRN-28-1's activations at five taps for 256 images")
def test_features(benchmark: Any, precision: str) -> None:
    """Against logits alone: what catching, converting and writing activations costs."""
    from kdbench_networks.wide_resnet import TAPS

    source = _engine.source(noise(256))
    model = channels_last(_engine.student_network(), "cpu")
    written: dict[str, np.ndarray] = {}

    def allocate(tap: str, shape: tuple[int, int], dtype: type[np.floating]) -> np.ndarray:
        return written.setdefault(tap, np.empty(shape, dtype))

    def features() -> None:
        activations(model, source, TAPS, precision=precision, allocate=allocate)

    def logits() -> torch.Tensor:
        return predict(model, source, precision=precision)

    _beside(benchmark, "over logits alone", features, logits, rounds=5)
    _images_per_second(benchmark, 256)
