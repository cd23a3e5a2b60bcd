"""Cells with the parameters that the runner puts on record, for a teacher and two kinds of students."""

from __future__ import annotations

from functools import cache
from typing import Any

from flat_settings import DIGEST, settings_from
from suite_calls import installed

from kdbench.api.records import CellRecord, Result
from kdbench.api.settings import Settings
from kdbench.plan.settings import SuiteSettings
from kdbench.suite.schema import Suite

BUDGETS = (400, 2500)
SCHEMES = ("undistilled", "distilled", "teacher")
POOL = 10_000
ACCURACY = {"undistilled": 0.1, "distilled": 0.2, "teacher": 0.3}


def recorded(
    scheme: str = "distilled",
    budget: int = 400,
    fold: int = 0,
    *,
    set_: dict[str, Any] | None = None,
    network_failed: bool = False,
    key: str = "",
    created: float = 0.0,
    accuracy: float | None = None,
) -> CellRecord:
    """A record like `kdbench.runner.cell_record`'s.

    Parameters
    ----------
    set_
        Settings to override, as dotted names.
    network_failed
        Nothing was trained, so there are no steps.
    """
    params = suite_params(scheme, budget)
    epochs = 60 if scheme == "teacher" else 6
    images = {"teacher": epochs * budget, "undistilled": epochs * budget * 6, "distilled": epochs * POOL}[
        scheme
    ]
    results = [Result("accuracy", "accuracy", accuracy or ACCURACY[scheme] + 0.01 * fold, primary=True)]
    if scheme != "teacher":
        results.append(Result("ivis-loss", "last", 0.5 - 0.01 * fold, "A", "ivis", "n=500, k=15", True))
        results.append(Result("embedding-time", "seconds", 3.0 + fold, "A", "ivis", "n=500"))
    params |= set_ or {}
    outcome = {"steps": images // 64, "images_seen": images} | {
        k: v for k, v in params.items() if k in ("steps", "images_seen")
    }
    return CellRecord(
        key=key or f"{scheme}-{budget}-{fold}",
        suite="demo",
        scale="quick",
        dataset="shapes",
        budget=budget,
        fold=fold,
        scheme=scheme,
        student="" if scheme == "teacher" else "WRN-28-1",
        teacher="" if scheme == "undistilled" else "resnet18",
        status="failed" if network_failed else "finished",
        results=() if network_failed else tuple(results),
        settings=settings_from(params),
        network="" if network_failed else f"network-{scheme}-{budget}-{fold}",
        **({} if network_failed else outcome),
        hardware={"label": "2 cores", "device": "cpu"},
        versions={"kdbench": "0.1.0"},
        error="student\nFloatingPointError: the loss is NaN" if network_failed else "",
        created=created,
    )


@cache
def suite_settings(scheme: str, budget: int) -> Settings:
    """What `recorded_suite` says of a cell."""
    return SuiteSettings(
        recorded_suite(), installed(), digest=DIGEST, source_digest="1" * 64, precision="bfloat16"
    ).of(scheme, budget)


def suite_params(scheme: str, budget: int) -> dict[str, Any]:
    """The same as dotted names; of a teacher's cell only what it is measured with."""
    flat = suite_settings(scheme, budget).flat()
    measured = ("reducers.", "metrics.ivis-loss.")
    return {name: v for name, v in flat.items() if scheme != "teacher" or not name.startswith(measured)}


def all_recorded(folds: int = 3, **changes: Any) -> list[CellRecord]:
    """Every scheme at both budgets; `changes` go to each."""
    return [recorded(s, b, f, **changes) for b in BUDGETS for f in range(folds) for s in SCHEMES]


def recorded_suite(**changes: Any) -> Suite:
    """The suite that they are of: it says what is not a default, and no more."""
    accuracy = {"metric": "accuracy", "value_name": "accuracy"}
    base = {
        "name": "demo",
        "title": "A demonstration",
        "scale": "quick",
        "data": {
            "dataset": {"name": "shapes", "n_train": POOL, "label": "shapes"},
            "budgets": list(BUDGETS), "folds": 3, "train": POOL, "embedded": 500,
        },
        "teacher": {
            "architecture": "resnet18", "epochs": 60, "mode": "head", "schedule": "cosine",
            "source": {"dataset": {"name": "shapes", "label": "source shapes"}, "epochs": 5},
        },
        "student": {
            "architecture": {"name": "wide-resnet", "depth": 28, "label": "WRN-28-1"},
            "epochs": 6, "schedule": "cosine",
        },
        "schemes": [
            {"name": "undistilled", "passes": 6, "label": "undistilled"},
            {"name": "kl", "temperature": 4, "t2_scaling": False, "label": "distilled"},
        ],
        "taps": ["A"],
        "reducers": [{"name": "ivis-torch", "k": 15, "label": "ivis"}],
        "metrics": ["accuracy", "ivis-loss"],
        "published": [
            {"where": "Table 1", "budget": b, "scheme": s, **accuracy, "value": v}
            for b, s, v in [(400, "distilled", 0.24), (2500, "distilled", 0.44), (2500, "teacher", 0.5)]
        ],
        "claim": [
            {
                "id": "helps", "text": "Distillation helps", "where": "5.1", **accuracy,
                "left": {"scheme": "distilled", "budget": [400, 2500]}, "right": {"scheme": "undistilled"},
                "expect": "greater",
            },
        ],
    }  # fmt: skip
    return Suite.model_validate(base | changes)
