"""Steps a second of ivis-torch on a CPU: the compiled step against the same step in plain PyTorch operations.

    python benchmarks/ivis_step.py                # this processor
    python benchmarks/ivis_step.py --isa avx2     # PyTorch, oneDNN and numba restricted to AVX2, float32 only

The two steps alternate for `--seconds` each over several rounds, because other work may share the cores. The script
prints the medians over the rounds, and the median and range of the speed-ups. One thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time

SIZES = [(n, d) for n in (1_000, 10_000) for d in (64, 512, 4_096)]
BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--isa", choices=["native", "avx2"], default="native")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    args = parser.parse_args()
    if args.isa == "avx2":  # before PyTorch and numba are imported
        restricted = {
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
            "NUMBA_CPU_NAME": "haswell",
        }
        os.environ.update(restricted, NUMBA_CPU_FEATURES="", MKL_ENABLE_INSTRUCTIONS="AVX2")
        os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
    for precision in ("float32", "bfloat16") if args.isa == "native" else ("float32",):
        for n, d in SIZES:
            print(row(n, d, precision, args), flush=True)


def row(n: int, d: int, precision: str, args: argparse.Namespace) -> str:
    import torch

    from kdbench_reducers._ivis_loss import TripletLoss
    from kdbench_reducers._ivis_network import Encoder
    from kdbench_reducers._ivis_step import Step
    from kdbench_reducers._ivis_step_cpu import CpuStep

    torch.set_num_threads(1)
    half = precision == "bfloat16"
    X = torch.rand(n, d, generator=torch.Generator().manual_seed(0))
    rows = torch.randint(n, (50, 3, BATCH), generator=torch.Generator().manual_seed(1))
    steps = []
    for kind in (CpuStep, Step):
        encoder = Encoder(d, 2, (128, 128, 128), generator=torch.Generator().manual_seed(0), in_bfloat16=half)
        steps.append(kind(encoder, X.bfloat16() if half else X, BATCH, TripletLoss(), 1e-3, 0))
    for step in steps:  # compile, and allocate
        steps_per_second(step, rows, 0.05)
    rounds = [[steps_per_second(step, rows, args.seconds) for step in steps] for _ in range(args.rounds)]
    compiled, plain = (statistics.median(r[i] for r in rounds) for i in (0, 1))
    ratios = sorted(r[0] / r[1] for r in rounds)
    ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"| {args.isa} | {precision} | {n:,} x {d:,} | {compiled:.0f} | {plain:.0f} | {ratio} |"


def steps_per_second(step: object, rows: object, seconds: float) -> float:
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        batch = rows[count % len(rows)]
        step(batch, step.draw(BATCH))
        count += 1
    return count / elapsed


if __name__ == "__main__":
    main()
