"""Settings from dotted names, so that tests can say in one line what an experiment was set to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdbench.api.records import CellRecord
from kdbench.api.settings import (
    ComponentSettings,
    DatasetSettings,
    DataSettings,
    MetricSettings,
    NetworkSettings,
    Settings,
    SourceSettings,
)

DIGEST = "0123456789abcdef" * 4


def settings_from(params: Mapping[str, Any]) -> Settings:
    """`{"student.epochs": 20, "scheme.temperature": 4.0, "reducers.ivis.k": 15}` as settings."""
    data = _below(params, "data")
    return Settings(
        data=DataSettings(
            DatasetSettings(
                data.get("dataset", "shapes"), _below(data, "dataset"), data.get("digest", DIGEST)
            ),
            data.get("train", "all"),
            data.get("test", "all"),
            data.get("embedded", "all"),
            data.get("validation", 0),
            data.get("unlabelled"),
        ),
        student=_network(_below(params, "student")),
        scheme=_component("scheme", _below(params, "scheme")) if _below(params, "scheme") else None,
        teacher=_network(_below(params, "teacher")) or _network(_below(params, "own_teacher")),
        own_teacher=bool(_below(params, "own_teacher")),
        reducers=_reducers(params),
        metrics={
            label: _metric(_below(params, f"metrics.{label}"), label) for label in _labels(params, "metrics")
        },
        stages=_below(params, "stages"),
    )


def _below(params: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in params.items() if name.startswith(start)}


def _labels(params: Mapping[str, Any], kind: str) -> list[str]:
    return list(dict.fromkeys(name.split(".")[0] for name in _below(params, kind)))


def _component(name: str, params: Mapping[str, Any]) -> ComponentSettings:
    code = {part: params[part] for part in ("version", "source") if part in params}
    return ComponentSettings(
        name, {k: v for k, v in params.items() if k not in ("version", "source")}, **code
    )


def _metric(params: Mapping[str, Any], label: str) -> MetricSettings:
    parts = ("teacher.", "reducers.", "stages.")
    own = {name: value for name, value in params.items() if not name.startswith(parts)}
    teacher, stages = _network(_below(params, "teacher")), _below(params, "stages")
    return MetricSettings(_component(label, own), teacher, _reducers(params), stages)


def _reducers(params: Mapping[str, Any]) -> dict[str, ComponentSettings]:
    return {
        label: _component(label, _below(params, f"reducers.{label}")) for label in _labels(params, "reducers")
    }


def _network(params: Mapping[str, Any]) -> NetworkSettings | None:
    if not params:
        return None
    source = _below(params, "source")
    apart = ("architecture", "source.", "pretraining", "mode")
    return NetworkSettings(
        _component(params.get("architecture", "network"), _below(params, "architecture")),
        {name: value for name, value in params.items() if not name.startswith(apart)},
        params.get("mode", ""),
        _source(source) if source.get("dataset") else None,
        _component(params["pretraining"], _below(params, "pretraining")) if "pretraining" in params else None,
    )


def _source(params: Mapping[str, Any]) -> SourceSettings:
    recipe = {name: value for name, value in params.items() if not name.startswith(("dataset", "digest"))}
    dataset = DatasetSettings(params["dataset"], _below(params, "dataset"), params.get("digest", ""))
    return SourceSettings(dataset, recipe)


def changed(record: CellRecord, params: Mapping[str, Any], **fields: Any) -> CellRecord:
    """The record with some settings changed, steps and images seen among them, and other fields."""
    outcome = {name: params[name] for name in ("steps", "images_seen") if name in params}
    settings = settings_from({**record.settings.flat(), **params})
    return replace(record, settings=settings, **outcome, **fields)
