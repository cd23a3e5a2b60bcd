"""The store: whole or not at all, checksummed, shared between processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from flat_settings import settings_from

from kdbench.api import CellRecord, Result
from kdbench.errors import VerificationError, WorkspaceError
from kdbench.store import Store, canonical, content_key, replace_files

KEY = "ab" + "0" * 30
OTHER = "cd" + "1" * 30


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "workspace")


def fill(store: Store, key: str = KEY, value: float = 1.0) -> None:
    with store.write(key, {"kind": "score", "title": "t"}) as draft:
        draft.array("numbers", np.arange(12, dtype=np.float32).reshape(3, 4).T)
        block = draft.open_array("block", (5, 2), np.float16)
        block[:] = np.arange(10).reshape(5, 2)
        block.flush()
        draft.tensors("model", {"w": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(4)})
        draft.table("history", {"loss": [1.5, None]})
        draft.values["value"] = value
        draft.description["seconds"] = 0.25


def assert_clean(store: Store) -> None:
    assert list((store.root / "objects").rglob("record.json")) == []
    assert list(store.records()) == []


# -- there and back


def test_what_is_written_is_read_back(store):
    fill(store)
    artifact = Store(store.root).open(KEY)
    assert artifact.key == KEY
    assert np.array_equal(artifact.array("numbers"), np.arange(12).reshape(3, 4).T)
    assert artifact.array("block").dtype == np.float16
    assert np.array_equal(artifact.array("block"), np.arange(10).reshape(5, 2))
    tensors = artifact.tensors("model")
    assert torch.equal(tensors["w"], torch.arange(6.0).reshape(2, 3).T)
    assert tensors["n"].item() == 4
    assert artifact.table("history") == {"loss": [1.5, None]}
    assert artifact.values == {"value": 1.0}
    assert artifact.record["kind"] == "score"
    assert artifact.record["seconds"] == 0.25
    assert artifact.has("numbers")
    assert not artifact.has("number")


def test_an_array_that_is_read_cannot_be_changed(store):
    fill(store)
    with pytest.raises(ValueError, match="read-only"):
        store.open(KEY).array("numbers")[0] = 3


def test_nothing_is_pickled(store):
    with pytest.raises(ValueError, match="allow_pickle"), store.write(KEY, {}) as draft:
        draft.array("objects", np.array([{"a": 1}], dtype=object))
    assert_clean(store)


def test_a_key_that_is_not_there(store):
    assert not store.has(KEY)
    with pytest.raises(KeyError):
        store.open(KEY)


def test_a_file_that_an_artifact_does_not_have(store):
    fill(store)
    with pytest.raises(VerificationError, match=r"no file absent\.npy"):
        store.open(KEY).array("absent")


# -- whole or not at all


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_inside_leaves_nothing(store, error):
    def write() -> None:
        with store.write(KEY, {}) as draft:
            draft.array("numbers", np.zeros(3))
            raise error

    with pytest.raises(error):
        write()
    assert_clean(store)
    assert not store.has(KEY)
    assert list((store.root / "tmp").iterdir()) == []


def test_nothing_is_seen_before_the_end(store):
    with store.write(KEY, {}) as draft:
        draft.array("numbers", np.zeros(3))
        assert not store.has(KEY)
        assert list(store.records()) == []
    assert store.has(KEY)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, np.float32(1)])
def test_values_that_json_cannot_hold_are_refused(store, bad):
    with pytest.raises((ValueError, TypeError)), store.write(KEY, {}) as draft:
        draft.values["value"] = bad
    assert_clean(store)


def test_a_table_with_nan_is_refused(store):
    with pytest.raises(ValueError, match="JSON"), store.write(KEY, {}) as draft:
        draft.table("history", {"loss": [float("nan")]})
    assert_clean(store)


def test_a_description_with_nan_is_refused(store):
    with pytest.raises(ValueError, match="JSON"), store.write(KEY, {"seconds": float("nan")}):
        pass
    assert_clean(store)


KILLED = """
import sys, time
import numpy as np
from pathlib import Path
from kdbench.store import Store

store = Store(Path(sys.argv[1]))
with store.write(sys.argv[2], {"kind": "score"}) as draft:
    draft.array("numbers", np.zeros(1000))
    store.partial(sys.argv[2]).mkdir(parents=True)
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_writer_killed_in_the_middle_leaves_a_clean_store(store):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store.root), KEY], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert_clean(store)
    assert store.verify() == []
    assert len(list((store.root / "tmp").iterdir())) == 1
    fill(store)  # what it left behind is in nobody's way
    assert store.open(KEY).values == {"value": 1.0}
    assert store.verify() == []


def test_a_sweep_removes_old_leavings_alone(store):
    old, new = store.root / "tmp" / f"{KEY}-1", store.root / "tmp" / f"{KEY}-2"
    for folder in (old, new):
        folder.mkdir()
        (folder / "numbers.npy").write_text("x")
    os.utime(old, (1, 1))
    store.sweep()
    assert not old.exists()
    assert new.exists()


def test_what_another_run_is_at_work_on_is_not_discarded(store):
    left, other = (store.root / "tmp" / f"{key}-dead" for key in (KEY, OTHER))
    left.mkdir()
    other.mkdir()
    with Store(store.root).lock(KEY):
        store.discard(KEY)
        assert left.exists()
    store.discard(KEY)
    assert not left.exists()
    assert other.exists()


def test_a_folder_without_a_record_is_replaced(store):
    """Where a crash of the machine left a folder whose record was never written."""
    folder = store.root / "objects" / KEY[:2] / KEY
    folder.mkdir(parents=True)
    (folder / "numbers.npy").write_bytes(b"half")
    assert not store.has(KEY)
    fill(store)
    assert store.open(KEY).array("numbers").shape == (4, 3)
    assert store.verify() == []


def test_whoever_may_read_the_folder_may_read_its_files(store):
    fill(store)
    folder = store.open(KEY).folder
    assert {f.stat().st_mode & 0o777 for f in folder.iterdir()} == {folder.stat().st_mode & 0o666}


# -- damage


def test_a_flipped_byte_is_named(store):
    fill(store)
    fill(store, OTHER)
    assert store.verify() == []
    path = store.open(KEY).folder / "numbers.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.verify() == [str(path)]
    assert store.verify([OTHER]) == []
    assert store.verify([KEY, OTHER]) == [str(path)]


def test_a_missing_file_is_named(store):
    fill(store)
    path = store.open(KEY).folder / "model.safetensors"
    path.unlink()
    assert store.verify() == [str(path)]


def test_a_file_of_another_size_is_refused_when_it_is_opened(store):
    fill(store)
    artifact = store.open(KEY)
    path = artifact.folder / "numbers.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(VerificationError) as caught:
        artifact.array("numbers")
    assert caught.value.exit_code == 4
    assert str(path) in str(caught.value)
    assert "run again" in str(caught.value)


def edited(path: Path, before: str, after: str) -> Path:
    """The file, with one text changed by hand."""
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    return path


@pytest.mark.parametrize("content", [b"", b"{", b'{"key": "ab', b"[]", b"null", b'"\xff"', b"\x00" * 64])
def test_a_record_that_cannot_be_read_is_refused_and_named(store, content):
    fill(store)
    fill(store, OTHER)
    path = store.open(KEY).folder / "record.json"
    path.write_bytes(content)
    with pytest.raises(VerificationError, match=r"record\.json is damaged") as caught:
        store.open(KEY)
    assert str(path) in str(caught.value)
    assert f"delete the folder {path.parent} and run again" in str(caught.value)
    assert store.verify() == store.verify([KEY]) == [str(path)]
    assert [r["key"] for r in store.records()] == [OTHER]


def test_a_value_that_was_edited_is_refused_and_named(store):
    fill(store, value=0.25)
    path = edited(store.open(KEY).folder / "record.json", '"value": 0.25', '"value": 0.99')
    with pytest.raises(VerificationError, match="not what was written, by its checksum"):
        store.open(KEY)
    assert store.verify() == [str(path)]


def test_an_artifact_in_the_place_of_another_is_refused(store):
    fill(store)
    shutil.copytree(store.open(KEY).folder, store.root / "objects" / OTHER[:2] / OTHER)
    with pytest.raises(VerificationError, match=f"of another artifact, {KEY}"):
        store.open(OTHER)
    assert len(store.verify()) == 1


def test_a_record_without_a_checksum_is_refused(store):
    fill(store, value=0.25)
    path = store.open(KEY).folder / "record.json"
    record = json.loads(path.read_text())
    del record["sha256"]
    path.write_text(json.dumps(record, indent=1, sort_keys=True))
    with pytest.raises(VerificationError, match="not what was written"):
        store.open(KEY)
    assert len(store.verify()) == 1


def test_a_checksum_is_of_what_will_be_read(store):
    """Keys that are numbers sort in another order than the same keys as text."""
    with store.write(KEY, {"sizes": {10: "a", 9: "b"}}) as draft:
        draft.values["pair"] = (1, 2)
    assert store.open(KEY).record["sizes"] == {"10": "a", "9": "b"}
    assert "sha256" not in store.open(KEY).record


@pytest.mark.parametrize("name", ["history.json", "model.safetensors", "numbers.npy"])
def test_a_file_of_the_right_size_that_cannot_be_read_is_refused(store, name):
    fill(store)
    artifact = store.open(KEY)
    path = artifact.folder / name
    path.write_bytes(b"\xff" * path.stat().st_size)
    read = {"history.json": artifact.table, "model.safetensors": artifact.tensors}.get(name, artifact.array)
    with pytest.raises(VerificationError, match="is damaged") as caught:
        read(name.split(".")[0])
    assert str(path) in str(caught.value)
    assert store.verify() == [str(path)]


# -- several processes

RACING = """
import sys, time
import numpy as np
from pathlib import Path
from kdbench.store import Store

root, key, value = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
store = Store(root)
(root / f"ready-{value}").write_text("")
while len(list(root.glob("ready-*"))) < 2:
    time.sleep(0.005)
with store.write(key, {"kind": "score"}) as draft:
    draft.array("numbers", np.full(1000, value))
    draft.values["value"] = value
"""


def test_two_writers_of_one_key_leave_one_whole_artifact(store):
    children = [
        subprocess.Popen([sys.executable, "-c", RACING, str(store.root), KEY, str(v)]) for v in (1.0, 2.0)
    ]
    assert [c.wait() for c in children] == [0, 0]
    artifact = store.open(KEY)
    assert artifact.values["value"] in (1.0, 2.0)
    assert (artifact.array("numbers") == artifact.values["value"]).all()
    assert store.verify() == []
    assert list((store.root / "tmp").iterdir()) == []


def test_the_first_writer_of_a_key_is_kept(store):
    with store.write(KEY, {}) as draft:
        draft.values["value"] = 1
        fill(store, value=2.0)
    assert store.open(KEY).values == {"value": 2.0}


def test_a_lock_is_held_by_one(store):
    import filelock

    with store.lock(KEY), pytest.raises(filelock.Timeout):
        store.lock(KEY).acquire(timeout=0.05)
    with store.lock(KEY), store.lock(OTHER):
        pass


# -- failures, checkpoints, workspaces


def test_a_failure_and_checkpoints_are_gone_after_a_success(store):
    store.fail(KEY, {"title": "t", "error": "boom"})
    store.fail(OTHER, {"title": "u", "error": "boom"})
    store.partial(KEY).mkdir(parents=True)
    (store.partial(KEY) / "training.safetensors").write_text("x")
    path = store.root / "failures" / f"{KEY}.json"
    assert json.loads(path.read_text())["error"] == "boom"
    fill(store)
    assert not path.exists()
    assert not store.partial(KEY).exists()
    assert (store.root / "failures" / f"{OTHER}.json").exists()


def test_checkpoints_outlive_a_failed_write(store):
    store.partial(KEY).mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), store.write(KEY, {}):
        raise KeyboardInterrupt
    assert store.partial(KEY).is_dir()


def test_a_workspace_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError) as caught:
        Store(tmp_path / "file" / "workspace")
    assert caught.value.exit_code == 2
    assert str(tmp_path / "file") in str(caught.value)
    assert "--workspace" in str(caught.value)


# -- keys


def test_canonical_json():
    assert canonical({"b": (1, 2), "a": {"y": None, "x": True}}) == '{"a":{"x":true,"y":null},"b":[1,2]}'
    assert canonical("é") == '"\\u00e9"'
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            canonical({"a": bad})


def test_keys_tell_content_apart_and_nothing_else():
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": (2,), "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
    assert content_key({"a": 1}) != content_key({"a": "1"})
    assert len(content_key({})) == 32
    assert set(content_key({})) <= set("0123456789abcdef")
    # a known answer: a change of it makes every workspace's results be computed again
    assert content_key({"a": 1}) == hashlib.sha256(b'{"a":1,"store":2}').hexdigest()[:32]


# -- cells


def cell(key: str = "k", **changed) -> CellRecord:
    fields = {
        "key": key, "suite": "tiny", "scale": "here", "dataset": "shapes", "budget": 20,
        "fold": 0, "scheme": "kl", "student": "s", "teacher": "t", "status": "finished",
        "results": (Result("accuracy", "accuracy", 0.5, primary=True),),
        "history": {"loss": [1.0, None]}, "settings": settings_from({"student.epochs": 2}),
    }  # fmt: skip
    return CellRecord(**(fields | changed))


def test_cells_are_read_back_by_suite_and_scale(store):
    for record in (cell("b"), cell("a"), cell("c", scale="there"), cell("d", suite="other")):
        store.save_cell(record)
    assert store.cell("tiny", "here", "a") == cell("a")
    assert store.cell("tiny", "here", "c") is None
    assert [c.key for c in store.cells("tiny", "here")] == ["a", "b"]
    assert [c.key for c in store.cells("tiny")] == ["a", "b", "c"]
    assert len(store.cells()) == 4
    store.save_cell(cell("a", status="failed", error="boom"))
    again = store.cell("tiny", "here", "a")
    assert again is not None
    assert again.status == "failed"
    assert len(store.cells()) == 4


def test_a_cell_that_was_edited_or_cut_off_is_refused_and_named(store):
    whole = store.save_cell(cell("a"))
    wrong = [store.save_cell(cell(key)) for key in ("b", "c", "d", "e")]
    edited(wrong[0], '"value": 0.5', '"value": 0.99')
    wrong[1].write_text(wrong[1].read_text()[:100])
    wrong[2].write_text('{"key": "d"}')
    shutil.copy(whole, wrong[3])
    for path in wrong:
        with pytest.raises(VerificationError, match="is damaged") as caught:
            store.cell("tiny", "here", path.stem)
        assert str(path) in str(caught.value)
        assert "kdbench run tiny" in caught.value.hint
    assert store.verify() == [str(path) for path in wrong]
    damaged: list[VerificationError] = []
    assert store.cells(damaged=damaged) == [cell("a")]
    assert [error.where for error in damaged] == [str(path) for path in wrong]
    with pytest.raises(VerificationError):
        store.cells("tiny")
    assert store.cells("other") == []  # what is damaged elsewhere is in nobody's way


def test_a_cell_that_cannot_be_written_is_told_and_the_one_before_stays(store):
    path = store.save_cell(cell("a"))
    code = (
        "import resource, sys; from dataclasses import replace; from kdbench.store import Store\n"
        "store = Store(sys.argv[1]); record = store.cell('tiny', 'here', 'a')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "store.save_cell(replace(record, error='x' * 1000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.root)], capture_output=True, text=True, check=False
    )
    assert "WorkspaceError" in done.stderr
    assert "can't be written: File too large" in done.stderr
    assert str(path) in done.stderr
    assert store.cells() == [cell("a")]
    assert list(path.parent.iterdir()) == [path]


def test_a_cell_of_another_format_is_refused(store):
    store.save_cell(cell(record_version=1))
    with pytest.raises(WorkspaceError, match="format 1, and this kdbench reads format 2") as caught:
        store.cells()
    assert "--workspace" in caught.value.hint
    with pytest.raises(WorkspaceError, match="format 1"):
        store.check_format()


# -- files that belong together

FULL = """
import resource, sys
from pathlib import Path
from kdbench.store import replace_files

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Path(sys.argv[1])
try:
    replace_files({folder / "a": b"new", folder / "b": b"new" * 1000, folder / "c": b"new"})
except OSError as error:
    print(error.strerror)
"""


def test_where_one_file_does_not_fit_all_stay_as_they_were(tmp_path):
    replace_files({tmp_path / name: b"old" for name in "abc"})
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "File too large\n"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == dict.fromkeys("abc", b"old")
