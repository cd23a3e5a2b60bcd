"""CIFAR in both layouts, tiny: 100 classes, few images each, through the same code as the real set."""

from __future__ import annotations

import hashlib
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kdbench.api import DataPlaces, Dataset, ImageData
from kdbench.errors import DataError, WorkspaceError
from kdbench_datasets import cifar_names
from kdbench_datasets.cache import content_digest
from kdbench_datasets.cifar import Cifar10, Cifar100
from kdbench_datasets.cifar_files import Source

SUPERCLASS_OF = np.array(cifar_names.CIFAR100_SUPERCLASS_OF)


class Tiny100(Cifar100):
    layout = replace(Cifar100.layout, per_class={"train": 2, "test": 1})


class Tiny10(Cifar10):
    layout = replace(Cifar10.layout, per_class={"train": 5, "test": 1})


@dataclass
class Images:
    pixels: np.ndarray  # uint8 (n, 32, 32, 3)
    labels: np.ndarray


def make(n_classes: int, each: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(n_classes), each))
    return Images(rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8), labels)


TRAIN, TEST = make(100, 2, 1), make(100, 1, 2)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, images: Images, **changed: object) -> None:
    columns = {
        "img": [{"bytes": png(p), "path": f"{i}.png"} for i, p in enumerate(images.pixels)],
        "fine_label": images.labels.tolist(),
        "coarse_label": SUPERCLASS_OF[images.labels].tolist(),
        **changed,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({k: v for k, v in columns.items() if v is not None}), path)


def write_hub(folder: Path, shards: int = 2, **changed: object) -> Path:
    for i, rows in enumerate(np.array_split(np.arange(len(TRAIN.labels)), shards)):
        part = Images(TRAIN.pixels[rows], TRAIN.labels[rows])
        write_parquet(folder / f"train-{i:05d}-of-{shards:05d}.parquet", part)
    write_parquet(folder / "test-00000-of-00001.parquet", TEST, **changed)
    return folder


def write_pickles(parent: Path, protocol: int = 2) -> Path:
    folder = parent / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, images in (("train", TRAIN), ("test", TEST)):
        batch = {
            "data": images.pixels.transpose(0, 3, 1, 2).reshape(len(images.labels), -1),
            "fine_labels": images.labels.tolist(),
            "coarse_labels": SUPERCLASS_OF[images.labels].tolist(),
            "filenames": [f"{i}.png" for i in range(len(images.labels))],
            "batch_label": b"one of one",
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    return folder


def load(places: DataPlaces, *folders: Path, kind: type = Tiny100) -> ImageData:
    return kind().load(replace(places, folders=folders))


def as_set(images: np.ndarray, labels: np.ndarray) -> set[tuple[bytes, int]]:
    return {(i.tobytes(), int(c)) for i, c in zip(images, labels, strict=True)}


def test_cifar_is_a_dataset() -> None:
    assert isinstance(Cifar100(), Dataset)
    assert isinstance(Cifar10(), Dataset)


def test_class_and_superclass_names() -> None:
    assert cifar_names.CIFAR100[0] == "apple"
    assert cifar_names.CIFAR100[99] == "worm"
    assert len(set(cifar_names.CIFAR100)) == 100
    people = cifar_names.CIFAR100_SUPERCLASSES.index("people")
    members = [n for n, s in zip(cifar_names.CIFAR100, SUPERCLASS_OF, strict=True) if s == people]
    assert members == ["baby", "boy", "girl", "man", "woman"]
    assert np.array_equal(np.bincount(SUPERCLASS_OF), [5] * 20)
    assert SUPERCLASS_OF[:5].tolist() == [4, 1, 14, 8, 0]  # apple, aquarium_fish, baby, bear, beaver


def test_images_keep_their_labels(tmp_path: Path, places: DataPlaces) -> None:
    data = load(places, write_hub(tmp_path / "hub"))
    assert as_set(data.train.images, data.train.labels) == as_set(TRAIN.pixels, TRAIN.labels)
    assert as_set(data.test.images, data.test.labels) == as_set(TEST.pixels, TEST.labels)
    assert data.train.images.dtype == np.uint8
    assert data.train.labels.dtype == np.int64
    assert data.train.images.flags.c_contiguous
    assert data.n_classes == 100
    assert data.input_shape == (32, 32, 3)
    assert data.superclass_of is not None
    assert data.superclass_of.tolist() == SUPERCLASS_OF.tolist()
    assert data.source == str(tmp_path / "hub")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_digest_is_equal_for_every_layout_and_sharding(
    tmp_path: Path, places: DataPlaces, protocol: int
) -> None:
    one = load(places, write_hub(tmp_path / "hub", shards=1))
    three = load(places, write_hub(tmp_path / "three", shards=3))
    pickled = load(places, write_pickles(tmp_path / "tv", protocol))
    assert one.digest == three.digest == pickled.digest
    assert np.array_equal(one.train.images, pickled.train.images)
    assert np.array_equal(one.train.labels, pickled.train.labels)


def test_images_are_sorted_by_pixel_hash(tmp_path: Path, places: DataPlaces) -> None:
    data = load(places, write_hub(tmp_path / "hub"))
    hashes = [hashlib.sha256(i.tobytes()).digest() for i in data.train.images]
    assert hashes == sorted(hashes)


@pytest.mark.parametrize("below", ["", "data", "cifar100", "cifar100/cifar100", "cifar100/data", "cifar-100"])
def test_data_folder_is_dataset_folder_or_parent(tmp_path: Path, places: DataPlaces, below: str) -> None:
    write_hub(tmp_path / "mine" / below)
    assert len(load(places, tmp_path / "mine").train.labels) == 200


def test_pickles_are_found_in_folder_and_parent(tmp_path: Path, places: DataPlaces) -> None:
    own = write_pickles(tmp_path)
    assert load(places, own).digest == load(places, tmp_path).digest


def test_first_folder_takes_precedence(tmp_path: Path, places: DataPlaces) -> None:
    first, second = write_hub(tmp_path / "a"), write_hub(tmp_path / "b")
    assert load(places, tmp_path / "none", first, second).source == str(first)


def test_second_load_reads_the_cache(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_hub(tmp_path / "hub")
    first = load(places, folder)
    before = {p: p.stat().st_mtime_ns for p in places.cache.rglob("*.npy")}
    assert before
    monkeypatch.setattr("kdbench_datasets.cifar.read", lambda *a: pytest.fail("decoded again"))
    second = load(places, folder)
    assert {p: p.stat().st_mtime_ns for p in places.cache.rglob("*.npy")} == before
    assert second.digest == first.digest
    assert isinstance(second.train.images, np.memmap)
    assert not second.train.images.flags.writeable
    assert content_digest(second) == second.digest


def test_changed_files_are_decoded_again(tmp_path: Path, places: DataPlaces) -> None:
    folder = write_hub(tmp_path / "hub")
    before = load(places, folder).digest
    other = Images(TEST.pixels ^ 1, TEST.labels)
    write_parquet(folder / "test-00000-of-00001.parquet", other)
    assert load(places, folder).digest != before


def test_damaged_cache_is_rebuilt_with_a_warning(
    tmp_path: Path, places: DataPlaces, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_hub(tmp_path / "hub")
    digest = load(places, folder).digest
    (path,) = places.cache.rglob("train_images.npy")
    path.write_bytes(path.read_bytes()[:5000])
    again = load(places, folder)
    assert again.digest == digest == content_digest(again)
    assert "damaged" in caplog.text


def test_failed_write_leaves_no_partial_entry(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    folder = write_hub(tmp_path / "hub")
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(WorkspaceError, match="No space left"):
            load(places, folder)
    assert not [p for p in (places.cache / "datasets").iterdir() if p.is_dir()]
    assert len(load(places, folder).test.labels) == 100


def test_cache_path_that_is_a_file_raises_workspace_error(tmp_path: Path, places: DataPlaces) -> None:
    places.cache.write_text("in the way")
    with pytest.raises(WorkspaceError, match="can't be used"):
        load(places, write_hub(tmp_path / "hub"))


# damaged or missing files


def test_missing_dataset_error_lists_searched_folders_and_hint(tmp_path: Path, places: DataPlaces) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as e:
        load(places, tmp_path / "empty", tmp_path / "absent")
    text = str(e.value)
    assert str(tmp_path / "empty") in text
    assert f"{tmp_path / 'absent'}: not a folder" in text
    assert "--data-dir" in text
    assert "cifar-100-python" in text


def test_missing_dataset_error_reports_failed_download(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.error import URLError

    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(DataError, match=r"can't be downloaded.*Name or service not known"):
        load(replace(places, download=True), tmp_path)


def test_truncated_shard_is_reported(tmp_path: Path, places: DataPlaces) -> None:
    folder = write_hub(tmp_path / "hub")
    path = folder / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="damaged") as e:
        load(places, folder)
    assert e.value.where == str(path)


def test_truncated_image_is_reported(tmp_path: Path, places: DataPlaces) -> None:
    cells = [{"bytes": png(p), "path": ""} for p in TEST.pixels]
    cells[7]["bytes"] = cells[7]["bytes"][:1000]
    with pytest.raises(DataError, match="image 7"):
        load(places, write_hub(tmp_path / "hub", img=cells))


def test_image_of_wrong_size_is_rejected(tmp_path: Path, places: DataPlaces) -> None:
    cells = [{"bytes": png(p), "path": ""} for p in TEST.pixels]
    cells[3]["bytes"] = png(np.zeros((16, 8, 3), np.uint8))
    with pytest.raises(DataError, match="image 3 is 8x16"):
        load(places, write_hub(tmp_path / "hub", img=cells))


@pytest.mark.parametrize("bad", [100, -1])
def test_labels_out_of_range_are_rejected(tmp_path: Path, places: DataPlaces, bad: int) -> None:
    labels = TEST.labels.tolist()
    labels[5] = bad
    with pytest.raises(DataError, match=f"label {bad} is out of range"):
        load(places, write_hub(tmp_path / "hub", fine_label=labels))


def test_missing_labels_are_rejected(tmp_path: Path, places: DataPlaces) -> None:
    labels = [None, *TEST.labels.tolist()[1:]]
    with pytest.raises(DataError, match="whole numbers"):
        load(places, write_hub(tmp_path / "hub", fine_label=labels))


def test_inconsistent_superclasses_are_rejected(tmp_path: Path, places: DataPlaces) -> None:
    wrong = SUPERCLASS_OF[TEST.labels]
    wrong = np.roll(wrong, 1).tolist()
    with pytest.raises(DataError, match="superclass label"):
        load(places, write_hub(tmp_path / "hub", coarse_label=wrong))


def test_shard_without_a_column_is_reported(tmp_path: Path, places: DataPlaces) -> None:
    folder = write_hub(tmp_path / "hub", coarse_label=None)
    with pytest.raises(DataError, match="'coarse_label' is missing") as e:
        load(places, folder)
    assert e.value.where.endswith("test-00000-of-00001.parquet")


def test_parquet_of_another_dataset_is_reported(tmp_path: Path, places: DataPlaces) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(
        DataError, match="has the columns text; cifar100 also needs img, fine_label, coarse_label"
    ):
        load(places, tmp_path)


def test_missing_shard_is_reported(tmp_path: Path, places: DataPlaces) -> None:
    folder = write_hub(tmp_path / "hub", shards=3)
    (folder / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match="shard 1 of train is missing"):
        load(places, folder)


def test_class_with_too_few_images_is_reported(tmp_path: Path, places: DataPlaces) -> None:
    folder = write_hub(tmp_path / "hub")
    few = Images(TEST.pixels[1:], TEST.labels[1:])
    write_parquet(folder / "test-00000-of-00001.parquet", few)
    name = cifar_names.CIFAR100[TEST.labels[0]]
    with pytest.raises(DataError, match=f"test has 0 images of '{name}', cifar100 has 1"):
        load(places, folder)


def test_incomplete_pickled_folder_is_reported(tmp_path: Path, places: DataPlaces) -> None:
    folder = write_pickles(tmp_path)
    (folder / "test").unlink()
    with pytest.raises(DataError, match="incomplete: test of 2 files missing"):
        load(places, folder)


def test_pickles_of_older_numpy_are_read(tmp_path: Path, places: DataPlaces) -> None:
    """The published archives name numpy.core, where NumPy 2 writes numpy._core."""
    folder = write_pickles(tmp_path)
    expected = load(places, folder).digest
    for name in ("train", "test"):
        text = (folder / name).read_bytes()
        (folder / name).write_bytes(text.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
        assert b"cnumpy.core.multiarray\n" in (folder / name).read_bytes()
    assert load(places, folder).digest == expected


def test_concurrent_loads_decode_once(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_hub(tmp_path / "hub")
    calls = []
    decode = Tiny100._decode

    def counted(self: Tiny100, source: Source) -> ImageData:
        calls.append(source)
        return decode(self, source)

    monkeypatch.setattr(Tiny100, "_decode", counted)
    with ThreadPoolExecutor(4) as pool:
        digests = set(pool.map(lambda _: load(places, folder).digest, range(4)))
    assert len(digests) == 1
    assert len(calls) == 1


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch harmed",)


def test_pickle_that_runs_code_is_rejected(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_pickles(tmp_path)
    (folder / "train").write_bytes(pickle.dumps({"data": Evil()}))
    with pytest.raises(DataError, match=r"contains posix\.system"):
        load(places, folder)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02}q\x00(", "can't be read"),
        (b"", "can't be read"),
        (pickle.dumps([1, 2]), "has list"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8)}), "fine_labels"),
        (
            pickle.dumps(
                {"data": np.zeros((2, 99), np.uint8), "fine_labels": [0, 1], "coarse_labels": [4, 1]}
            ),
            r"uint8 \(2, 99\) for 2 labels",
        ),
    ],
)
def test_damaged_pickle_is_reported(tmp_path: Path, places: DataPlaces, content: bytes, message: str) -> None:
    folder = write_pickles(tmp_path)
    (folder / "test").write_bytes(content)
    with pytest.raises(DataError, match=message) as e:
        load(places, folder)
    assert e.value.where == str(folder / "test")


def test_cifar10_in_both_layouts(tmp_path: Path, places: DataPlaces) -> None:
    train, test = make(10, 5, 3), make(10, 1, 4)
    hub = tmp_path / "hub" / "plain_text"
    for name, images in (("train", train), ("test", test)):
        write_parquet(
            hub / f"{name}-00000-of-00001.parquet",
            images,
            fine_label=None,
            coarse_label=None,
            label=images.labels.tolist(),
        )
    folder = tmp_path / "tv" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    parts = [(f"data_batch_{i + 1}", slice(i * 10, i * 10 + 10), train) for i in range(5)]
    for name, rows, images in [*parts, ("test_batch", slice(None), test)]:
        pixels = images.pixels[rows]
        batch = {
            "data": pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1),
            "labels": images.labels[rows].tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    a, b = load(places, tmp_path / "hub", kind=Tiny10), load(places, tmp_path / "tv", kind=Tiny10)
    assert a.digest == b.digest
    assert a.superclass_of is None
    assert a.class_names[3] == "cat"
    assert as_set(a.train.images, a.train.labels) == as_set(train.pixels, train.labels)


@pytest.mark.realdata
@pytest.mark.slow
def test_real_cifar100_statistics(real_data: Path, places: DataPlaces) -> None:
    data = Cifar100().load(replace(places, folders=(real_data,)))
    assert data.train.images.shape == (50000, 32, 32, 3)
    assert data.test.images.shape == (10000, 32, 32, 3)
    assert np.bincount(data.train.labels).tolist() == [500] * 100
    assert np.bincount(data.test.labels).tolist() == [100] * 100
    # well-known statistics of the training set
    pixels = data.train.images.reshape(-1, 3)
    assert pixels.mean(0) / 255 == pytest.approx([0.5071, 0.4865, 0.4409], abs=1e-3)
    assert pixels.std(0) / 255 == pytest.approx([0.2673, 0.2564, 0.2762], abs=1e-3)
    assert data.digest == "e844f9ac98e7da4e28d9884942b58f0dd94cb7619e2f4a8f71a8f356a0bc44ad"
    # superclasses of the files themselves, read independently: an image's must be its class's
    for path in sorted(real_data.rglob("*.parquet")):
        table = pq.read_table(path, columns=["fine_label", "coarse_label"]).to_pandas()
        assert (SUPERCLASS_OF[table.fine_label] == table.coarse_label).all()
