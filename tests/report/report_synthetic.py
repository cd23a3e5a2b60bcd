"""Made-up records: smooth functions of budget and tap plus seeded noise; nothing here was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flat_settings import settings_from

from kdbench.api import CellRecord, Result
from kdbench.leaderboard import COLUMNS, ClaimVerdict, Row
from kdbench.suite.schema import Component, Data, Published, Student, Suite

TAPS = ("A", "B", "C", "D", "E")
METRICS = ("accuracy", "superclass-correlation", "ivis-loss", "class-area")
SUPERCLASS_OF = np.repeat(np.arange(20), 5)
SUPERCLASS_NAMES = [
    "aquatic mammals",
    "fish",
    "flowers",
    "food containers",
    "fruit and vegetables",
    "electrical devices",
    "furniture",
    "insects",
    "large carnivores",
    "large outdoor things",
    "natural scenes",
    "large herbivores",
    "medium mammals",
    "invertebrates",
    "people",
    "reptiles",
    "small mammals",
    "trees",
    "vehicles 1",
    "vehicles 2",
]

TABLE_1 = ((400, "undistilled", 0.056), (400, "kl", 0.2375), (2500, "kl", 0.4622))
PUBLISHED = (
    *(
        Published(
            where="LW Table 1",
            budget=b,
            scheme=s,
            metric="accuracy",
            value_name="accuracy",
            value=v,
            spread=0.008,
            spread_kind="standard deviation over 5 folds",
        )
        for b, s, v in TABLE_1
    ),
    Published(
        where="LW Table 2",
        budget=400,
        scheme="kl",
        tap="C",
        metric="ivis-loss",
        value_name="last",
        value=0.309,
    ),
)


def suite(**changes) -> Suite:
    fields = {
        "name": "paper-reference",
        "title": "Lee & Wallraven 2021",
        "summary": "Made-up numbers.",
        "reference": "Lee & Wallraven 2021, arXiv:2110.04483",
        "scale": "small",
        "data": Data(dataset="cifar100", budgets=(400, 2500)),
        "student": Student(architecture="wide-resnet"),
        "schemes": (Component(name="undistilled"), Component(name="kl")),
        "taps": TAPS,
        "reducers": (Component(name="ivis-torch"),),
        "metrics": tuple(Component(name=name) for name in METRICS),
        "published": PUBLISHED,
        "claim": (),
        "assumptions": {"LW-A1": "200 epochs", "LW-A10": "95 % region of a <kernel> density"},
    }
    return Suite(**{**fields, **changes})


def record(
    budget, fold, scheme, root: Path | None = None, *, status="finished", embed=False, error=""
) -> CellRecord:
    """One cell; arrays are written below `root`, and left out without one."""
    rng = np.random.default_rng([budget, fold, len(scheme)])
    good = {"undistilled": 0.0, "kl": 0.12, "teacher": 0.1}[scheme]
    results = [
        Result(
            "accuracy",
            "accuracy",
            0.08 + good + 0.1 * np.log10(budget / 400) + 0.01 * rng.standard_normal(),
            primary=True,
        )
    ]
    arrays: dict[str, np.ndarray] = {}
    if scheme != "teacher":
        r = np.clip(0.2 + good + 0.1 * rng.random(20), -1, 1)
        results.append(
            Result("superclass-correlation", "r", float(r.mean()), setting="n=200, logits", primary=True)
        )
        arrays["superclass-correlation.r"] = r
        for t, tap in enumerate(TAPS):
            loss = 0.5 - 0.05 * t - good * t / 10 + 0.01 * rng.standard_normal()
            results.append(Result("ivis-loss", "last", loss, tap, "ivis-torch", "n=200, k=15", True))
            arrays[f"{tap}/ivis-torch/class-area.ratio"] = rng.gamma(4, 0.2 - 0.03 * t - 0.1 * good, 100)
            if embed:
                labels = rng.integers(0, 100, 400)
                centres = np.random.default_rng(1).standard_normal((20, 2)) * t
                arrays[f"{tap}/ivis-torch/embedding"] = centres[SUPERCLASS_OF[labels]] + rng.standard_normal(
                    (400, 2)
                )
                arrays[f"{tap}/ivis-torch/labels"] = labels
    paths = {}
    if root is not None:
        for name, array in arrays.items():
            path = f"{budget}-{fold}-{scheme}/{name.replace('/', '-')}.npy"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            np.save(root / path, array)
            paths[name] = path
    return CellRecord(
        key=f"{budget}-{fold}-{scheme}",
        suite="paper-reference",
        scale="small",
        dataset="cifar100",
        budget=budget,
        fold=fold,
        scheme=scheme,
        student="" if scheme == "teacher" else "wide-resnet",
        teacher="" if scheme == "undistilled" else "resnet18",
        status=status,
        settings=settings_from({"data.digest": "0" * 64}),
        results=tuple(results) if status == "finished" else (),
        arrays=paths if status == "finished" else {},
        seconds=100.0,
        hardware={"label": "made-up processor, float32"},
        versions={"kdbench": "0.0"},
        error=error,
    )


def records(root: Path | None, budgets=(400, 2500), folds=3, embed=False) -> list[CellRecord]:
    schemes = ("kl", "undistilled", "teacher")
    return [record(b, f, s, root, embed=embed) for b in budgets for f in range(folds) for s in schemes]


def verdict(**fields) -> ClaimVerdict:
    """A verdict on accuracy; fields as in `ClaimVerdict`."""
    about = {
        "id": "x",
        "text": "t",
        "where": "w",
        "metric": "accuracy.accuracy",
        "expect": "greater",
        "margin": 0.0,
    }
    return ClaimVerdict(**(about | {"verdict": "no data"} | fields))


CLAIMS = [
    verdict(
        id="kd-helps",
        text="Distillation helps with <few> labels",
        where="LW section 5.1",
        verdict="supported",
        effect=0.12,
        low=0.1,
        high=0.14,
        n=3,
        descriptive=True,
        decisive="kl · 400 labels against undistilled · 400 labels",
    ),
    verdict(
        text="Deep layers embed better",
        where="LW 5.3",
        verdict="contradicted",
        effect=-0.01,
        metric="ivis-loss.last",
    ),
    verdict(id="y", text="No difference at A", where="LW 5.3"),
]


def row(**fields) -> Row:
    """A row of a leaderboard; a column that is not given does not apply."""
    plain = dict.fromkeys(COLUMNS) | {"suite": "paper-reference", "scale": "small", "n": 5, "mean": 0.25}
    return Row(**(plain | fields))
