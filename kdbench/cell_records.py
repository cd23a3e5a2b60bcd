"""The record of a cell, assembled from the artifacts of its stages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from kdbench.api.records import CellRecord, Result, RunSummary, StageSummary, hardware_label, measurement
from kdbench.plan import Cell, Plan
from kdbench.store import Artifact, Store, canonical


def cell_record(
    plan: Plan, cell: Cell, store: Store, summary: RunSummary, failure: StageSummary | None, done: set[str]
) -> CellRecord:
    """The record of a cell; of a failed one, with everything that was measured before it failed.

    Parameters
    ----------
    plan
        The plan that the cell is part of.
    cell
        The cell.
    store
        Holds the artifacts.
    summary
        The run; it stands in for the machine and versions of a network that failed.
    failure
        The stage that failed, if any.
    done
        Keys of the stages that are in the store.

    Returns
    -------
    CellRecord
        The record.

    Raises
    ------
    VerificationError
        The record or the history of a stage is damaged.
    """
    artifacts = {key: store.open(key) for key in dict.fromkeys(cell.stages()) if key in done}
    network = artifacts.get(cell.network)
    record = CellRecord(
        key=cell.key,
        suite=plan.suite.name,
        scale=plan.suite.scale,
        dataset=plan.dataset,
        budget=cell.budget,
        fold=cell.fold,
        scheme=cell.scheme,
        student=cell.student,
        teacher=cell.teacher,
        status="finished" if failure is None else "failed",
        settings=cell.settings,
        seed=cell.seed,
        results=tuple(_results(cell, artifacts)),
        stages={plan.stages[key].title: key for key in artifacts},
        seconds=round(sum(a.record.get("seconds", 0.0) for a in artifacts.values()), 3),
        hardware=dict(summary.hardware),
        versions=dict(summary.versions),
        git_commit=summary.git_commit,
        arrays=dict(_arrays(cell, artifacts, store)),
        figures=dict(_figures(cell, artifacts, store)),
        origins=_origins(cell, artifacts),
        created=max((a.record.get("created", 0.0) for a in artifacts.values()), default=time.time()),
        error="" if failure is None else f"{failure.title}\n{failure.error}",
    )
    if network is None:
        return record
    return replace(
        record,
        steps=network.values.get("steps", 0),
        images_seen=network.values.get("images", 0),
        history=network.table("history"),
        network=cell.network,
        hardware=dict(network.record["hardware"]),
        versions=dict(network.record["versions"]),
        git_commit=network.record.get("git_commit", ""),
    )


def same_content(one: CellRecord, other: CellRecord) -> bool:
    """Whether two records differ at most in when and by which run they were assembled."""
    assembled = {name: getattr(other, name) for name in ("git_commit", "versions", "hardware", "seconds")}
    return canonical(replace(one, **assembled).to_json()) == canonical(other.to_json())


def _results(cell: Cell, artifacts: Mapping[str, Artifact]) -> Iterator[Result]:
    for score in cell.scores:
        if (artifact := artifacts.get(score.key)) is None:
            continue
        setting = artifact.values["setting"]
        for name, value in artifact.values["values"].items():
            yield Result(score.metric, name, value, score.tap, score.reducer, setting, name == score.primary)
    for (tap, reducer), key in _embeddings(cell):
        if (artifact := artifacts.get(key)) is not None:
            n = len(artifact.array("points"))
            seconds = artifact.values["fit_seconds"]
            yield Result("embedding-time", "seconds", seconds, tap, reducer, f"n={n}")
    network = artifacts.get(cell.network)
    if network is not None and (confidence := network.values.get("teacher_confidence")):
        setting = f"T={confidence['temperature']:g}"
        yield Result("teacher-confidence", "top_probability", confidence["top_probability"], setting=setting)


def _embeddings(cell: Cell) -> Iterator[tuple[tuple[str, str], str]]:
    for position, key in cell.embeddings.items():
        tap, reducer = position.split("/", 1)
        yield (tap, reducer), key


def _arrays(cell: Cell, artifacts: Mapping[str, Artifact], store: Store) -> Iterator[tuple[str, str]]:
    for score in cell.scores:
        if (artifact := artifacts.get(score.key)) is not None:
            for name in artifact.values["arrays"]:
                path = _path(artifact, store, f"{name}.npy")
                yield f"{measurement(score.metric, score.tap, score.reducer)}.{name}", path
    for position, key in cell.embeddings.items():
        if (artifact := artifacts.get(key)) is not None:
            yield f"{position}/embedding", _path(artifact, store, "points.npy")


def _figures(cell: Cell, artifacts: Mapping[str, Artifact], store: Store) -> Iterator[tuple[str, str]]:
    for score in cell.scores:
        if (artifact := artifacts.get(score.key)) is not None:
            for name in artifact.values["figures"]:
                path = _path(artifact, store, f"{name}.svg")
                yield f"{measurement(score.metric, score.tap, score.reducer)}.{name}", path


def _path(artifact: Artifact, store: Store, name: str) -> str:
    """Path of a file of an artifact, below the store."""
    return str((artifact.folder / name).relative_to(store.root))


def _origins(cell: Cell, artifacts: Mapping[str, Artifact]) -> dict[str, dict[str, str]]:
    """Machines and versions of the measurements that were not made where the network was trained."""
    trained = _origin(artifacts[cell.network]) if cell.network in artifacts else {}
    chains: dict[str, tuple[str, ...]] = {
        measurement(s.metric, s.tap, s.reducer): (
            cell.network,
            cell.embeddings.get(f"{s.tap}/{s.reducer}", ""),
            s.key,
        )
        for s in cell.scores
        if s.key in artifacts
    }
    chains |= {
        measurement("embedding-time", tap, reducer): (key,)
        for (tap, reducer), key in _embeddings(cell)
        if key in artifacts
    }
    origins = {}
    for name, keys in chains.items():
        steps = [_origin(artifacts[key]) for key in keys if key in artifacts]
        joined = {
            part: "; ".join(dict.fromkeys(step[part] for step in steps if step[part])) for part in steps[0]
        }
        if different := {p: text for p, text in joined.items() if text and text != trained.get(p)}:
            origins[name] = different
    return origins


def _origin(artifact: Artifact) -> dict[str, str]:
    """Label of the machine and version of kdbench that made an artifact."""
    return {
        "hardware": hardware_label(artifact.record.get("hardware", {})),
        "kdbench": artifact.record.get("versions", {}).get("kdbench", ""),
    }
