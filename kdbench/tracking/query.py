"""Runs read back from a tracking store."""

from __future__ import annotations

import json
from pathlib import Path

from kdbench.api.records import CellRecord
from kdbench.errors import WorkspaceError
from kdbench.tracking import tags as codec
from kdbench.tracking.tracker import open_client, talking


def fetch_run(uri: str, run_id: str) -> list[CellRecord]:
    """The cells of one invocation in a tracking store, those that it found done included.

    Args:
        run_id: MLflow's id of the parent run, or kdbench's of the invocation.

    Raises:
        WorkspaceError: the store is not there, has no such run, or the run has not ended.
    """
    with talking(uri):
        client = open_client(uri, create=False)
        experiments = [e.experiment_id for e in client.search_experiments() if e.name.startswith("kdbench/")]
        if "-" in run_id:
            query = f"tags.`kdbench.kind` = 'run' and tags.`kdbench.run` = '{run_id}'"
        else:
            query = f"tags.`kdbench.kind` = 'run' and attributes.run_id = '{run_id}'"
        found = client.search_runs(experiments, query, max_results=1) if experiments else []
        if not found:
            raise WorkspaceError(
                f"there is no run {run_id!r}", where=uri, hint="kdbench track sync, or another URI"
            )
        parent = found[0].info.run_id
        if not any(f.path == "cells.json" for f in client.list_artifacts(parent)):
            raise WorkspaceError(f"run {run_id!r} has not ended", where=uri)
        listed = json.loads(Path(client.download_artifacts(parent, "cells.json")).read_text(encoding="utf-8"))
        runs = [client.get_run(cell["run_id"]) for cell in listed["cells"]]
    tags = [{k: v for k, v in r.data.tags.items() if k.startswith(codec.RECORD_TAG)} for r in runs]
    return sorted((codec.from_tags(t) for t in tags), key=lambda c: c.created)
