"""Synthetic cells: numbers drawn from a generator, nothing trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flat_settings import changed, settings_from

from kdbench.api.records import CellRecord, Result
from kdbench.suite.schema import Suite

BUDGETS = (400, 2500)
TAPS = ("A", "B", "C")
LIFT = {"undistilled": 0.0, "kl": 0.10, "teacher": 0.20}


def cell(scheme: str = "kl", budget: int = 400, fold: int = 0, **changes: Any) -> CellRecord:
    """A finished cell whose accuracy and losses are drawn from (scheme, budget, fold)."""
    rng = np.random.default_rng([budget, fold, sorted(LIFT).index(scheme) if scheme in LIFT else 9])
    accuracy = 0.05 + LIFT.get(scheme, 0.05) + budget / 100_000 + rng.normal(0, 0.005)
    results = [Result("accuracy", "accuracy", float(accuracy), primary=True)]
    results.append(Result("accuracy", "top5", float(accuracy) * 2))
    params: dict[str, Any] = {"data.dataset": "shapes", "data.test": 2000}
    if scheme != "teacher":
        for i, tap in enumerate(TAPS):
            loss = 0.5 - 0.1 * i - LIFT.get(scheme, 0.0) / 2 + rng.normal(0, 0.004)
            results.append(
                Result("ivis-loss", "last", float(loss), tap, "ivis-torch[k=15]", "n=2000, k=15", True)
            )
        params |= {"student.epochs": 20, "student.architecture.depth": 28}
    if scheme not in ("teacher", "undistilled"):
        params |= {"scheme.temperature": 4.0, "data.unlabelled": 10_000 - budget}
    if scheme != "undistilled":
        params |= {"teacher.epochs": 10}
    record = CellRecord(
        key=f"{scheme}-{budget}-{fold}",
        suite="demo",
        scale="quick",
        dataset="shapes",
        budget=budget,
        fold=fold,
        scheme=scheme,
        student="" if scheme == "teacher" else "wide-resnet[depth=28]",
        teacher="" if scheme == "undistilled" else "resnet18",
        status="finished",
        results=tuple(results),
        settings=settings_from(params),
        history={"test_accuracy": [accuracy / 2, accuracy], "loss": [2.0, 1.0]},
        seconds=3.5,
        hardware={"label": "2 cores", "device": "cpu", "precision": "float32"},
        versions={"kdbench": "0.1.0"},
        git_commit="abc123",
    )
    return replace(record, **changes)


def cells(folds: int = 5, budgets: tuple[int, ...] = BUDGETS) -> list[CellRecord]:
    schemes = ("teacher", "undistilled", "kl")
    return [cell(s, b, f) for b in budgets for f in range(folds) for s in schemes]


def with_params(record: CellRecord, key: str, params: Mapping[str, Any]) -> CellRecord:
    """Another experiment: its own key, some settings changed."""
    return changed(record, params, key=f"{record.key}-{key}")


def suite(**changes: Any) -> Suite:
    accuracy = {"metric": "accuracy", "value_name": "accuracy"}
    loss = {"metric": "ivis-loss", "value_name": "last"}
    at_400 = {"budget": 400, "scheme": "kl"}
    base = {
        "name": "demo",
        "title": "A demonstration <&>",
        "reference": "Somebody, 2021",
        "scale": "quick",
        "data": {"dataset": "shapes", "budgets": list(BUDGETS)},
        "teacher": {"architecture": "resnet18", "epochs": 10},
        "student": {"architecture": {"name": "wide-resnet", "depth": 28}, "epochs": 20},
        "schemes": ["undistilled", "kl"],
        "taps": list(TAPS),
        "published": [
            {"where": "Table 1", **at_400, **accuracy, "value": 0.2375, "spread": 0.0085,
             "spread_kind": "standard deviation over 5 folds"},
            {"where": "Table 2", **at_400, "tap": "A", **loss, "value": 0.606},
            {"where": "Table 1, text", "budget": 20000, "scheme": "kl", **accuracy, "value": 0.5651},
        ],
        "claim": [
            {
                "id": "kl-beats-undistilled", "text": "Distilled beats undistilled", "where": "5.1",
                **accuracy,
                "left": {"scheme": "kl"}, "right": {"scheme": "undistilled"}, "expect": "greater",
            },
        ],
        "assumptions": {"A10": "density", "A2": "momentum 0.9"},
    }  # fmt: skip
    return Suite.model_validate(base | changes)
