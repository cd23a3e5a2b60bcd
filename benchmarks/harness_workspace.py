"""Workspaces as long runs leave them, made in seconds: the real plan, artifacts of real shapes, drawn numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdbench.api.records import CellRecord, Result
from kdbench.api.settings import (
    ComponentSettings,
    DatasetSettings,
    DataSettings,
    NetworkSettings,
    Settings,
)
from kdbench.plan import Plan, Stage
from kdbench.stages.provenance import hardware, versions
from kdbench.store import Draft, Store

#: `quick` with 14 folds instead of 3 has 1,009 stages.
SUITE = "paper-reference"
THOUSAND_STAGES = ("data.folds=14",)
_CLASSES, _SUPERCLASSES = 100, 20
_VALUES = {
    "metrics/accuracy": ["accuracy", "top5"],
    "metrics/superclass-correlation": ["r", "r2", *(f"superclass {i}" for i in range(_SUPERCLASSES))],
    "metrics/ivis-loss": ["last", "min", "eval", "tail20", "n_epochs"],
    "metrics/class-area": ["median", "mean", "q25", "q75", "left_out"],
}


def prepared(workspace: Path, overrides: tuple[str, ...] = THOUSAND_STAGES) -> Any:
    """The session of the benchmarks' suite: its plan over its data, its store."""
    from kdbench.locations import data_places, discover
    from kdbench.session.prepare import prepare
    from kdbench.suite import load_suite

    registry = discover()
    resolved = load_suite(SUITE, scale="quick", overrides=overrides, registry=registry)
    return prepare(
        resolved, registry, workspace=workspace, places=data_places(), device="cpu", plan_only=True
    )


def finish(plan: Plan, store: Store) -> None:
    """Write an artifact for every stage of `plan`, with the files, values and sizes that the stages leave
    (tensors and layers of a few KiB; what they hold is nowhere read)."""
    about = {"hardware": hardware("cpu", 1), "versions": versions(), "git_commit": "0" * 12}
    for number, stage in enumerate(plan.stages.values()):
        description = {
            "kind": stage.kind, "component": stage.component, "identity": dict(stage.identity),
            "inputs": dict(stage.inputs), "title": stage.title, "work": stage.work, "unit": stage.unit,
            "created": 1.7e9 + number, "seconds": 1.0, **about,
        }  # fmt: skip
        with store.write(stage.key, description) as draft:
            _fill(draft, stage, np.random.default_rng(number))


def _fill(draft: Draft, stage: Stage, rng: np.random.Generator) -> None:
    if stage.kind in ("source", "teacher", "student"):
        draft.array("model", rng.normal(size=1000).astype(np.float32))
        draft.table(
            "history", {name: rng.random(20).tolist() for name in ("loss", "test_accuracy", "seconds")}
        )
        draft.values |= {"images": 6000, "steps": 195}
    elif stage.kind == "features":
        for tap in stage.identity["taps"]:
            draft.array(tap, rng.random((400, 4)).astype(np.float16))
    elif stage.kind == "embedding":
        draft.array("points", rng.normal(size=(400, 2)).astype(np.float32))
        draft.values |= {"loss_history": rng.random(60).tolist(), "fit_seconds": 1.5, "diagnostics": {}}
    elif stage.kind == "score":
        values = {name: float(rng.random()) for name in _VALUES[stage.component]}
        arrays = {
            "metrics/superclass-correlation": {
                "r": rng.random(_SUPERCLASSES), "r2": rng.random(_SUPERCLASSES),
                "names": np.array([f"superclass {i}" for i in range(_SUPERCLASSES)]),
            },
            "metrics/ivis-loss": {"loss": rng.random(60)},
            "metrics/class-area": {
                "ratio": rng.random(_CLASSES), "label": rng.integers(0, _CLASSES, 400),
                "superclass": np.arange(_CLASSES) % _SUPERCLASSES,
            },
        }.get(stage.component, {})  # fmt: skip
        for name, array in arrays.items():
            draft.array(name, array)
        draft.values |= {"values": values, "setting": "n=400", "arrays": sorted(arrays), "figures": []}
    else:
        draft.array("rows", rng.integers(0, 3400, 400))


def many_cells(n: int = 2000) -> Iterator[CellRecord]:
    """`n` finished cells of the suite, five folds of each setting: budgets, schemes with a parameter each,
    31 results a cell, as a student's cell of `quick` has them."""
    taps, reducers = ("A", "B", "C", "D", "E"), ("ivis-torch", "pca")
    for number in range(n):
        setting, fold = divmod(number, 5)
        budget = (400, 2500, 5000, 10000, 20000)[setting % 5]
        scheme = "undistilled" if setting < 5 else f"kl[temperature={setting // 5}]"
        rng = np.random.default_rng(number)
        results = [Result("accuracy", "accuracy", float(rng.random()), primary=True)]
        results += [
            Result(metric, name, float(rng.random()), tap, reducer, "n=400", primary)
            for tap in taps
            for reducer in reducers
            for metric, name, primary in (("class-area", "median", True), ("class-area", "mean", False))
        ]
        results += [
            Result("ivis-loss", n_, float(rng.random()), t, "ivis-torch", "n=400")
            for t in taps
            for n_ in ("last", "min")
        ]
        recipe = {f"parameter_{i}": i for i in range(30)} | {"epochs": 4}
        temperature = {} if scheme == "undistilled" else {"temperature": float(setting // 5)}
        settings = Settings(
            DataSettings(DatasetSettings("shapes", {}, "0" * 64), "all", 1000, "all", 0),
            student=NetworkSettings(ComponentSettings("wide-resnet"), recipe),
            scheme=ComponentSettings(scheme.split("[")[0], temperature),
        )
        yield CellRecord(
            key=f"{number:032x}", suite=SUITE, scale="quick", dataset="shapes",
            budget=budget, fold=fold, scheme=scheme, student="WRN-28-1",
            teacher="" if scheme == "undistilled" else "WRN-16-2", status="finished", seed=0,
            results=tuple(results), settings=settings, steps=200, images_seen=12_800,
            history={"test_accuracy": rng.random(4).tolist()},
            stages={f"stage {i} · {scheme} · {budget}": f"{i:032x}" for i in range(32)}, seconds=10.0,
            hardware=hardware("cpu", 1), versions=versions(), git_commit="0" * 12,
            arrays={f"{t}/{r}/embedding": f"objects/00/{number:032x}/points.npy" for t in taps for r in reducers},
            created=1.7e9 + number,
        )  # fmt: skip


def log_cells(uri: str, cells: list[CellRecord]) -> None:
    """Put `cells` into an SQLite tracking store as `Tracker.sync` does, ten times as fast.

    The first cell is logged through MLflow; the others' rows are written beside its own, after its pattern.
    """
    import sqlite3
    import uuid

    from kdbench.tracking import Tracker
    from kdbench.tracking import tags as codec

    path = Path(uri.removeprefix("sqlite:///"))
    Tracker(uri, path.parent).sync(cells[:1])
    with sqlite3.connect(path) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(runs)")]
        (pattern,) = db.execute("SELECT * FROM runs").fetchall()
        metric_columns = [row[1] for row in db.execute("PRAGMA table_info(latest_metrics)")]
        like = dict(zip(columns, pattern, strict=True))
        runs, tags, params, latest = [], [], [], []
        for number, cell in enumerate(cells[1:], start=1):
            id_ = uuid.uuid4().hex
            row = like | {
                "run_uuid": id_,
                "name": cell.title,
                "start_time": like["start_time"] + number,
            }
            runs.append([row[c] for c in columns])
            own = {**codec.describing_tags(cell), **codec.to_tags(cell), "kdbench.complete": "1"}
            own |= {"mlflow.source.name": "kdbench", "mlflow.runName": cell.title}
            tags += [(name, value, id_) for name, value in own.items()]
            params += [(name, value, id_) for name, value in codec.flat_params(cell.settings.flat()).items()]
            for name, result in zip(codec.metric_names(cell.results), cell.results, strict=True):
                metric = {
                    "key": name,
                    "value": result.value,
                    "timestamp": 1,
                    "step": 0,
                    "is_nan": 0,
                    "run_uuid": id_,
                }
                latest.append([metric[c] for c in metric_columns])
        for table, rows in (("runs", runs), ("latest_metrics", latest)):
            db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        db.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
        db.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)


def kdbench(*args: str | Path) -> str:
    """The command line in a process of its own; what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("KDBENCH_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "kdbench.cli.main", *map(str, args)],
        env=clean | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout
