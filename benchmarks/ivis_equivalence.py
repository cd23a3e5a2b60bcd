"""Are the ivis package and ivis-torch equivalent? Fits both with many seeds and writes the losses of each.

    python benchmarks/ivis_equivalence.py [--seeds 30] [--threads 1] [--only "torch, bfloat16"]

2,000 rows of 256 features, all defaults (k=150, szubert, both hinges), no scaling, the same exact neighbours
for both. The statistic is `loss_eval`: the loss without dropout on 200,000 fixed triplets. Two one-sided t
tests (TOST) at a margin of +-0.02 say whether the means are equivalent, for ivis-torch in float32 and with its hidden
layers multiplied in bfloat16. What was fitted before is kept, so
that an interrupted run, or one with more seeds, goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).with_suffix(".json")
MARGIN = 0.02
N, D = 2_000, 256
TORCH = {"torch": "float32", "torch, bfloat16": "bfloat16"}


def data() -> np.ndarray:
    """float32, (2000, 256): 100 Gaussian clusters in 32 dimensions, noise, standardised features."""
    rng = np.random.default_rng(20_240_601)
    centres = 2 * rng.standard_normal((100, 32))
    inside = centres[rng.integers(100, size=N)] + rng.standard_normal((N, 32))
    X = inside @ rng.standard_normal((32, D)) / np.sqrt(32) + 0.5 * rng.standard_normal((N, D))
    return ((X - X.mean(0)) / X.std(0)).astype(np.float32)


def equivalence(a: list[float], b: list[float], margin: float = MARGIN) -> dict[str, float]:
    """TOST after Welch: the difference a - b, its 90% interval, the larger p of the two one-sided tests."""
    from scipy import stats

    x, y = np.asarray(a), np.asarray(b)
    vx, vy = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    error = float(np.sqrt(vx + vy))
    freedom = float((vx + vy) ** 2 / (vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1)))
    difference = float(x.mean() - y.mean())
    half = float(stats.t.ppf(0.95, freedom)) * error
    p = max(
        stats.t.sf((difference + margin) / error, freedom),
        stats.t.cdf((difference - margin) / error, freedom),
    )
    return {
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "p": float(p),
        "levene_p": float(stats.levene(x, y).pvalue),
    }


def reducer(kind: str, seed: int, threads: int):
    from kdbench_reducers.ivis import Ivis
    from kdbench_reducers.ivis_torch import IvisTorch

    if kind == "package":
        return Ivis(scaling="none", random_state=seed, n_jobs=threads)
    return IvisTorch(scaling="none", random_state=seed, n_jobs=threads, device="cpu", precision=TORCH[kind])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("package", *TORCH))
    args = parser.parse_args()
    from kdbench.api import exact_neighbours

    X = data()
    neighbours = exact_neighbours(X, 149, "angular")
    found: dict[str, Any] = json.loads(OUT.read_text("utf-8")) if OUT.exists() else {}
    kinds = ("package", *TORCH)
    found |= {kind: {} for kind in kinds if kind not in found}
    for kind in (args.only,) if args.only else kinds:
        for seed in range(args.seeds):
            if str(seed) in found[kind]:
                continue
            model = reducer(kind, seed, args.threads)
            model.fit(X, neighbours=neighbours)
            found[kind][str(seed)] = {name: round(value, 6) for name, value in model.diagnostics_.items()}
            print(kind, seed, found[kind][str(seed)], flush=True)
            summarise(found)
            OUT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def summarise(found: dict[str, Any]) -> None:
    names = ("ivis", "tensorflow", "tf-keras", "torch", "numpy", "numba")
    found["setting"] = {"n": N, "d": D, "margin": MARGIN, "python": platform.python_version()}
    found["versions"] = {name: version(name) for name in names}
    for ours in TORCH:
        if min(len(found["package"]), len(found[ours])) > 1:
            found[f"tost of {ours}"] = {
                name: equivalence(
                    *([row[name] for row in found[kind].values()] for kind in (ours, "package"))
                )
                for name in ("loss_eval", "loss_tail", "loss_last", "loss_min")
            }


if __name__ == "__main__":
    main()
