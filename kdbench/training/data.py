"""Images on the device as uint8, and the distinct views that the augmentation can make of one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from kdbench.api.data import Normalization
from kdbench.api.draws import derive_seed
from kdbench.api.transfer import moved


@dataclass(frozen=True)
class Augmentation:
    """Random horizontal flips and shifts.

    `fill`: what comes in from beyond the border: "zero", or "reflect" for the image mirrored there.

    A view is numbered `flip + 2 * (row_shift * (2 * shift + 1) + column_shift)` with shifts counted from
    -shift; without flips and shifts there is one view, with flips alone two, with 4-pixel shifts 162.
    """

    flip: bool = True
    shift: int = 0
    fill: Literal["zero", "reflect"] = "zero"

    @property
    def n_views(self) -> int:
        return (2 if self.flip else 1) * (2 * self.shift + 1) ** 2

    def draw(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """int64 (n,), views drawn evenly."""
        return torch.randint(self.n_views, (n,), generator=generator)

    def unchanged(self, n: int) -> torch.Tensor:
        """int64 (n,), the view that shows an image as it is stored."""
        side = 2 * self.shift + 1
        return torch.full((n,), (2 if self.flip else 1) * (self.shift * side + self.shift))

    def apply(self, images: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        """The views of (b, c, h, w) images, whatever their dtype."""
        if self.n_views == 1:
            return images
        flips = 2 if self.flip else 1
        if self.shift:
            images = self._shifted(images, view // flips)
        if self.flip:
            flipped = moved((view % 2).bool(), images.device)
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        return images

    def _shifted(self, images: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        b, _, h, w = images.shape
        s = self.shift
        place = moved(place, images.device)
        top, left = place // (2 * s + 1), place % (2 * s + 1)
        rows = top[:, None] + torch.arange(h, device=images.device)
        columns = left[:, None] + torch.arange(w, device=images.device)
        which = torch.arange(b, device=images.device)[:, None, None]
        if self.fill == "reflect":
            padded, rows, columns = images, _mirrored(rows - s, h), _mirrored(columns - s, w)
        else:
            padded = torch.nn.functional.pad(images, (s, s, s, s))
        # advanced indices around a slice put the channels last
        return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _mirrored(place: torch.Tensor, n: int) -> torch.Tensor:
    """Places beyond 0..n-1, at most n-1 away, mirrored at the first and last."""
    place = place.abs()
    return torch.where(place >= n, 2 * (n - 1) - place, place)


NO_AUGMENTATION = Augmentation(flip=False, shift=0)


def dataset_normalization(images: np.ndarray, rows: np.ndarray | None = None) -> Normalization:
    """Channel mean and standard deviation of uint8 (n, h, w, c) images scaled to 0..1 (LW 4.1; the paper is
    silent on normalisation: assumption LW-A14, statistics of the training images).

    Some 10,000 images are read, evenly spaced: the statistics differ in the fourth digit. What is kept of them is
    how often each value occurs, so that large images need no more memory than small ones.
    """
    rows = np.arange(len(images)) if rows is None else rows
    chosen = np.sort(rows)[:: max(1, len(rows) // 10_000)]
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    size = max(1, 2**22 // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(chosen), size):
        part = np.asarray(images[chosen[start : start + size]])
        counts += np.stack([np.bincount(part[..., c].ravel(), minlength=256) for c in range(channels)])
    values, n = np.arange(256) / 255, counts.sum(1)
    mean = counts @ values / n
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / n)
    return Normalization(
        tuple(round(float(m), 4) for m in mean), tuple(max(round(float(s), 4), 1e-3) for s in std)
    )


class ImageSource:
    """Images on the device, given out as normalised float32 (b, c, h, w) in channels_last.

    Parameters
    ----------
    images
        uint8 (n, h, w, c).
    rows
        The images to hold, as rows of `images`; batches name them by these rows.
    normalization
        Mean and standard deviation by channel.
    augmentation
        The augmentation.
    device
        Device of the batches.
    """

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        normalization: Normalization,
        *,
        augmentation: Augmentation = NO_AUGMENTATION,
        device: str = "cpu",
    ) -> None:
        self.rows = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        held = torch.from_numpy(np.ascontiguousarray(images[rows]))
        self.images = held.permute(0, 3, 1, 2).to(device)  # channels_last as it lies
        self.augmentation = augmentation
        self.device = device
        mean = torch.tensor(normalization.mean, device=device)[:, None, None]
        std = torch.tensor(normalization.std, device=device)[:, None, None]
        self._scale, self._offset = 1 / (255 * std), -mean / std

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: torch.Tensor, view: torch.Tensor | None = None) -> torch.Tensor:
        """The images at `positions` (0..len-1) as seen in `view`."""
        return self.normalised(self.raw(positions, view))

    def raw(self, positions: torch.Tensor, view: torch.Tensor | None = None) -> torch.Tensor:
        """The same as uint8, before they are normalised."""
        images = self.images[moved(positions, self.device)]
        return images if view is None else self.augmentation.apply(images, view)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (b, c, h, w) as networks read them: float32, in channels_last."""
        return (images * self._scale + self._offset).contiguous(memory_format=torch.channels_last)

    def in_order(self, batch_size: int, view: int = 0) -> Iterator[torch.Tensor]:
        """All images once, as stored, every one in the same view."""
        for start in range(0, len(self), batch_size):
            positions = torch.arange(start, min(start + batch_size, len(self)))
            yield self.batch(positions, torch.full((len(positions),), view) if view else None)


class FeatureSource:
    """Features computed once in place of images: one row a view and image.

    Parameters
    ----------
    features
        (views, n, d) of all images; `rows` picks those to hold.
    rows
        Rows (n,) of the features.
    augmentation
        The augmentation.
    device
        Device of the batches.
    """

    def __init__(
        self,
        features: np.ndarray,
        rows: np.ndarray,
        *,
        augmentation: Augmentation = NO_AUGMENTATION,
        device: str = "cpu",
    ) -> None:
        if features.shape[0] < augmentation.n_views:
            raise ValueError(
                f"features of {features.shape[0]} views; the augmentation makes {augmentation.n_views}"
            )
        self.rows = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        held = np.asarray(features[:, rows], dtype=np.float32)
        self.features = torch.from_numpy(held).to(device)
        self.augmentation = augmentation
        self.device = device

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: torch.Tensor, view: torch.Tensor | None = None) -> torch.Tensor:
        positions = moved(positions, self.device)
        which = torch.zeros_like(positions) if view is None else moved(view, self.device)
        return self.features[which, positions]

    def in_order(self, batch_size: int, view: int = 0) -> Iterator[torch.Tensor]:
        for start in range(0, len(self), batch_size):
            yield self.features[view, start : start + batch_size]


@dataclass(frozen=True)
class TrainingBatch:
    """See `kdbench.api.Batch`. `positions`: rows of `source`, where the images come from."""

    images: torch.Tensor
    labels: torch.Tensor | None
    index: torch.Tensor
    view: torch.Tensor
    positions: torch.Tensor
    source: ImageSource | FeatureSource | None = None


def make_batch(
    source: ImageSource | FeatureSource,
    labels: torch.Tensor | None,
    positions: torch.Tensor,
    view: torch.Tensor,
) -> TrainingBatch:
    return TrainingBatch(
        images=source.batch(positions, view),
        labels=None if labels is None else labels[moved(positions, labels.device)],
        index=source.rows[positions],
        view=view,
        positions=positions,
        source=source,
    )


def shuffled(
    source: ImageSource | FeatureSource,
    labels: torch.Tensor | None,
    batch_size: int,
    generator: torch.Generator,
) -> Iterator[TrainingBatch]:
    """One pass in random order and random views; the last batch may be smaller, but never a single image,
    for batch normalisation has no variance to go by there."""
    order = torch.randperm(len(source), generator=generator)
    views = source.augmentation.draw(len(source), generator)
    for start in range(0, len(source), batch_size):
        positions = order[start : start + batch_size]
        if len(positions) == 1 and start:
            return
        yield make_batch(source, labels, positions, views[start : start + batch_size])


def streamed(
    source: ImageSource | FeatureSource,
    labels: torch.Tensor | None,
    batch_size: int,
    generator: torch.Generator,
) -> Iterator[TrainingBatch]:
    """Passes without end, in full batches: one goes on with the next pass where a pass ends."""
    order = views = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(source), generator=generator)])
            views = torch.cat([views, source.augmentation.draw(len(source), generator)])
        yield make_batch(source, labels, order[:batch_size], views[:batch_size])
        order, views = order[batch_size:], views[batch_size:]


def generator_for(*parts: object) -> torch.Generator:
    """A generator on the CPU (so that a GPU draws the same) seeded from any printable parts."""
    return torch.Generator().manual_seed(derive_seed(*parts))
