"""Reducers: ivis-torch's written-out step, exact neighbours, and what the tsne wrapper costs.

Each case names its ratio to what it stands beside, taken round by round: on a shared machine absolute times mean
little. `benchmarks/peers/` compares with the published packages.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from kdbench.api import exact_neighbours, neighbours

N, BATCH = 2_048, 128


def _rows(n: int, d: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)


def _beside(
    benchmark: Any, name: str, call: Callable[[], Any], other: Callable[[], Any], rounds: int
) -> None:
    """Benchmark `call`, with `other` timed just before each round of it; `name` is how often faster it is."""
    others: list[float] = []

    def before() -> None:
        started = time.perf_counter()
        other()
        others.append(time.perf_counter() - started)

    other()
    call()
    benchmark.pedantic(call, setup=before, rounds=rounds)
    ratios = [theirs / mine for mine, theirs in zip(benchmark.stats.stats.data, others, strict=True)]
    benchmark.extra_info[name] = round(statistics.median(ratios), 3)
    benchmark.extra_info[f"{name}, range"] = [round(min(ratios), 3), round(max(ratios), 3)]
    print(f"\n{name}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def _epochs(d: int, half: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """An epoch of ivis-torch as it trains, and the same through autograd, an optimiser and bernoulli_."""
    from kdbench_reducers._ivis_loss import TripletLoss
    from kdbench_reducers._ivis_network import DROPOUT, Encoder
    from kdbench_reducers._ivis_train import make_step

    data = torch.from_numpy(_rows(N, d))
    data = data.bfloat16() if half else data
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(N, (3, BATCH), generator=generator) for _ in range(N // BATCH)]
    encoders = [
        Encoder(d, 2, (128,) * 3, generator=torch.Generator().manual_seed(0), in_bfloat16=half)
        for _ in range(2)
    ]
    step = make_step(encoders[0], data, BATCH, TripletLoss(), 1e-3, 0)
    plain, loss = encoders[1], TripletLoss()
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3, eps=1e-7, fused=True)

    def written_out() -> None:
        for rows in batches:
            step(rows, step.draw(BATCH))

    def autograd() -> None:
        for rows in batches:
            masks = [
                torch.empty(3 * BATCH, 128, dtype=torch.bool).bernoulli_(DROPOUT, generator=generator)
                for _ in range(2)
            ]
            adam.zero_grad(set_to_none=True)
            loss(plain(data.index_select(0, rows.reshape(-1)), masks).view(3, BATCH, -1)).backward()
            adam.step()

    return written_out, autograd


@pytest.mark.benchmark(group=f"ivis-torch, an epoch of {N} rows")
@pytest.mark.parametrize("d", [256, 1_024])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_ivis_torch_epoch(benchmark: Any, d: int, precision: str) -> None:
    written_out, autograd = _epochs(d, precision == "bfloat16")
    _beside(benchmark, "faster than through autograd", written_out, autograd, rounds=7)


@pytest.mark.benchmark(group="exact neighbours, 4,000 rows")
@pytest.mark.parametrize("d", [64, 1_024, 8_192])
def test_neighbours(benchmark: Any, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the products and a compiled selection, beside all of them and PyTorch's topk."""
    X = _rows(4_000, d)
    half = neighbours._half_the_products

    def find(way: Callable[..., Any]) -> None:
        monkeypatch.setattr(neighbours, "_half_the_products", way)
        exact_neighbours(X, 150)

    _beside(benchmark, "faster than whole rows", lambda: find(half), lambda: find(lambda *_: None), rounds=5)


@pytest.mark.benchmark(group="tsne, 600 x 64, 60 steps")
def test_tsne_wrapper(benchmark: Any) -> None:
    """kdbench's tsne beside openTSNE given the same exact neighbours by hand: at least 0.95."""
    import openTSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    from kdbench_reducers.tsne import TSNE

    X = _rows(600, 64)
    common: dict[str, Any] = {"early_exaggeration_iter": 20, "n_iter": 40, "random_state": 0, "n_jobs": 1}

    def by_hand() -> None:
        near = exact_neighbours(X, 90)
        index = PrecomputedNeighbors(near.indices.astype(np.int64), near.distances.astype(np.float64))
        openTSNE.TSNE(**common).fit(X, affinities=PerplexityBasedNN(perplexity=30, knn_index=index, n_jobs=1))

    _beside(benchmark, "openTSNE's time over kdbench's", lambda: TSNE(**common).fit(X), by_hand, rounds=5)
