"""kdbench's umap beside umap-learn called directly, from rows to points.

    python benchmarks/peers/umap_learn.py [--n 4500] [--d 256] [--rounds 5]

umap-learn runs as it stands: NN-descent from 4,096 rows on. Both have a seed, so both optimise on one thread.

Agreement: the fuzzy graphs overlap (sum of the smaller over sum of the larger weights, at least 0.95: the rest
is what NN-descent misses), and the trustworthiness of the points with 15 neighbours is the same within 0.02.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from _sidebyside import describe_machine, interleave, table
from ivis_package import clusters


def overlap(a: Any, b: Any) -> float:
    """Of two sparse graphs: sum of the smaller weights over sum of the larger ones, 0..1."""
    return float(a.minimum(b).sum() / a.maximum(b).sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=4_500)
    parser.add_argument("--d", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    from sklearn.manifold import trustworthiness

    from kdbench_reducers._base import limited_threads
    from kdbench_reducers.umap import UMAP, import_umap

    umap = import_umap()
    X = clusters(args.n, args.d)
    graphs: dict[str, Any] = {}

    class Kept(umap.UMAP):
        """Keeps the graph of the model that kdbench builds."""

        def fit_transform(self, X, y=None):
            points = super().fit_transform(X, y)
            graphs["kdbench umap"] = self.graph_
            return points

    def peer() -> np.ndarray:
        with limited_threads(args.threads):
            model = umap.UMAP(random_state=0, n_jobs=1)
            points = model.fit_transform(X)
        graphs["umap-learn"] = model.graph_
        return points

    def kdbench() -> np.ndarray:
        return UMAP(random_state=0, n_jobs=args.threads).fit_transform(X)

    sides: dict[str, Any] = {"umap-learn": peer, "kdbench umap": kdbench}
    original, umap.UMAP = umap.UMAP, Kept
    try:
        found = {"kdbench umap": kdbench()}
    finally:
        umap.UMAP = original
    found["umap-learn"] = peer()
    trust = {name: float(trustworthiness(X, found[name], n_neighbors=15)) for name in sides}
    shared = overlap(graphs["umap-learn"], graphs["kdbench umap"])
    if shared < 0.95 or abs(trust["umap-learn"] - trust["kdbench umap"]) > 0.02:
        print(f"graph overlap {shared:.3f}, trustworthiness {trust}: nothing is compared", file=sys.stderr)
        return 1
    agreement = {
        "overlap of the graphs": f"{shared:.4f}",
        "trustworthiness": ", ".join(f"{n} {v:.4f}" for n, v in trust.items()),
    }
    measured = interleave(sides, rounds=args.rounds, dropped=0)  # the checked fits were the warm-up
    name = f"umap_learn_{args.n}x{args.d}"
    machine = describe_machine("umap-learn", "pynndescent", "numba")
    print(table(name, measured, against="umap-learn", machine=machine, agreement=agreement))
    return 0


if __name__ == "__main__":
    sys.exit(main())
