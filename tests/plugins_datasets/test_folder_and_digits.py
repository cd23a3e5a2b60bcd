from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdbench.api import DataPlaces, Dataset
from kdbench.errors import DataError
from kdbench_datasets import kdbench_datasets
from kdbench_datasets.cache import content_digest
from kdbench_datasets.digits import Digits
from kdbench_datasets.folder import ImageFolder

CLASSES = ("ant", "bee", "cat")


def fill(
    folder: Path, classes: tuple[str, ...] = CLASSES, each: int = 5, shape: tuple[int, int] = (8, 8)
) -> Path:
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = np.full((*shape, 3), (c * 60 + 20, i * 10, 0), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_every_spec_target_exists() -> None:
    import importlib

    for spec in kdbench_datasets():
        module, _, attribute = spec.target.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute)), spec.name


def test_seeded_fraction_of_every_class_is_held_out(tmp_path: Path, places: DataPlaces) -> None:
    fill(tmp_path / "mine")
    data = ImageFolder(path=str(tmp_path / "mine"), size=8, test_fraction=0.4).load(places)
    assert isinstance(ImageFolder(path="x"), Dataset)
    assert data.class_names == CLASSES
    assert np.bincount(data.train.labels).tolist() == [3, 3, 3]
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    # constant images stay what they are: the red value is the class's, the green one the image's
    for split in (data.train, data.test):
        assert (split.images[:, :, :, 0] == (split.labels * 60 + 20)[:, None, None]).all()
    both = np.concatenate([data.train.images, data.test.images])[:, 0, 0, 1].reshape(-1)
    labels = np.concatenate([data.train.labels, data.test.labels])
    assert sorted(zip(labels.tolist(), both.tolist(), strict=True)) == [
        (c, i * 10) for c in range(3) for i in range(5)
    ]
    same = ImageFolder(path=str(tmp_path / "mine"), size=8, test_fraction=0.4).load(
        replace(places, cache=tmp_path / "other")
    )
    assert same.digest == data.digest
    other = ImageFolder(path=str(tmp_path / "mine"), size=8, test_fraction=0.4, seed=1).load(places)
    assert other.digest != data.digest


def test_train_and_test_folders_are_the_splits(tmp_path: Path, places: DataPlaces) -> None:
    fill(tmp_path / "mine" / "train", each=4)
    fill(tmp_path / "mine" / "test", each=2)
    data = ImageFolder(path="mine", size=16).load(replace(places, folders=(tmp_path,)))
    assert data.train.images.shape == (12, 16, 16, 3)
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.superclass_of is None


def test_images_are_cropped_to_the_central_square(tmp_path: Path, places: DataPlaces) -> None:
    fill(tmp_path / "mine", each=2)
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200  # the middle square
    for i in range(2):
        Image.fromarray(wide).save(tmp_path / "mine" / "ant" / f"{i}.png")
    data = ImageFolder(path=str(tmp_path / "mine"), size=8).load(places)
    assert (data.train.images[0] == 200).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_images_of_any_mode_become_rgb(tmp_path: Path, places: DataPlaces, mode: str) -> None:
    fill(tmp_path / "mine", each=2)
    for i in range(2):
        Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(tmp_path / "mine" / "ant" / f"{i}.png")
    data = ImageFolder(path=str(tmp_path / "mine"), size=8).load(places)
    assert (data.train.images[0] == 255).all()


def test_superclasses(tmp_path: Path, places: DataPlaces) -> None:
    root = fill(tmp_path / "mine")
    plain = ImageFolder(path=str(root)).load(places).digest
    (root / "superclasses.toml").write_text('pet = ["cat"]\ninsect = ["ant", "bee"]\n')
    data = ImageFolder(path=str(root)).load(places)
    assert data.superclass_names == ("pet", "insect")
    assert data.superclass_of is not None
    assert data.superclass_of.tolist() == [1, 1, 0]
    assert data.digest != plain


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('a = ["ant", "bee"]', "'cat' is in no superclass"),
        ('a = ["ant", "bee", "cat"]\nb = ["ant"]', "'ant' is in 'a' and in 'b'"),
        ('a = ["ant", "bee", "cta"]', "did you mean 'cat'"),
        ("a = 3", "not a list of classes"),
        ("a = [", "not valid TOML"),
    ],
)
def test_inconsistent_superclasses_are_rejected(
    tmp_path: Path, places: DataPlaces, toml: str, message: str
) -> None:
    root = fill(tmp_path / "mine")
    (root / "superclasses.toml").write_text(toml)
    with pytest.raises(DataError) as e:
        ImageFolder(path=str(root)).load(places)
    assert message in str(e.value)
    assert e.value.where == str(root / "superclasses.toml")


def test_unreadable_image_is_reported(tmp_path: Path, places: DataPlaces) -> None:
    root = fill(tmp_path / "mine")
    bad = root / "bee" / "3.png"
    bad.write_bytes(bad.read_bytes()[:45])
    with pytest.raises(DataError, match="can't be read") as e:
        ImageFolder(path=str(root)).load(places)
    assert e.value.where == str(bad)


def test_other_files_are_ignored(tmp_path: Path, places: DataPlaces) -> None:
    root = fill(tmp_path / "mine")
    (root / "ant" / "README.txt").write_text("no image")
    (root / "ant" / "._0.png").write_text("left by a Mac")
    (root / ".git").mkdir()
    assert len(ImageFolder(path=str(root)).load(places).class_names) == 3


def test_inconsistent_folders_are_rejected(tmp_path: Path, places: DataPlaces) -> None:
    with pytest.raises(DataError, match="no such folder") as e:
        ImageFolder(path="absent").load(replace(places, folders=(tmp_path / "data",)))
    assert str(tmp_path / "data" / "absent") in str(e.value)
    fill(tmp_path / "one", classes=("ant",))
    with pytest.raises(DataError, match="at least two are needed"):
        ImageFolder(path=str(tmp_path / "one")).load(places)
    fill(tmp_path / "few", each=1)
    with pytest.raises(DataError, match="one image"):
        ImageFolder(path=str(tmp_path / "few")).load(places)
    (tmp_path / "few" / "empty").mkdir()
    with pytest.raises(DataError, match="no image in the folder of class 'empty'"):
        ImageFolder(path=str(tmp_path / "few")).load(places)
    fill(tmp_path / "odd" / "train")
    fill(tmp_path / "odd" / "test", classes=("ant", "bee"))
    with pytest.raises(DataError, match=r"'cat' is only in train/"):
        ImageFolder(path=str(tmp_path / "odd")).load(places)
    fill(tmp_path / "half" / "test")
    with pytest.raises(DataError, match="no train/"):
        ImageFolder(path=str(tmp_path / "half")).load(places)


@pytest.mark.parametrize(
    "bad", [{"path": ""}, {"size": 3}, {"test_fraction": 0.0}, {"test_fraction": 1.0}, {"seed": -1}]
)
def test_image_folder_parameters_out_of_range(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ImageFolder(**{"path": "x", **bad})


def test_digits_equal_those_of_scikit_learn(places: DataPlaces) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    data = Digits(channels=1).load(places)
    assert data.train.images.shape == (1497, 8, 8, 1)
    assert np.bincount(data.test.labels).tolist() == [30] * 10
    # every original image is in exactly one split, with its label
    ours = np.concatenate([data.train.images, data.test.images])[..., 0]
    labels = np.concatenate([data.train.labels, data.test.labels])
    mine = sorted(
        (np.rint(i / 255 * 16).astype(int).tobytes(), int(c)) for i, c in zip(ours, labels, strict=True)
    )
    theirs = sorted(
        (i.astype(int).tobytes(), int(c)) for i, c in zip(bunch.images, bunch.target, strict=True)
    )
    assert mine == theirs
    assert data.superclass_of is None
    assert data.digest == content_digest(data)


def test_digits_are_enlarged_by_repeating_pixels(places: DataPlaces) -> None:
    small, large = Digits(channels=1).load(places), Digits(size=32).load(places)
    assert large.input_shape == (32, 32, 3)
    assert (large.train.images[:, 2::4, 3::4, 1] == small.train.images[..., 0]).all()
    assert small.digest != large.digest


@pytest.mark.parametrize("bad", [{"size": 9}, {"channels": 2}])
def test_digits_parameters_out_of_range(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Digits(**bad)
