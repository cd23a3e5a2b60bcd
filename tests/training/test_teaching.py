"""What a teacher tells: looked up, from a cache, live."""

from __future__ import annotations

import multiprocessing
import resource

import numpy as np
import pytest
import torch
from torch import nn

from kdbench.api import Normalization
from kdbench.training.data import Augmentation, ImageSource, TrainingBatch, generator_for, shuffled
from kdbench.training.outputs import Anatomy
from kdbench.training.teaching import FILL_BATCH, CachedLogits, KnownLogits, LiveTeacher, Teaching, ViewCache

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
NORM = Normalization((0.5,) * 3, (0.25,) * 3)


def teacher(precision: str = "float32", shift: int = 1) -> LiveTeacher:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 7)
    ).to(memory_format=torch.channels_last)
    source = ImageSource(IMAGES, np.arange(50), NORM, augmentation=Augmentation(True, shift))
    return LiveTeacher(model, source, Anatomy({"A": "2"}, "4"), precision)


def batches(shift: int = 1, rows=None, size: int = 13):
    source = ImageSource(
        IMAGES, np.arange(50) if rows is None else rows, NORM, augmentation=Augmentation(True, shift)
    )
    return list(shuffled(source, None, size, generator_for("x")))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_cache_tells_what_the_live_teacher_says_in_half_precision(tmp_path, precision):
    live = teacher(precision)
    rows = torch.arange(5, 50)
    cache = ViewCache(tmp_path / "logits", (18, 45, 7))
    cached = CachedLogits(cache, lambda: teacher(precision), rows, 50)
    for batch in batches(rows=rows.numpy()):
        told, said = cached(batch), live(batch)
        tolerance = 2e-3 if precision == "float32" else 2e-2
        torch.testing.assert_close(told, said, atol=tolerance, rtol=tolerance)
        assert torch.equal(cached(batch), told)  # as they were kept


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_kept_of_an_image_does_not_depend_on_what_is_missing_beside_it(tmp_path, precision):
    (everything,) = batches(size=50)

    def kept(name: str, size: int) -> torch.Tensor:
        file = ViewCache(tmp_path / name, (18, 50, 7))
        cached = CachedLogits(file, lambda: teacher(precision), torch.arange(50), 50)
        found = [cached(_part(everything, at)) for at in torch.arange(50).split(size)]
        return torch.cat(found)

    whole = kept("whole", 50)
    for size in (1, 13, 16):
        assert torch.equal(kept(str(size), size), whole), size


def _part(batch: TrainingBatch, at: torch.Tensor) -> TrainingBatch:
    parts = (batch.images[at], None, batch.index[at], batch.view[at], batch.positions[at], batch.source)
    return TrainingBatch(*parts)


def test_a_full_cache_never_makes_the_teacher(tmp_path):
    def make_first() -> LiveTeacher:
        return teacher()

    def make_second() -> LiveTeacher:
        raise AssertionError("the teacher was made though everything is there")

    cache = tmp_path / "logits"
    first = CachedLogits(ViewCache(cache, (18, 50, 7)), make_first, torch.arange(50), 50)
    second = CachedLogits(ViewCache(cache, (18, 50, 7)), make_second, torch.arange(50), 50)
    for batch in batches():
        assert torch.equal(first(batch), second(batch))
    assert first.teacher.forwards == sum(-(-len(b.index) // FILL_BATCH["cpu"]) for b in batches())


def test_an_entry_that_was_half_written_reads_as_missing(tmp_path):
    cache = ViewCache(tmp_path / "logits", (2, 4, 5))
    view, place = np.array([0, 1]), np.array([3, 2])
    logits = RNG.standard_normal((2, 5)).astype(np.float16)
    assert not cache.read(view, place)[1].any()
    cache.write(view, place, logits)
    told, there = cache.read(view, place)
    assert there.all()
    assert np.array_equal(told, logits)
    assert not cache.read(1 - view, place)[1].any()
    written = np.memmap(tmp_path / "logits", np.uint16, "r+", shape=(2, 4, 6))
    written[0, 3, 2] ^= 1  # a bit of one logit
    assert cache.read(view, place)[1].tolist() == [False, True]
    zeros = np.zeros((2, 5), np.float16)  # not to be taken for empty
    cache.write(view, place, zeros)
    assert cache.read(view, place)[1].all()


def test_a_disk_without_room_is_an_error_and_not_the_end_of_the_process(tmp_path):
    cache = ViewCache(tmp_path / "logits", (3, 100, 7))
    logits = np.ones((2, 7), np.float16)
    cache.write(np.array([0, 0]), np.array([0, 1]), logits)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # stands for the disk that is full
    try:
        with pytest.raises(OSError, match="File too large"):
            cache.write(np.array([2, 2]), np.array([98, 99]), logits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found, there = cache.read(np.array([0, 0, 2]), np.array([0, 1, 99]))
    assert there.tolist() == [True, True, False]
    assert (found[:2] == 1).all()


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_logits_beyond_half_precision_are_refused(tmp_path, value):
    cache = ViewCache(tmp_path / "logits", (1, 1, 2))
    with pytest.raises(OverflowError, match="half precision"):
        cache.write(np.array([0]), np.array([0]), np.array([[0.0, value]], np.float16))


def _fill(folder, which: int) -> None:
    torch.set_num_threads(1)
    cached = CachedLogits(ViewCache(folder / "logits", (18, 50, 7)), teacher, torch.arange(50), 50)
    for batch in batches(size=7 + which):
        cached(batch)


def test_two_processes_fill_one_cache(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_fill, args=(tmp_path, i)) for i in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    alone = CachedLogits(ViewCache(tmp_path / "alone", (18, 50, 7)), teacher, torch.arange(50), 50)
    together = CachedLogits(ViewCache(tmp_path / "logits", (18, 50, 7)), teacher, torch.arange(50), 50)
    for batch in batches(size=13):
        assert torch.equal(alone(batch), together(batch))


def test_a_live_teacher_looks_once_at_what_it_is_asked_twice():
    live = teacher()
    one, two, three = batches()[:3]
    assert live.outputs(one) is live.outputs(one)
    assert live.forwards == 1
    for _ in range(3):  # the steps of three students in lockstep, of two batches each
        live.outputs(one)
        live.outputs(two)
    assert live.forwards == 2
    live.outputs(three)
    live.outputs(two)
    assert live.forwards == 3
    live.outputs(one)  # no more than the last two are kept
    assert live.forwards == 4
    assert not live.outputs(one).features["A"].requires_grad
    assert live.outputs(one).features["A"].shape[1:] == (16, 8, 8)
    assert torch.equal(live.outputs(one).penultimate, live.outputs(one).features["A"].flatten(1))
    assert not live.model.training


def test_what_a_teaching_lacks_is_refused():
    logits = torch.arange(2 * 50 * 7.0).reshape(2, 50, 7)
    known = KnownLogits(logits, torch.arange(50), 50)
    (batch,) = batches(shift=0, size=50)
    told = Teaching(logits=known).logits(batch)
    assert torch.equal(told, logits[batch.view, batch.index])
    assert torch.equal(Teaching(several=[known, known]).all_logits(batch), torch.stack([told, told]))
    with pytest.raises(RuntimeError, match="several_teachers"):
        Teaching(logits=known).all_logits(batch)
    with pytest.raises(RuntimeError, match="teacher_features"):
        Teaching(logits=known).outputs(batch)
    with pytest.raises(RuntimeError, match="teacher_logits"):
        Teaching(several=[known]).logits(batch)
