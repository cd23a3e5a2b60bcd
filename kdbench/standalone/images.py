"""Images for `score` and `embed`: a dataset by name, arrays, tensors or a loader, held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.errors import DataError, SuiteError, UsageError

if TYPE_CHECKING:
    import torch

    from kdbench.api.data import DataPlaces, ImageData
    from kdbench.registry import Registry
    from kdbench.standalone.networks import Built

_FORMS = (
    "a dataset's name, uint8 images (n, h, w, c), float tensors (n, c, h, w), a pair of either with its labels, "
    "or a loader of such batches"
)


@dataclass
class Samples:
    """Images, and their labels where they have some.

    Attributes
    ----------
    images
        uint8 (n, h, w, c), to be normalised for each network; or None.
    tensors
        float32 (n, c, h, w), as networks read them; or None.
    labels
        int64 (n,), or None.
    data
        The dataset that they are rows of, or None.
    rows
        Rows of its test split.
    """

    images: np.ndarray | None
    tensors: torch.Tensor | None
    labels: np.ndarray | None
    data: ImageData | None = None
    rows: np.ndarray | None = None

    @property
    def positions(self) -> np.ndarray:
        """Rows (n,) of the test split of `as_data`."""
        return self.rows if self.rows is not None else np.arange(len(self))

    def __len__(self) -> int:
        return len(self.images if self.images is not None else self.tensors)  # type: ignore[arg-type]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(h, w, c)."""
        if self.images is not None:
            h, w, c = self.images.shape[1:]
        else:
            assert self.tensors is not None
            c, h, w = self.tensors.shape[1:]
        return int(h), int(w), int(c)

    def as_data(self) -> ImageData:
        """The dataset; without one, the images as the test split of one that has no more to tell.

        Raises UsageError if they have no labels.
        """
        from kdbench.api.data import ImageData, Split

        if self.data is not None:
            return self.data
        if self.labels is None:
            raise UsageError("the images have no labels", where="data", hint="give (images, labels)")
        none = np.empty((0, *self.input_shape), np.uint8)
        images = self.images if self.images is not None else none
        names = tuple(str(i) for i in range(int(self.labels.max()) + 1))
        test = Split(images, self.labels)
        return ImageData(Split(none, np.empty(0, np.int64)), test, names, None, (), "", "the caller's")

    def source(self, network: Built, device: str) -> Any:
        """The images as this network reads them, for `kdbench.training.evaluate`.

        Raises UsageError if uint8 images, and nothing says what they are normalised by.
        """
        from kdbench.stages.networks import normalization
        from kdbench.training.data import ImageSource

        if self.tensors is not None:
            return TensorSource(self.tensors, device)
        assert self.images is not None
        if network.normalization is None and self.data is None:
            raise UsageError(
                f"nothing says how uint8 images are normalised for {network.name}",
                where="Network.normalization",
                hint="Network(model, normalization=Normalization(mean, std)), or hand over normalised tensors",
            )
        data = self.as_data() if self.data is not None or self.labels is not None else None
        own = network.normalization
        if data is not None:
            own = normalization(network, data)
        assert own is not None
        rows = np.arange(len(self.images))
        return ImageSource(self.images, rows, own, device=device)


class TensorSource:
    """Batches of a tensor in order, like those of `kdbench.training.data.ImageSource`."""

    def __init__(self, tensors: torch.Tensor, device: str) -> None:
        self.tensors, self.device = tensors, device

    def __len__(self) -> int:
        return len(self.tensors)

    def in_order(self, batch_size: int, view: int = 0) -> Iterator[torch.Tensor]:
        for start in range(0, len(self.tensors), batch_size):
            yield self.tensors[start : start + batch_size].to(self.device)


def read(
    given: Any, registry: Registry, places: DataPlaces, *, size: int | None = None, seed: int = 0
) -> Samples:
    """The images of `given`.

    Parameters
    ----------
    given
        The test split of a dataset (its name, {"name": ..., parameters} or an `ImageData`); uint8 images (n, h, w,
        c); float tensors (n, c, h, w), normalised already; a pair of either with labels (n,); or a loader of batches
        of those, which is read once, into memory.
    registry
        Registry to look datasets up in.
    places
        Where a named dataset is looked for.
    size
        So many of them; of labelled ones a balanced draw of `seed`, else the first.
    seed
        Seed of the draw.

    Returns
    -------
    Samples
        The images, with labels if there are any.

    Raises
    ------
    UsageError
        It is none of these, or there are none.
    DataError
        The dataset can't be found.
    """
    from kdbench.api.data import ImageData

    if isinstance(given, (str, Mapping)):
        from kdbench.suite.schema import Component, component_table

        component = Component.model_validate(
            component_table(dict(given) if isinstance(given, Mapping) else given)
        )
        given = registry.create("datasets", component.name, component.params).load(places)
    if isinstance(given, ImageData):
        rows = _rows(np.asarray(given.test.labels), given.n_classes, size, seed)
        return Samples(given.test.images[rows], None, np.asarray(given.test.labels)[rows], given, rows)
    samples = _of_arrays(given)
    if len(samples) == 0:
        raise UsageError("there are no images", where="data")
    if size is None or size >= len(samples):
        return samples
    n_classes = int(samples.labels.max()) + 1 if samples.labels is not None else 0
    rows = _rows(samples.labels, n_classes, size, seed) if samples.labels is not None else np.arange(size)
    return Samples(
        samples.images[rows] if samples.images is not None else None,
        samples.tensors[rows] if samples.tensors is not None else None,
        samples.labels[rows] if samples.labels is not None else None,
    )


def _rows(labels: np.ndarray, n_classes: int, size: int | None, seed: int) -> np.ndarray:
    from kdbench.api.draws import draw_test

    if size is None or size >= len(labels):
        return np.arange(len(labels))
    try:
        return draw_test(labels, n_classes, size=size, seed=seed)
    except SuiteError as error:
        raise UsageError(error.what, where="size", hint=error.hint) from error


def _of_arrays(given: Any) -> Samples:
    import torch

    if isinstance(given, (tuple, list)) and len(given) == 2 and _is_array(given[0]) and _is_array(given[1]):
        images, labels = given
        labels = np.asarray(labels.cpu() if torch.is_tensor(labels) else labels)
        alone = _of_images(images)
        if (
            labels.shape != (len(alone),)
            or labels.dtype.kind not in "iu"
            or (len(labels) and labels.min() < 0)
        ):
            raise UsageError(
                f"labels {labels.shape} of {labels.dtype} for {len(alone)} images",
                where="data",
                hint="one integer from 0 an image",
            )
        return Samples(alone.images, alone.tensors, labels.astype(np.int64))
    if _is_array(given):
        return _of_images(given)
    if not isinstance(given, Iterable):
        raise UsageError(f"{type(given).__name__} is none of what images can be", where="data", hint=_FORMS)
    parts = [
        _of_arrays(tuple(batch) if isinstance(batch, list) else batch) for batch in given if _is_batch(batch)
    ]
    if not parts:
        return Samples(np.empty((0, 1, 1, 1), np.uint8), None, None)
    kinds = {(p.images is None, p.labels is None) for p in parts}
    if len(kinds) > 1:
        raise UsageError("batches of several forms", where="data", hint=_FORMS)
    return Samples(
        np.concatenate([p.images for p in parts if p.images is not None])
        if parts[0].images is not None
        else None,
        torch.cat([p.tensors for p in parts if p.tensors is not None])
        if parts[0].tensors is not None
        else None,
        np.concatenate([p.labels for p in parts if p.labels is not None])
        if parts[0].labels is not None
        else None,
    )


def _is_batch(given: Any) -> bool:
    """Whether a loader may yield it; raises UsageError, so that no image is left out in silence."""
    if _is_array(given) or (isinstance(given, (tuple, list)) and len(given) == 2):
        return True
    raise UsageError(f"a loader yields {type(given).__name__}", where="data", hint=_FORMS)


def _is_array(given: Any) -> bool:
    import torch

    return isinstance(given, np.ndarray) or torch.is_tensor(given)


def _of_images(images: Any) -> Samples:
    """Of uint8 (n, h, w, c), uint8 tensors (n, c, h, w) or float tensors (n, c, h, w)."""
    import torch

    if images.ndim == 4 and isinstance(images, np.ndarray) and images.dtype == np.uint8:
        return Samples(images, None, None)
    if images.ndim == 4 and torch.is_tensor(images):
        if images.dtype == torch.uint8:
            return Samples(images.permute(0, 2, 3, 1).cpu().numpy(), None, None)
        if images.is_floating_point():
            if not bool(torch.isfinite(images).all()):
                raise DataError("some pixels are not finite", where="data")
            return Samples(None, images.detach().float().cpu(), None)
    raise UsageError(f"images {tuple(images.shape)} of {images.dtype}", where="data", hint=_FORMS)
