"""kdbench's tsne beside openTSNE called directly, from rows to points.

    python benchmarks/peers/opentsne_direct.py [--n 2000] [--d 256] [--perplexity 30] [--rounds 5]

Two peers: openTSNE as it stands ("default": Annoy from 1,000 rows on) and openTSNE given the same exact
neighbours by hand ("by hand"), which is what a careful user writes and what the wrapper may cost nothing over.

Agreement: the affinities equal those of openTSNE's exact search; the KL divergence after equally many steps from
the same start is that of the calls by hand to nine digits, and within 5 % of the default's, whose neighbours are
approximate.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from _sidebyside import describe_machine, interleave, table
from ivis_package import clusters


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--d", type=int, default=256)
    parser.add_argument("--perplexity", type=float, default=30)
    parser.add_argument("--steps", type=int, default=250, help="of the second phase; the first has 100")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    import openTSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    from kdbench.api import exact_neighbours
    from kdbench_reducers._base import limited_threads
    from kdbench_reducers.tsne import TSNE

    X = clusters(args.n, args.d)
    steps = {"early_exaggeration_iter": 100, "n_iter": args.steps}
    common = {"perplexity": args.perplexity, "random_state": 0, "n_jobs": args.threads, **steps}
    k = int(3 * args.perplexity)

    def affinities():
        near = exact_neighbours(X, k)
        index = PrecomputedNeighbors(near.indices.astype(np.int64), near.distances.astype(np.float64))
        return PerplexityBasedNN(perplexity=args.perplexity, knn_index=index, n_jobs=args.threads)

    def by_hand() -> float:
        with limited_threads(args.threads):
            return float(openTSNE.TSNE(**common).fit(X, affinities=affinities()).kl_divergence)

    def default() -> float:
        return float(openTSNE.TSNE(**common).fit(X).kl_divergence)

    def kdbench() -> float:
        model = TSNE(**common)
        model.fit(X)
        return model.diagnostics_["kl_divergence"]

    exact = PerplexityBasedNN(X.astype(np.float64), perplexity=args.perplexity, method="exact").P
    with limited_threads(args.threads):
        ours = TSNE(perplexity=args.perplexity, n_jobs=args.threads).affinities(exact_neighbours(X, k)).P
    apart = float(abs(ours - exact).max() / exact.max())
    if apart > 1e-4:
        print(f"the affinities differ by {apart:.1e} of the largest: nothing is compared", file=sys.stderr)
        return 1
    divergences = {"by hand": by_hand(), "default": default(), "kdbench": kdbench()}
    for name, limit in (("by hand", 1e-9), ("default", 0.05)):
        if abs(divergences["kdbench"] / divergences[name] - 1) > limit:
            print(f"KL divergence {divergences}: {name} is no equal: nothing is compared", file=sys.stderr)
            return 1
    agreement = {
        "affinities": f"at most {apart:.1e} of the largest away from openTSNE's exact search",
        "KL divergence": ", ".join(f"{name} {value:.4f}" for name, value in divergences.items()),
    }
    sides = {
        "openTSNE, exact neighbours by hand": by_hand,
        "openTSNE, default": default,
        "kdbench tsne": kdbench,
    }
    measured = interleave(sides, rounds=args.rounds)
    name = f"opentsne_direct_{args.n}x{args.d}"
    machine = describe_machine("openTSNE", "scikit-learn", "annoy")
    print(table(name, measured, against=next(iter(sides)), machine=machine, agreement=agreement))
    return 0


if __name__ == "__main__":
    sys.exit(main())
