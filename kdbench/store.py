"""Content-addressed results on disk: written atomically, with checksums, safe to share between processes.

objects/<2>/<key>/record.json    one artifact: what made it, its values, its files with their SHA-256
objects/<2>/<key>/*              arrays (.npy), tensors (.safetensors), tables (.json), figures (.svg, .png)
cells/<suite>/<scale>/<key>.json records of cells
failures/<key>.json              the last failure of a stage that has not succeeded since
partial/<key>/                   checkpoints of work under way
cache/<key>/                     what is worked out from an artifact as it is asked for, and may be removed

A record, of an artifact or of a cell, contains its own SHA-256, which is checked whenever the record is read. What
is damaged is named and refused, and nothing is deleted: an artifact is recomputed once its folder is gone, a cell's
record is rebuilt by the next run of its suite.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.api.records import CellRecord
from kdbench.errors import VerificationError, WorkspaceError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from filelock import BaseFileLock
    from matplotlib.figure import Figure

#: Raised when the layout of the store changes; part of every key.
STORE_VERSION = 2
_FIGURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def canonical(value: Any) -> str:
    """JSON that is the same for the same content: sorted keys, no spaces, tuples as lists."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content_key(identity: Mapping[str, Any]) -> str:
    """32 hex digits of the SHA-256 of `identity`."""
    return hashlib.sha256(canonical({"store": STORE_VERSION, **identity}).encode()).hexdigest()[:32]


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


#: Where a record has the SHA-256 of all the rest of it.
_SUM = "sha256"


def _write_json(path: Path, data: Any) -> None:
    """Atomically."""
    replace_files({path: json.dumps(data, indent=1, sort_keys=True).encode()})


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all to temporary files first, then rename each.

    If one can't be written (a full disk), all stay as they were, and no temporary file is left.

    Raises OSError if one can't be written.
    """
    written: list[tuple[Path, Path]] = []
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
            written.append((temporary, path))
            temporary.write_bytes(content)
        for temporary, path in written:
            os.replace(temporary, path)
    except BaseException:
        for temporary, _ in written:
            with contextlib.suppress(OSError):  # the one that is raised says more
                temporary.unlink()
        raise


def _record_sum(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _write_record(path: Path, record: Mapping[str, Any]) -> None:
    """A record with its checksum: of what will be read, where keys are texts and tuples lists."""
    plain = json.loads(json.dumps(record))
    _write_json(path, {**plain, _SUM: _record_sum(plain)})


def _read_record(path: Path, hint: str) -> dict[str, Any]:
    """What `_write_record` wrote. Raises VerificationError, with `hint`, if it is not that."""
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        stated = record.pop(_SUM, None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise VerificationError(
            f"{path.name} is damaged: it is no record ({error})", where=str(path), hint=hint
        ) from error
    if stated != _record_sum(record):
        raise VerificationError(
            f"{path.name} is damaged: it is not what was written, by its checksum", where=str(path), hint=hint
        )
    return record


@dataclass
class Draft:
    """An artifact being written. Files go to a folder of their own that becomes the artifact at the end."""

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    #: added to the record's description (what is known only at the end)
    description: dict[str, Any] = field(default_factory=dict)

    def array(self, name: str, data: np.ndarray) -> None:
        import numpy as np

        np.save(self.folder / f"{name}.npy", np.ascontiguousarray(data), allow_pickle=False)

    def open_array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A memory-mapped array to fill block by block."""
        import numpy as np

        return np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)

    def tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        from safetensors.torch import save_file

        save_file(
            {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
            path := self.folder / f"{name}.safetensors",
        )
        # it writes files that nobody else may read, and a workspace may be a team's
        path.chmod(self.folder.stat().st_mode & 0o666)

    def table(self, name: str, data: Any) -> None:
        """JSON data; NaN is refused, as JSON has none."""
        text = json.dumps(data, sort_keys=True, allow_nan=False)
        (self.folder / f"{name}.json").write_text(text, encoding="utf-8")

    def figure(self, name: str, figure: Figure) -> None:
        """`<name>.svg` and `<name>.png`, on white; the same bytes for the same figure.

        Raises ValueError if `name` is more than letters, digits, "-" and "_".
        """
        import matplotlib

        if not _FIGURE_NAME.fullmatch(name):
            raise ValueError(f"figure {name!r}: a name is letters, digits, '-' and '_'")
        # Ids without a salt are random, and a date makes each file another one.
        with matplotlib.rc_context({"svg.hashsalt": "kdbench", "svg.fonttype": "none"}):
            for suffix, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
                path = self.folder / f"{name}.{suffix}"
                figure.savefig(path, format=suffix, dpi=160, facecolor="white", metadata=metadata)


@dataclass(frozen=True)
class Artifact:
    """A finished artifact."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def key(self) -> str:
        return str(self.record["key"])

    @property
    def values(self) -> Mapping[str, Any]:
        values: Mapping[str, Any] = self.record["values"]
        return values

    def _file(self, name: str) -> Path:
        path = self.folder / name
        expected = self.record["files"].get(name)
        if expected is None:
            raise VerificationError(f"artifact {self.key} has no file {name}", where=str(self.folder))
        if not path.exists() or path.stat().st_size != expected["bytes"]:
            raise VerificationError(
                f"{name} of artifact {self.key} is damaged (its size is not the recorded one)",
                where=str(path),
                hint=f"delete the folder {self.folder} and run again",
            )
        return path

    def has(self, name: str) -> bool:
        return any(f.rsplit(".", 1)[0] == name for f in self.record["files"])

    @contextlib.contextmanager
    def _reading(self, name: str, *errors: type[Exception]) -> Iterator[Path]:
        """The file `name`. What its reader raises for a damaged file is raised as a VerificationError."""
        path = self._file(name)
        try:
            yield path
        except errors as error:
            raise VerificationError(
                f"{name} of artifact {self.key} is damaged: {error}",
                where=str(path),
                hint=f"delete the folder {self.folder} and run again",
            ) from error

    def array(self, name: str) -> np.ndarray:
        """Memory-mapped, read-only."""
        import numpy as np

        with self._reading(f"{name}.npy", ValueError) as path:
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
            return array

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        with self._reading(f"{name}.safetensors", SafetensorError) as path:
            return load_file(path)

    def table(self, name: str) -> Any:
        with self._reading(f"{name}.json", ValueError) as path:
            return json.loads(path.read_text(encoding="utf-8"))

    def damaged_files(self) -> list[str]:
        """Files whose SHA-256 is not the recorded one."""
        wrong = []
        for name, entry in self.record["files"].items():
            path = self.folder / name
            if not path.exists() or _sha256(path) != entry["sha256"]:
                wrong.append(str(path))
        return wrong


class Store:
    """The store of a workspace.

    Parameters
    ----------
    workspace
        Created where it does not exist.

    Raises
    ------
    WorkspaceError
        It can't be written.
    """

    def __init__(self, workspace: Path) -> None:
        self.root = Path(workspace).expanduser().resolve()
        try:
            for name in ("objects", "cells", "failures", "partial", "tmp", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / "tmp" / f"probe-{uuid.uuid4().hex[:8]}"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise WorkspaceError(
                f"the workspace can't be written: {error.strerror or error}",
                where=str(self.root),
                hint="choose another with --workspace DIR or $KDBENCH_HOME",
            ) from error

    def _folder(self, key: str) -> Path:
        return self.root / "objects" / key[:2] / key

    def has(self, key: str) -> bool:
        return (self._folder(key) / "record.json").is_file()

    def open(self, key: str) -> Artifact:
        """The artifact of `key`.

        Raises KeyError if it is not there, and VerificationError if its record is damaged, or of another artifact.
        """
        folder = self._folder(key)
        hint = f"delete the folder {folder} and run again; `kdbench verify` names all that is damaged"
        try:
            record = _read_record(folder / "record.json", hint)
        except FileNotFoundError:
            raise KeyError(key) from None
        if record.get("key") != key:
            raise VerificationError(
                f"record.json is of another artifact, {record.get('key')}",
                where=str(folder / "record.json"),
                hint=hint,
            )
        return Artifact(folder, record)

    @contextlib.contextmanager
    def write(self, key: str, description: Mapping[str, Any]) -> Iterator[Draft]:
        """Write an artifact: nothing of it is seen unless the block ends without an exception.

        Where another process finished the same key meanwhile, its artifact is kept.
        """
        folder = self.root / "tmp" / f"{key}-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        try:
            draft = Draft(folder)
            yield draft
            files = {
                p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in sorted(folder.iterdir())
            }
            record = {"key": key, **description, **draft.description, "values": draft.values, "files": files}
            canonical(record)  # refuses NaN and what JSON can't hold, before anything is kept
            _write_record(folder / "record.json", record)
            target = self._folder(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(folder, target)
            except OSError:
                if not self.has(key):
                    if not target.exists():
                        raise
                    shutil.rmtree(target)  # what a crash left of it
                    os.rename(folder, target)
            (self.root / "failures" / f"{key}.json").unlink(missing_ok=True)
            shutil.rmtree(self.partial(key), ignore_errors=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def fail(self, key: str, failure: Mapping[str, Any]) -> None:
        """Remember how a stage failed."""
        _write_json(self.root / "failures" / f"{key}.json", dict(failure))

    def partial(self, key: str) -> Path:
        """A folder for checkpoints of the stage `key`; removed once its artifact is written."""
        return self.root / "partial" / key

    def cache(self, key: str) -> Path:
        """A folder for values computed on demand from the artifact `key`. It may be removed; it is then refilled."""
        return self.root / "cache" / key

    def discard(self, key: str) -> None:
        """Remove what a writer that is gone left of an artifact; nothing where another run is at work on it."""
        from filelock import Timeout

        with contextlib.suppress(Timeout), self.lock(key).acquire(timeout=0):
            for folder in (self.root / "tmp").glob(f"{key}-*"):
                shutil.rmtree(folder, ignore_errors=True)

    def lock(self, key: str) -> BaseFileLock:
        """Held while a stage is worked on, so that two runs do not do the same work."""
        from filelock import FileLock

        return FileLock(self.root / "locks" / f"{key}.lock")

    def keys(self) -> list[str]:
        """Of every artifact, in no particular order."""
        return [path.parent.name for path in (self.root / "objects").glob("*/*/record.json")]

    def records(self) -> Iterator[Mapping[str, Any]]:
        """The record of every artifact but of damaged ones, which `verify` names; in no particular order."""
        for key in self.keys():
            with contextlib.suppress(VerificationError, KeyError):  # or another process removed it since
                yield self.open(key).record

    def save_cell(self, cell: CellRecord) -> Path:
        """Write a cell's record, in the place of the one before. Raises WorkspaceError if it can't be written."""
        path = self._cell_file(cell.suite, cell.scale, cell.key)
        try:
            _write_record(path, cell.to_json())
        except OSError as error:
            raise WorkspaceError(
                f"the record of a cell can't be written: {error.strerror or error}",
                where=str(path),
                hint="make room there, then run again: what is finished is kept",
            ) from error
        return path

    def _cell_file(self, suite: str, scale: str, key: str) -> Path:
        return self.root / "cells" / suite / scale / f"{key}.json"

    def cell(self, suite: str, scale: str, key: str) -> CellRecord | None:
        """A cell's record, or None.

        Raises VerificationError if it is damaged. The next run of its suite rebuilds it.
        """
        path = self._cell_file(suite, scale, key)
        return self._read_cell(path) if path.is_file() else None

    def _read_cell(self, path: Path) -> CellRecord:
        *_, suite, scale, name = path.parts
        hint = f"`kdbench run {suite} --scale {scale}` rebuilds it from its stages; or delete the file"
        record = _read_record(path, hint)
        try:
            cell = CellRecord.from_json(record)
        except WorkspaceError as error:
            raise WorkspaceError(error.what, where=str(path), hint=error.hint) from error
        except (TypeError, AttributeError, KeyError) as error:
            raise VerificationError(
                f"{path.name} is damaged: it is no record of a cell ({error})", where=str(path), hint=hint
            ) from error
        if self._cell_file(cell.suite, cell.scale, cell.key) != path:
            raise VerificationError(
                f"{name} is damaged: it is of another cell, {cell.key} of {cell.suite!r} at {cell.scale!r}",
                where=str(path),
                hint=hint,
            )
        return cell

    def check_format(self) -> None:
        """Refuse a workspace with records of another format. Raises WorkspaceError."""
        for path in self.root.glob("cells/*/*/*.json"):
            with contextlib.suppress(VerificationError):  # a damaged record is rebuilt by its run
                self._read_cell(path)
                return

    def cells(
        self,
        suite: str | None = None,
        scale: str | None = None,
        damaged: list[VerificationError] | None = None,
    ) -> list[CellRecord]:
        """Records of cells, of one suite and scale or of all, oldest first; of one age by key.

        Parameters
        ----------
        suite
            Name of a suite; all by default.
        scale
            Name of a scale; all by default.
        damaged
            Collects the errors of damaged records, which are then skipped.

        Returns
        -------
        list of CellRecord
            The records.

        Raises
        ------
        VerificationError
            a record is damaged, where `damaged` is not given.
        """
        found = []
        for path in sorted((self.root / "cells").glob(f"{suite or '*'}/{scale or '*'}/*.json")):
            try:
                found.append(self._read_cell(path))
            except VerificationError as error:
                if damaged is None:
                    raise
                damaged.append(error)
        return sorted(found, key=lambda c: (c.created, c.key, c.suite, c.scale))

    def verify(self, keys: Iterable[str] | None = None) -> list[str]:
        """Paths of records and files that do not match their SHA-256: of the artifacts `keys`, or of all
        artifacts and cells."""
        wrong: list[str] = []
        for key in self.keys() if keys is None else keys:
            try:
                wrong += self.open(key).damaged_files()
            except VerificationError as error:
                wrong.append(error.where)
            except KeyError:
                continue
        if keys is None:
            damaged: list[VerificationError] = []
            self.cells(damaged=damaged)
            wrong += [error.where for error in damaged]
        return sorted(wrong)

    def sweep(self) -> None:
        """Remove what interrupted writers left behind more than a day ago."""
        import time

        for path in (self.root / "tmp").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > 86400:
                    shutil.rmtree(path, ignore_errors=True)
