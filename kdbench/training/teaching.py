"""Teacher logits: precomputed, lazily cached, or live."""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from kdbench.api.transfer import moved
from kdbench.training.data import ImageSource, TrainingBatch
from kdbench.training.outputs import Anatomy, NetworkOutputs
from kdbench.training.precision import autocast
from kdbench.training.setup import NO_TEACHER

#: Images that a teacher looks at together when missing views are filled in. Always as many, so that what is kept
#: of an image does not depend on which others were missing beside it.
FILL_BATCH = {"cpu": 16, "cuda": 256}

#: Batches of which a live teacher keeps what it said: a step of most schemes has a labelled and an unlabelled one.
KEPT_BATCHES = 2


class TeacherLogits(Protocol):
    """Logits float32 (b, n_classes) for exactly the views of a batch, on the training device."""

    def __call__(self, batch: TrainingBatch) -> torch.Tensor: ...


class LiveTeacher:
    """A teacher that looks at each batch; what it said of the last ones is kept, for students in lockstep.

    Parameters
    ----------
    model
        The teacher.
    source
        All rows of the training split, normalised for the teacher, with the student's augmentation.
    anatomy
        Finds its taps and head.
    precision
        "float32" or "bfloat16".
    """

    def __init__(self, model: nn.Module, source: ImageSource, anatomy: Anatomy, precision: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.source, self.anatomy, self.precision = source, anatomy, precision
        self._last: deque[tuple[torch.Tensor, torch.Tensor, NetworkOutputs]] = deque(maxlen=KEPT_BATCHES)
        self.forwards = 0

    def outputs(self, batch: TrainingBatch) -> NetworkOutputs:
        for index, view, outputs in self._last:
            if torch.equal(index, batch.index) and torch.equal(view, batch.view):
                return outputs
        found = self.see(batch.index, batch.view)
        self._last.append((batch.index, batch.view, found))
        return found

    @torch.no_grad()
    def see(self, index: torch.Tensor, view: torch.Tensor) -> NetworkOutputs:
        """The outputs for rows of the training split in views."""
        self.forwards += 1
        with autocast(self.precision, self.source.device):
            return self.anatomy.forward(self.model, self.source.batch(index, view))

    def __call__(self, batch: TrainingBatch) -> torch.Tensor:
        return self.outputs(batch).logits


class KnownLogits:
    """Logits that were computed for every view ahead.

    Parameters
    ----------
    logits
        float32 (views, n, n_classes).
    rows
        int64 (n,), the rows of the training split they are of.
    n_train
        Rows of the training split.
    """

    def __init__(self, logits: torch.Tensor, rows: torch.Tensor, n_train: int) -> None:
        self.logits = logits
        self.place = places(rows, n_train)

    def __call__(self, batch: TrainingBatch) -> torch.Tensor:
        device = self.logits.device
        return self.logits[moved(batch.view, device), moved(self.place[batch.index], device)]


def places(rows: torch.Tensor, n_train: int) -> torch.Tensor:
    """Where each row of the training split stands among `rows`; -1 for those that don't."""
    place = torch.full((n_train,), -1, dtype=torch.int64)
    place[rows] = torch.arange(len(rows))
    return place


class ViewCache:
    """Logits by view and image in one memory-mapped file of half precision, filled in as they are asked for.

    Several processes may read and fill it at once: what they write for an entry is the same. Each entry carries
    a check value of its own, so one that was never or only half written reads as missing.

    Parameters
    ----------
    file
        Created where it is not there; sparse, it grows on disk with what is filled.
    shape
        (views, n, n_classes).
    """

    def __init__(self, file: Path, shape: tuple[int, int, int]) -> None:
        views, n, classes = shape
        size = views * n * (classes + 1) * 2
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f".{file.name}.{os.getpid()}")
            with temporary.open("wb") as f:
                f.truncate(size)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, file)  # of two that create it at once the first one wins
            temporary.unlink()
        self._file = os.open(file, os.O_RDWR)
        weakref.finalize(self, os.close, self._file)
        if os.fstat(self._file).st_size < size:  # cut off: what is gone reads as missing
            os.ftruncate(self._file, size)
        mapped = mmap.mmap(self._file, size, access=mmap.ACCESS_READ)
        self._entries = np.frombuffer(mapped, dtype=np.uint16).reshape(views, n, classes + 1)

    @staticmethod
    def _check_value(bits: np.ndarray) -> np.ndarray:
        """uint16 in 1..65535, never the 0 of an entry that was not written."""
        return (bits.astype(np.uint32).sum(-1) % 65535 + 1).astype(np.uint16)

    def read(self, view: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float16 (b, n_classes), and bool (b,): which of them are there."""
        entries = self._entries[view, place]
        bits = np.ascontiguousarray(entries[:, :-1])
        return bits.view(np.float16), entries[:, -1] == self._check_value(bits)

    def write(self, view: np.ndarray, place: np.ndarray, logits: np.ndarray) -> None:
        """Keep float16 (b, n_classes).

        Raises OverflowError if a logit is not finite, or beyond half precision's range, and OSError if the disk is
        full.
        """
        if not np.isfinite(logits).all():
            raise OverflowError("a teacher's logits are beyond half precision's ±65504 or not finite")
        bits = np.ascontiguousarray(logits, dtype=np.float16).view(np.uint16)
        entries = np.concatenate([bits, self._check_value(bits)[:, None]], 1)
        # Not through the memory map: a page that a full disk has no room for kills the process with SIGBUS.
        offsets = np.ravel_multi_index((view, place), self._entries.shape[:2]) * entries[0].nbytes
        for entry, offset in zip(entries, offsets.tolist(), strict=True):
            os.pwrite(self._file, entry.tobytes(), offset)  # half written it reads as missing


class CachedLogits:
    """Logits from a cache; those that are not there yet are computed, kept and given out as they were kept.

    Parameters
    ----------
    cache
        Logits computed so far.
    teacher
        Makes the live teacher, when an entry is first found missing.
    rows
        int64 (n,), rows of the training split in the cache's order.
    n_train
        Number of training images.
    """

    def __init__(
        self, cache: ViewCache, teacher: Callable[[], LiveTeacher], rows: torch.Tensor, n_train: int
    ) -> None:
        self.cache = cache
        self._make = teacher
        self.place = places(rows, n_train).numpy()

    @cached_property
    def teacher(self) -> LiveTeacher:
        return self._make()

    def __call__(self, batch: TrainingBatch) -> torch.Tensor:
        view, place = batch.view.numpy(), self.place[batch.index.numpy()]
        logits, there = self.cache.read(view, place)
        missing = np.flatnonzero(~there)
        if len(missing):
            size = FILL_BATCH["cpu" if self.teacher.source.device == "cpu" else "cuda"]
            for start in range(0, len(missing), size):
                some = missing[start : start + size]
                padded = torch.from_numpy(np.resize(some, size))  # repeats them to a full batch
                seen = self.teacher.see(batch.index[padded], batch.view[padded]).logits[: len(some)]
                with np.errstate(over="ignore"):
                    kept = seen.cpu().numpy().astype(np.float16)
                self.cache.write(view[some], place[some], kept)
                logits[some] = kept
        return moved(torch.from_numpy(logits.astype(np.float32)), batch.images.device)


class Teaching:
    """What the engine has of a teacher (or several) for a student's training.

    Parameters
    ----------
    logits
        Of the teacher.
    live
        Where a scheme reads activations.
    several
        Of each of several teachers.
    """

    def __init__(
        self,
        logits: TeacherLogits | None = None,
        live: LiveTeacher | None = None,
        several: Sequence[TeacherLogits] = (),
    ) -> None:
        self._logits, self.live, self._several = logits or live, live, tuple(several)

    def logits(self, batch: TrainingBatch) -> torch.Tensor:
        if self._logits is None:
            raise RuntimeError(NO_TEACHER)
        return self._logits(batch)

    def outputs(self, batch: TrainingBatch) -> NetworkOutputs:
        if self.live is None:
            raise RuntimeError(
                'the scheme reads a teacher\'s activations; its spec must need "teacher_features"'
            )
        return self.live.outputs(batch)

    def all_logits(self, batch: TrainingBatch) -> torch.Tensor:
        if not self._several:
            raise RuntimeError('the scheme asks for several teachers; its spec must need "several_teachers"')
        return torch.stack([one(batch) for one in self._several])


def top_probability(logits: torch.Tensor, temperature: float) -> float:
    """Mean probability of the most likely class at `temperature`; 1 / n_classes when it says nothing."""
    flat = logits.reshape(-1, logits.shape[-1]).float()
    return float(torch.softmax(flat / temperature, 1).amax(1).mean())
