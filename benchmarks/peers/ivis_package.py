"""ivis-torch beside the ivis package, from rows to points, neighbours included.

    python benchmarks/peers/ivis_package.py [--n 10000] [--d 1024] [--seeds 4] [--threads 2]

The package runs as its users call it, `Ivis().fit_transform(X)`: its own neighbours (Annoy), its own stopping
rule, TensorFlow in a process that is started and warmed before anything is timed. ivis-torch gets the same
rows and finds its neighbours itself. Both train until they stop, once a seed, in turns.

Agreement: the converged loss (training loss, mean of the last 20 epochs), mean over the seeds: ours within 5 %
of the package's. The loss without dropout on 200,000 fixed triplets of exact neighbours is shown beside it.
Both come from the very fits that are timed, for a fit takes minutes; where the first disagrees, no table is
printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from _sidebyside import describe_machine, heading, interleave, table

LIMIT = 0.05
PEER = "ivis"


def clusters(n: int, d: int) -> np.ndarray:
    """float32, (n, d): 100 Gaussian clusters in 32 dimensions, noise, standardised features."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.standard_normal((100, 32))
    inside = centres[rng.integers(100, size=n)] + rng.standard_normal((n, 32))
    X = (inside @ rng.standard_normal((32, d)) / np.sqrt(32)).astype(np.float32)
    X += 0.5 * rng.standard_normal((n, d), dtype=np.float32)
    X -= X.mean(0)
    X /= X.std(0)
    return X


def package_fit(file: str, seed: int, threads: int, epochs: int) -> dict[str, Any]:
    """Runs in the package's process: points, loss history and processor seconds of one fit."""
    import random

    import tensorflow as tf
    from ivis import Ivis

    if seed < 0:  # the first call of the process
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    # Annoy's index, which the package leaves behind, goes with the rows.
    tempfile.tempdir = str(Path(file).parent)
    X = np.load(file)
    random.seed(abs(seed))
    np.random.seed(abs(seed))  # noqa: NPY002
    tf.random.set_seed(abs(seed))
    wall, cpu = time.perf_counter(), time.process_time()
    model = Ivis(epochs=epochs, verbose=0)
    points = model.fit_transform(X)
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return {"points": points, "history": model.loss_history_, "wall": seconds[0], "cpu": seconds[1]}


def torch_fit(X: np.ndarray, seed: int, threads: int, precision: str, epochs: int) -> dict[str, Any]:
    from kdbench_reducers.ivis_torch import IvisTorch

    model = IvisTorch(
        scaling="none", precision=precision, epochs=epochs, random_state=seed, n_jobs=threads, device="cpu"
    )
    wall, cpu = time.perf_counter(), time.process_time()
    points = model.fit_transform(X)
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return {"points": points, "history": model.loss_history_, "wall": seconds[0], "cpu": seconds[1]}


def losses(fits: list[dict[str, Any]], lists: np.ndarray) -> dict[str, float]:
    """Means over the fits of a side."""
    from kdbench_reducers._ivis_loss import TripletLoss, fit_diagnostics

    found = [fit_diagnostics(f["points"], lists, f["history"], TripletLoss(), 150) for f in fits]
    return {name: statistics.mean(f[name] for f in found) for name in ("loss_tail", "loss_eval", "n_epochs")}


def stop(*_: object) -> NoReturn:
    """On SIGTERM: the package's fit would go on for minutes, and its rows would stay in the temporary folder."""
    for child in multiprocessing.active_children():
        child.kill()
    sys.exit(128 + signal.SIGTERM)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=1_024)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1_000, help="at most; both stop earlier by themselves")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    # Read when the package's process imports TensorFlow; this one never does.
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    X = clusters(args.n, args.d)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(1, mp_context=spawn) as process:
        file, small = Path(name) / "rows.npy", Path(name) / "few.npy"
        np.save(file, X)
        np.save(small, X[:400])
        process.submit(package_fit, str(small), -1, args.threads, 2).result()
        seeds = {side: iter(range(args.seeds)) for side in (PEER, *args.precision)}

        def package() -> dict[str, Any]:
            seed = next(seeds[PEER])
            return process.submit(package_fit, str(file), seed, args.threads, args.epochs).result()

        def ours(precision: str) -> Callable[[], dict[str, Any]]:
            torch_fit(X[:400], 0, args.threads, precision, 2)
            return lambda: torch_fit(X, next(seeds[precision]), args.threads, precision, args.epochs)

        sides = {PEER: package} | {f"ivis-torch, {p}": ours(p) for p in args.precision}
        # Every side was warmed on a few rows; a whole round more would cost minutes.
        measured = interleave(sides, rounds=args.seeds, dropped=0)

    from kdbench.api import exact_neighbours
    from kdbench_reducers._ivis_triplets import neighbour_lists

    lists = neighbour_lists(exact_neighbours(X, 149, "angular"), with_self=True)
    means = {side: losses(fits, lists) for side, fits in measured.results.items()}
    agreement: dict[str, Any] = {}
    agreed = True
    for side, values in means.items():
        text = f"converged loss {values['loss_tail']:.4f}, without dropout {values['loss_eval']:.4f}"
        agreement[side] = f"{text}, {values['n_epochs']:.0f} epochs, means of {args.seeds} seeds"
        if side != PEER:
            off = {k: values[k] / means[PEER][k] - 1 for k in ("loss_tail", "loss_eval")}
            agreement[side] += f"; {off['loss_tail']:+.1%} and {off['loss_eval']:+.1%}"
            agreed &= abs(off["loss_tail"]) <= LIMIT
    # The package's seconds of processor time are its process's own.
    for side, fits in measured.results.items():
        measured.cpu[side] = [f["cpu"] for f in fits]
        measured.wall[side] = [f["wall"] for f in fits]
    machine = describe_machine("numba", "ivis", "tensorflow", "tf-keras", "annoy")
    name = f"ivis_package_{args.n}x{args.d}"
    more = {
        "seeds": args.seeds,
        "losses": means,
        "epochs": {side: [len(f["history"]) for f in fits] for side, fits in measured.results.items()},
    }
    if not agreed:
        print(heading(name, machine, agreement, measured.load))
        print(f"\nthe converged losses differ by more than {LIMIT:.0%}: nothing is compared", file=sys.stderr)
        return 1
    print(table(name, measured, against=PEER, machine=machine, agreement=agreement, more=more))
    return 0


if __name__ == "__main__":
    sys.exit(main())
