"""Convert cell records to tags, parameters and metric names of a tracking store, and back.

A run's metrics are for people, who read, chart and compare them in the tracking store's pages. The record
itself, all but its curves and its error's full text, travels beside them in numbered tags as compact JSON:
exact names, exact values (NaN and infinities too), and one search returns thousands of records without
opening an artifact. Their checksum stands in a tag of its own, for anybody may edit a tag.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdbench.api.records import CellRecord, Result
from kdbench.errors import VerificationError

#: MLflow's limits are 8,000 (a tag), 6,000 (a parameter), 250 (a name) characters.
TAG_CHUNK = 7_500
PARAM_LENGTH = 6_000
NAME_LENGTH = 250
#: Of a traceback, what travels in the tags (its end); all of it stands in the artifact error.txt.
ERROR_TAIL = 2_000

RECORD_TAG = "kdbench.record"
#: The SHA-256 of the record's text. Its name begins as the record's do, so that who asks for those has it too.
SUM_TAG = f"{RECORD_TAG}_sum"
_RESULT_COLUMNS = ("metric", "value_name", "value", "tap", "reducer", "setting", "primary")


#: What of a record its digest is of, beside its results and its error.
_DIGESTED = (
    "key", "suite", "scale", "dataset", "budget", "fold", "seed", "scheme", "student",
    "teacher", "status", "settings", "steps", "images_seen",
)  # fmt: skip


def digest(record: CellRecord) -> str:
    """32 hex digits of what was measured and of what a reader is shown it as: the same if it ran twice, another
    after a result was added or a label changed, and for the same work in another suite or at another scale.

    It is the same of a record and of what `from_tags` makes of its tags.
    """
    data = _carried(record)
    kept = {name: data[name] for name in (*_DIGESTED, "error")}
    kept["results"] = sorted(zip(*data["results"], strict=True), key=repr)
    # Keys become texts before they are sorted, as those of a record that was read are.
    kept = json.loads(json.dumps(kept, default=str))
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _carried(record: CellRecord) -> dict[str, Any]:
    """What of a record travels in tags, its results by column."""
    data = record.to_json()
    del data["history"]
    data["error"] = record.error[-ERROR_TAIL:]
    columns: dict[str, list] = {c: [getattr(r, c) for r in record.results] for c in _RESULT_COLUMNS}
    columns["value"] = [float(v) for v in columns["value"]]  # a NumPy scalar is no JSON number
    data["results"] = [columns[c] for c in _RESULT_COLUMNS]
    return data


def to_tags(record: CellRecord) -> dict[str, str]:
    """The record as numbered tags of at most `TAG_CHUNK` characters each, and their checksum."""
    # Sorted, so that a record read back from disk has the same checksum as the one that was logged.
    text = json.dumps(_carried(record), separators=(",", ":"), sort_keys=True, default=str)
    chunks = [text[i : i + TAG_CHUNK] for i in range(0, len(text), TAG_CHUNK)]
    tags = {f"{RECORD_TAG}.{i:03d}": chunk for i, chunk in enumerate(chunks)}
    return {**tags, SUM_TAG: _sum(text)}


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def from_tags(tags: Mapping[str, str]) -> CellRecord:
    """The record that `to_tags` wrote, without curves.

    Parameters
    ----------
    tags
        The tags of a run.

    Returns
    -------
    CellRecord
        Equal to the one that was written, but for its curves and the beginning of a long error.

    Raises
    ------
    VerificationError
        The tags hold no complete record, or not the one that was logged.
    WorkspaceError
        The record has another format.
    """
    parts = sorted(name for name in tags if name.startswith(f"{RECORD_TAG}."))
    text = "".join(tags[name] for name in parts)
    try:
        if tags.get(SUM_TAG) != _sum(text):
            raise ValueError(f"it is not what was logged, by its checksum in {SUM_TAG}")
        data = json.loads(text)
        columns = data.pop("results")
        rows = zip(*columns, strict=True) if columns else ()
        results = [dict(zip(_RESULT_COLUMNS, row, strict=True)) for row in rows]
        return CellRecord.from_json({**data, "results": results})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise VerificationError(
            f"the record in the tags of a run can't be used: {error}",
            where=", ".join(parts),
            hint="delete that run in the tracking store, then `kdbench track sync`",
        ) from error


def describing_tags(record: CellRecord) -> dict[str, str]:
    """Short tags to filter and sort by."""
    tags = {
        "kind": "cell",
        "suite": record.suite,
        "scale": record.scale,
        "dataset": record.dataset,
        "budget": str(record.budget),
        "fold": str(record.fold),
        "seed": str(record.seed),
        "scheme": record.scheme,
        "student": record.student,
        "teacher": record.teacher,
        "cell": record.key,
        "status": record.status,
        "digest": digest(record),
        "hardware": record.hardware_label,
        "version": record.versions.get("kdbench", ""),
        "git_commit": record.git_commit,
    }
    return {f"kdbench.{name}": value[:TAG_CHUNK] for name, value in tags.items()}


def metric_names(results: Sequence[Result]) -> list[str]:
    """A readable name that MLflow accepts for each result: "score/<tap>/<reducer>/<metric>.<value>".

    Names are distinct; two results that would be called alike get " 2", " 3"... in the order they stand in.
    """
    names: list[str] = []
    taken: set[str] = set()
    for result in results:
        parts = [result.tap, result.reducer, f"{result.metric}.{result.value_name}"]
        base = plain_name("/".join(["score", *(p.replace("/", " ") for p in parts if p)]))
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base[: NAME_LENGTH - 6]} {count}"
        taken.add(name)
        names.append(name)
    return names


def plain_name(text: str) -> str:
    """`text` with nothing but what MLflow allows in a name: letters, digits, "_-. :/"; 250 characters."""
    text = text.replace("=", ":").replace("[", " ").replace("]", "")
    text = re.sub(r"[^\w\-. :/]", "", text, flags=re.ASCII)
    text = "/".join(part.strip(" .") or "-" for part in text.split("/"))
    if len(text) > NAME_LENGTH:
        text = f"{text[: NAME_LENGTH - 9]} {hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return text


def flat_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as "a.b.c" to text, names and lengths as MLflow wants them; lists stay whole."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            flat.update(flat_params(value, f"{prefix}{name}."))
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
        if len(text) > PARAM_LENGTH:
            text = text[: PARAM_LENGTH - 4] + " ..."
        flat[plain_name(f"{prefix}{name}")] = text
    return flat


def merged(records: Iterable[CellRecord]) -> list[CellRecord]:
    """One record a cell of a suite and scale, in the order of the newest of each; records are given oldest first.

    A key alone says what was computed: suites and scales that share work share keys, and rows of theirs never
    merge. A failed record stands only where no finished one does. The results of the finished records of a cell
    are united, the newest value and the newest labels winning, so that measuring something new does not lose
    what was measured before.
    """
    chosen: dict[tuple[str, str, str], CellRecord] = {}
    for record in records:
        cell = (record.suite, record.scale, record.key)
        before = chosen.get(cell)
        if before is not None and before.status == "finished":
            if record.status != "finished":
                continue
            record = _united(before, record)
        chosen.pop(cell, None)
        chosen[cell] = record
    return list(chosen.values())


def _united(old: CellRecord, new: CellRecord) -> CellRecord:
    if old.stages and set(old.stages.values()) <= set(new.stages.values()):
        return new  # of all that was measured: a result missing here is one that has another label now

    def identity(r: Result) -> tuple:
        return (r.metric, r.value_name, r.tap, r.reducer, r.setting)

    known = {identity(r) for r in new.results}
    kept = [r for r in old.results if identity(r) not in known]
    if not kept:
        return new
    return replace(new, results=(*new.results, *kept))
