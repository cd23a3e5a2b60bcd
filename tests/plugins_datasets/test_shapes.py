from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np
import pytest

from kdbench.api import DataPlaces, Dataset
from kdbench_datasets.cache import content_digest
from kdbench_datasets.families import TARGET
from kdbench_datasets.families_source import SOURCE
from kdbench_datasets.plane import Plane, direction
from kdbench_datasets.shapes import Shapes

EVERY = [
    (task, f, k)
    for task, fs in (("target", TARGET), ("source", SOURCE))
    for f in range(len(fs))
    for k in range(5)
]


def small(**changed: object) -> Shapes:
    return Shapes(**{"n_train": 20, "n_test": 10, "n_superclasses": 2, **changed})  # type: ignore[arg-type]


def square(n: int = 1, s: int = 128, turn: float = 0.0, flip: bool = False, trait: float = 0.5) -> Plane:
    """Objects filling an s x s picture, turned by `turn`."""
    at = ((np.arange(s) + 0.5) / s * 2.4 - 1.2).astype(np.float32)
    x, y = np.broadcast_to(at, (s, s)), np.broadcast_to(at[:, None], (s, s))
    x = -x if flip else x
    c, d = direction(turn)
    traits = np.full((n, 2), trait, np.float32)
    return Plane((c * x + d * y)[None].astype(np.float32), (c * y - d * x)[None].astype(np.float32), traits)


def draw(task: str, f: int, k: int, plane: Plane) -> np.ndarray:
    return (TARGET if task == "target" else SOURCE)[f][1](plane, k)[0]


def test_shapes_is_a_dataset() -> None:
    assert isinstance(Shapes(), Dataset)


@pytest.mark.parametrize(("task", "n_superclasses"), [("target", 20), ("source", 10)])
def test_classes_and_superclasses(task: str, n_superclasses: int) -> None:
    n_classes = 5 * n_superclasses
    data = Shapes(n_train=2 * n_classes, n_test=n_classes, task=task).generate()  # type: ignore[arg-type]
    assert data.train.images.shape == (2 * n_classes, 32, 32, 3)
    assert data.train.images.dtype == np.uint8
    assert data.train.labels.dtype == np.int64
    assert np.bincount(data.train.labels).tolist() == [2] * n_classes
    assert np.bincount(data.test.labels).tolist() == [1] * n_classes
    assert len(set(data.class_names)) == n_classes
    assert len(set(data.superclass_names)) == n_superclasses
    assert data.superclass_of is not None
    assert np.bincount(data.superclass_of).tolist() == [5] * n_superclasses


def test_tasks_share_no_class() -> None:
    names = [{n for _, _, names in task for n in names} | {t[0] for t in task} for task in (TARGET, SOURCE)]
    assert not names[0] & names[1]
    a, b = small().generate(), small(task="source").generate()
    assert not np.array_equal(a.train.images, b.train.images)


def test_images_do_not_depend_on_threads() -> None:
    one, four = small(n_train=200).generate(threads=1), small(n_train=200).generate(threads=4)
    assert content_digest(one) == content_digest(four)


@pytest.mark.parametrize("task", ["target", "source"])
def test_pixels_match_recorded_digest(task: Literal["target", "source"]) -> None:
    """A change of pixels raises _VERSION in shapes.py and the spec's version, and updates this digest."""
    data = Shapes(n_train=100, n_test=100, task=task).generate()
    assert content_digest(data) == DIGESTS[task]


DIGESTS = {
    "target": "c49bfd8d898b89354fa402649f03e8831dfef00e3d7c22985442702dbecdf321",
    "source": "7d3a50fbd67887102595078aab025ede4c6b6e890c20bfed738620eacefcdf17",
}


def test_seed_changes_images_not_classes() -> None:
    a, b = small().generate(), small(seed=1).generate()
    assert a.class_names == b.class_names
    assert np.array_equal(a.train.labels, b.train.labels)
    assert not (a.train.images == b.train.images).all(axis=(1, 2, 3)).any()


def test_images_are_unique_across_splits() -> None:
    data = small(n_train=400, n_test=400).generate()
    images = np.concatenate([data.train.images, data.test.images])
    assert len({i.tobytes() for i in images}) == 800


@pytest.mark.parametrize("n", [10, 150, 170])
def test_first_images_do_not_depend_on_number_of_images(n: int) -> None:
    few, many = small(n_train=n).generate().train, small(n_train=400).generate().train
    assert np.array_equal(few.images, many.images[:n])
    assert np.array_equal(few.labels, many.labels[:n])
    assert few.masks is not None
    assert many.masks is not None
    assert np.array_equal(few.masks, many.masks[:n])


def test_n_superclasses_selects_the_first() -> None:
    two, three = small(n_train=30).generate(), small(n_train=45, n_superclasses=3, n_test=15).generate()
    kept = three.train.labels < 10
    assert np.array_equal(two.train.images, three.train.images[kept])


def test_masks_do_not_depend_on_clutter() -> None:
    plain, busy = small(clutter=0, noise=0).generate(), small(clutter=20, noise=100).generate()
    assert np.array_equal(plain.train.masks, busy.train.masks)  # type: ignore[arg-type]
    assert not np.array_equal(plain.train.images, busy.train.images)


@pytest.mark.parametrize("task", ["target", "source"])
def test_masks_match_the_drawn_object(task: str) -> None:
    """Without noise and clutter an image has two colour gradients, and the mask separates them."""
    n_classes = 100 if task == "target" else 50
    data = Shapes(n_train=n_classes, n_test=n_classes, task=task, clutter=0, noise=0).generate()  # type: ignore[arg-type]
    assert data.train.masks is not None
    wrong = []
    for image, mask in zip(data.train.images.astype(float), data.train.masks, strict=True):
        # pixels away from the edge of the mask, where nothing is blended
        rim = np.zeros_like(mask)
        for axis in (0, 1):
            edge = np.diff(mask, axis=axis)
            rim[(slice(None),) * axis + (slice(1, None),)] |= edge
            rim[(slice(None),) * axis + (slice(None, -1),)] |= edge
        inside, outside = image[mask & ~rim], image[~mask & ~rim]
        assert len(outside) > 100
        if len(inside) < 8:
            continue  # only thin strokes, all of them rim
        # fit a plane to each side, then see which of the two fits each pixel best
        rows, columns = np.nonzero(~rim)
        design = np.stack([np.ones(len(rows)), rows, columns], 1)
        own = mask[~rim]
        fits = [
            np.linalg.lstsq(design[own == side], image[~rim][own == side], rcond=None)[0] for side in (0, 1)
        ]
        distance = [np.abs(image[~rim] - design @ fit).sum(1) for fit in fits]
        wrong.append(((distance[1] < distance[0]) != own).mean())
    assert len(wrong) > n_classes // 2
    assert max(wrong) < 0.01  # values cut off at 0 and 255 bend a slope


def test_shapes_lie_inside_the_image() -> None:
    data = Shapes(n_train=500, n_test=100).generate()
    assert data.train.masks is not None
    share = data.train.masks.mean((1, 2))
    assert share.min() > 0.02
    assert share.max() < 0.7
    rim = np.ones((32, 32), bool)
    rim[1:-1, 1:-1] = False
    assert (data.train.masks & rim).sum() < 0.02 * data.train.masks.sum()


def test_colours_do_not_depend_on_class() -> None:
    data = Shapes(n_train=4000, n_test=100).generate()
    means = data.train.images.reshape(-1, 100, 32 * 32, 3).mean(2)  # (image, class, channel)
    between, within = means.mean(0).std(0), means.std(0).mean(0)
    assert (between < 2 * within / math.sqrt(40)).all()  # what chance gives, with room


def test_classes_differ_under_rotation_and_reflection() -> None:
    """Any two classes of a family differ under every rotation and reflection."""
    turns = [(t / 48, flip) for t in range(48) for flip in (False, True)]
    for task, families in (("target", TARGET), ("source", SOURCE)):
        for f in range(len(families)):
            still = [draw(task, f, k, square(s=40)) for k in range(5)]
            for a, b in combinations(range(5), 2):
                best = max(
                    (still[a] & moved).sum() / (still[a] | moved).sum()
                    for moved in (draw(task, f, b, square(s=40, turn=t, flip=fl)) for t, fl in turns)
                )
                assert best < 0.94, (families[f][2][a], families[f][2][b], best)


@pytest.mark.parametrize("trait", [0.0, 1.0])
@pytest.mark.parametrize(("task", "f", "k"), EVERY)
def test_shapes_lie_in_unit_disc(task: str, f: int, k: int, trait: float) -> None:
    plane = square(trait=trait)
    inside = draw(task, f, k, plane)
    assert inside.any()
    assert float(plane.r[0][inside].max()) < 1.2


def test_areas_of_simple_shapes() -> None:
    cell = (2.4 / 512) ** 2
    plane = square(s=512)
    triangle = draw("target", 0, 0, plane).sum() * cell
    assert triangle == pytest.approx(
        3 * math.sqrt(3) * 0.55**2, rel=0.01
    )  # from the radius of the inner circle
    octagon = draw("target", 0, 4, plane).sum() * cell
    assert octagon == pytest.approx(8 * math.tan(math.pi / 8) * 0.9**2, rel=0.01)
    half = draw("target", 8, 3, plane).sum() * cell
    assert half == pytest.approx(math.pi * 0.95**2 / 2, rel=0.01)


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 10])
def test_waves_are_the_cosine_and_sine_of_multiples(m: int) -> None:
    plane = square()
    angle = np.arctan2(plane.y.astype(np.float64), plane.x.astype(np.float64))
    cos, sin = plane.waves(m)
    np.testing.assert_allclose(cos, np.cos(m * angle), atol=1e-5)
    np.testing.assert_allclose(sin, np.sin(m * angle), atol=1e-5)


def test_load_generates_once(places: DataPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = small()
    first = shapes.load(places)
    generated = shapes.generate()
    assert first.digest == content_digest(generated)
    assert np.array_equal(first.train.masks, generated.train.masks)  # type: ignore[arg-type]
    monkeypatch.setattr(Shapes, "generate", lambda self: pytest.fail("generated again"))
    second = small().load(places)
    assert second.digest == first.digest
    assert isinstance(second.train.masks, np.memmap)


def test_every_parameter_changes_the_digest(places: DataPlaces) -> None:
    changes: list[dict] = [{}, {"seed": 3}, {"clutter": 1}, {"noise": 3}, {"task": "source"}, {"n_train": 30}]
    changes += [{"rotation": 10.0}]
    digests = [small(**change).load(replace(places)).digest for change in changes]
    assert len(set(digests)) == len(changes)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_train": 150},
        {"n_test": 0},
        {"task": "other"},
        {"n_superclasses": 21},
        {"task": "source", "n_superclasses": 11},
        {"n_superclasses": -1},
        {"seed": -1},
        {"clutter": 65},
        {"noise": 129},
        {"rotation": 181.0},
    ],
)
def test_parameters_out_of_range(bad: dict) -> None:
    with pytest.raises(ValueError, match=list(bad)[-1]):
        Shapes(**bad)
