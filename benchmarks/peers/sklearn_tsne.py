"""kdbench's tsne beside scikit-learn's TSNE (Barnes-Hut), from rows to points.

    python benchmarks/peers/sklearn_tsne.py [--n 2000] [--d 256] [--perplexity 30] [--rounds 3]

Both take as many gradient steps (250 exaggerated by 12, then 500), the same start, angle and learning rate.

Agreement: both pictures keep as many neighbours (trustworthiness with 15 neighbours, by scikit-learn's own
function, within 0.02), and the KL divergences, each of its own affinities, within 5 %.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from _sidebyside import describe_machine, interleave, table
from ivis_package import clusters


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--d", type=int, default=256)
    parser.add_argument("--perplexity", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    from sklearn.manifold import TSNE as Peer
    from sklearn.manifold import trustworthiness

    from kdbench_reducers._base import limited_threads
    from kdbench_reducers.tsne import TSNE

    X = clusters(args.n, args.d)
    rate = max(args.n / 12, 200.0)

    def peer() -> tuple[np.ndarray, float]:
        with limited_threads(args.threads):
            model = Peer(
                perplexity=args.perplexity, init="pca", learning_rate=rate, max_iter=750, angle=0.5,
                n_iter_without_progress=750, min_grad_norm=0.0, random_state=0, n_jobs=args.threads,
            )  # fmt: skip
            points = model.fit_transform(X)
        return points, float(model.kl_divergence_)

    def kdbench() -> tuple[np.ndarray, float]:
        model = TSNE(
            perplexity=args.perplexity, learning_rate=rate, negative_gradient_method="bh", theta=0.5,
            random_state=0, n_jobs=args.threads,
        )  # fmt: skip
        points = model.fit_transform(X)
        return points, model.diagnostics_["kl_divergence"]

    sides: dict[str, Any] = {"scikit-learn TSNE": peer, "kdbench tsne": kdbench}
    found = {name: side() for name, side in sides.items()}
    trust = {name: float(trustworthiness(X, p, n_neighbors=15)) for name, (p, _) in found.items()}
    divergence = {name: kl for name, (_, kl) in found.items()}
    a, b = sides
    if abs(trust[a] - trust[b]) > 0.02 or abs(divergence[b] / divergence[a] - 1) > 0.05:
        print(f"trustworthiness {trust}, KL {divergence}: nothing is compared", file=sys.stderr)
        return 1
    agreement = {
        "trustworthiness": ", ".join(f"{n} {v:.4f}" for n, v in trust.items()),
        "KL divergence": ", ".join(f"{n} {v:.4f}" for n, v in divergence.items()),
    }
    measured = interleave(sides, rounds=args.rounds, dropped=0)  # the checked fits were the warm-up
    name = f"sklearn_tsne_{args.n}x{args.d}"
    machine = describe_machine("openTSNE", "scikit-learn")
    print(table(name, measured, against=a, machine=machine, agreement=agreement))
    return 0


if __name__ == "__main__":
    sys.exit(main())
