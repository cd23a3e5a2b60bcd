"""Supervised training of WRN-28-1: a plain PyTorch loop, a bare loop with the engine's tricks, the engine.

    KDBENCH_DATA=... OMP_NUM_THREADS=2 python benchmarks/peers/plain_loop.py            # all of it
    KDBENCH_DATA=... OMP_NUM_THREADS=2 python benchmarks/peers/plain_loop.py --seeds 0  # timing and limits alone

The plain loop is what a careful researcher writes: a DataLoader over PIL images with torchvision's transforms,
NCHW, float32, SGD as it comes. The bare loop has the engine's tricks and nothing else of it: uint8 resident and
channels last, flips in batches, bfloat16 autocast, fused SGD, losses read once. All have the same network,
weights and recipe (batches of 64, random flips). One step's gradients must agree before anything is timed.

Then the limits of the hardware, so that the ratios can be judged: the floating-point operations of a step, the
rate at which this machine multiplies matrices, and where a step's time goes by operator.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import _engine
from _cifar import PilImages, cifar100, same_within_seeds
from _engine import FLIPS, NORMALIZATION, Images, noise, student_network
from _sidebyside import describe_machine, interleave, markdown, spread, table

BATCH, RATE = 64, 0.05
PLAIN = "plain loop, NCHW float32"


def plain_loop(model: nn.Module, data: Images, epochs: int, *, flip: bool = True) -> nn.Module:
    loader = torch.utils.data.DataLoader(PilImages(data, flip=flip), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def bare_loop(
    model: nn.Module, data: Images, epochs: int, precision: str, *, flip: bool = True
) -> tuple[nn.Module, list[float]]:
    """The trained model, and the mean loss of each epoch."""
    model = model.to(memory_format=torch.channels_last).train()
    resident = torch.from_numpy(data.images).permute(0, 3, 1, 2)
    labels = torch.from_numpy(data.labels)
    mean, std = (torch.tensor(v)[:, None, None] for v in (NORMALIZATION.mean, NORMALIZATION.std))
    scale, offset = 1 / (255 * std), -mean / std
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4, fused=True)
    losses = []
    for _ in range(epochs):
        total = torch.zeros(())
        for rows in torch.randperm(len(data)).split(BATCH):
            images = resident[rows]
            if flip:
                flipped = torch.randint(2, (len(rows), 1, 1, 1)).bool()
                images = torch.where(flipped, images.flip(-1), images)
            images = (images * scale + offset).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                logits = model(images)
            loss = F.cross_entropy(logits.float(), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        losses.append(float(total) / -(-len(data) // BATCH))
    return model, losses


def engine(
    model: nn.Module, data: Images, epochs: int, precision: str, *, seed: int = 0, flip: bool = True
) -> nn.Module:
    how = _engine.recipe(epochs, batch_size=BATCH, learning_rate=RATE)
    source = _engine.source(data, FLIPS) if flip else _engine.source(data)
    _engine.fit(_engine.training(model, source, data.labels, how, seed=seed), how, precision)
    return model


def step_gate(precisions: list[str]) -> dict[str, str]:
    """That one step from the same weights on one batch leaves the same weights.

    Raises:
        AssertionError: it does not; nothing is to be timed then.
    """
    batch = noise(BATCH)
    before = _weights(student_network())
    found = {}
    for precision in precisions:
        exact = precision == "float32"
        allowed = 1e-4 if exact else 0.5
        network = (lambda: _engine.InDouble(student_network())) if exact else student_network
        moved = _weights(plain_loop(network(), batch, 1, flip=False)) - before
        bare = _weights(bare_loop(network(), batch, 1, precision, flip=False)[0]) - before
        ours = _weights(engine(network(), batch, 1, precision, flip=False)) - before
        for name, step in (("bare loop", bare), ("engine", ours)):
            far = float((step - moved).norm() / moved.norm())
            assert far <= allowed, f"{name}, {precision}: the step differs by {far:.1e} of its norm"
            how = "in float64" if exact else f"in {precision} against float32"
            found[f"one step of the {name}, {how}"] = f"{far:.1e} of its norm from the plain loop's"
    return found


def _weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).double()


def accuracies(
    seeds: int, images: int, test_images: int, epochs: int, precision: str
) -> dict[str, list[float]]:
    """Top-1 on test images of CIFAR-100, by side and seed."""
    train, test = cifar100(images, test_images)
    found: dict[str, list[float]] = {PLAIN: [], f"engine, {precision}": []}
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = plain_loop(student_network(seed), train, epochs)
        found[PLAIN].append(_engine.test_accuracy(model, test, "float32"))
        model = engine(student_network(seed), train, epochs, precision, seed=seed)
        found[f"engine, {precision}"].append(_engine.test_accuracy(model, test, precision))
        print(f"seed {seed}: {found}", file=sys.stderr, flush=True)
    return found


def timings(precisions: list[str], steps: int, rounds: int) -> Any:
    """Each way in turn, with a network of its own that goes on learning."""
    data = noise(BATCH * steps)
    sides: dict[str, Callable[[], Any]] = {}

    def side(name: str, train: Callable[..., Any], *extra: Any) -> None:
        model = student_network()
        sides[name] = lambda: train(model, data, 1, *extra)

    side(PLAIN, plain_loop)
    for precision in precisions:
        side(f"bare loop, {precision}", bare_loop, precision)
        side(f"engine, {precision}", engine, precision)
    return interleave(sides, rounds=rounds, dropped=2)


def operations() -> float:
    """Floating-point operations of one image's forward and backward pass (a multiply-add is two)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(
            student_network()(torch.randn(4, 3, 32, 32)), torch.zeros(4, dtype=torch.long)
        ).backward()
    return counter.get_total_flops() / 4


def peak(dtype: torch.dtype, n: int = 2048, repeats: int = 9) -> float:
    """The best of several products of n x n matrices, in operations a second of processor time."""
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        a @ b
        seconds.append(time.process_time() - started)
    return 2 * n**3 / min(seconds)


#: Operators by what they do; the first name that an operator's own contains decides.
KINDS = {
    "convolution": ("convolution", "mkldnn_conv"),
    "batch normalisation": ("batch_norm",),
    "ReLU": ("relu", "threshold", "clamp"),
    "casts and copies": ("copy", "to_copy", "contiguous", "clone"),
    "additions of shortcuts and gradients": ("aten::add",),
    "optimiser": ("sgd",),
}


def where_time_goes(precision: str | None, steps: int = 6) -> dict[str, float]:
    """Milliseconds a step by kind of operator, its own time alone; of the plain loop where `precision` is None."""
    from torch.profiler import ProfilerActivity, profile

    data = noise(BATCH * steps)
    model = student_network()

    def epoch() -> None:
        if precision is None:
            plain_loop(model, data, 1)
        else:
            bare_loop(model, data, 1, precision)

    epoch()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        epoch()
    found = dict.fromkeys([*KINDS, "all else"], 0.0)
    for event in profiler.key_averages():
        name = event.key.lower()
        kind = next((k for k, words in KINDS.items() if any(w in name for w in words)), "all else")
        found[kind] += event.self_cpu_time_total / 1e3 / steps
    return found


def limits(precisions: list[str], images_per_second: dict[str, float]) -> tuple[str, dict[str, Any]]:
    """A table of where time goes beside what the hardware allows, and the same as plain data.

    Args:
        images_per_second: of processor time, by side; neighbours stretch seconds on the wall.
    """
    flops = operations()
    peaks = {"float32": peak(torch.float32)}
    if "bfloat16" in precisions:
        peaks["bfloat16"] = peak(torch.bfloat16)
    profiles = {"plain": where_time_goes(None)} | {p: where_time_goes(p) for p in precisions}
    rows = []
    for kind in profiles["plain"]:
        row = [kind]
        for found in profiles.values():
            row.append(f"{found[kind]:.1f} ms ({100 * found[kind] / sum(found.values()):.0f} %)")
        rows.append(row)
    rows.append(["whole step", *(f"{sum(found.values()):.1f} ms" for found in profiles.values())])
    head = ["own time of operators, a step", "plain", *(f"bare loop, {p}" for p in precisions)]
    lines = [markdown(head, rows), "", f"{flops / 1e9:.3f} GFLOP an image, forward and backward."]
    plain = images_per_second[PLAIN]
    for precision, rate in peaks.items():
        most = rate / flops
        lines.append(
            f"Matrix products in {precision}: {rate / 1e9:,.0f} GFLOP a processor second, so at most "
            f"{most:,.0f} images/s were there nothing but convolutions at that rate: "
            f"{most / plain:.1f}x the plain loop's {plain:,.0f}."
        )
    for precision in precisions:
        found = profiles[precision]
        rest = 1 - found["convolution"] / sum(found.values())
        bare = images_per_second[f"bare loop, {precision}"]
        lines.append(
            f"{precision}: {100 * rest:.0f} % of a step is no convolution, so with convolutions for nothing the bare "
            f"loop would make {bare / rest:,.0f} images/s: {bare / rest / plain:.1f}x."
        )
    data = {
        "flop_per_image": flops, "peak_flop_per_second": peaks, "milliseconds_a_step": profiles,
        "images_per_second": images_per_second,
    }  # fmt: skip
    return "\n".join(lines), data


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="of the accuracies; 0 leaves these out")
    parser.add_argument("--images", type=int, default=3000, help="training images; a multiple of 100")
    parser.add_argument("--test-images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=6, help="of 64 images in a timed round")
    parser.add_argument("--rounds", type=int, default=11)
    a = parser.parse_args()
    from kdbench.training.precision import resolve_precision

    precisions = list(dict.fromkeys(["float32", resolve_precision("auto", "cpu")]))
    agreement: dict[str, Any] = step_gate(precisions)
    agree = True
    if a.seeds:
        tops = accuracies(a.seeds, a.images, a.test_images, a.epochs, precisions[-1])
        agree = same_within_seeds(*tops.values())
        agreement[f"accuracy after {a.epochs} epochs of {a.images} images, by seed"] = "; ".join(
            f"{name} " + ", ".join(f"{100 * x:.2f} %" for x in xs) for name, xs in tops.items()
        ) + (" (means within the seeds' range)" if agree else " (MEANS APART: no timing below counts)")  # fmt: skip
    measured = timings(precisions, a.steps, a.rounds)
    speeds = {name: BATCH * a.steps / statistics.median(xs) for name, xs in measured.cpu.items()}
    text, bound = limits(precisions, speeds)
    machine = describe_machine("torchvision")
    cost = {
        (p, clock): [
            1 / x for x in measured.ratios(f"engine, {p}", f"bare loop, {p}", cpu=clock == "processor")
        ]
        for p in precisions
        for clock in ("wall", "processor")
    }
    costs = {f"{p}, {clock}": [round(x, 4) for x in xs] for (p, clock), xs in cost.items()}
    print(
        table(
            "plain_loop", measured, against=PLAIN, machine=machine, agreement=agreement,
            more={
                "agree": agree, "settings": vars(a), "limits": bound,
                "engine_over_bare_loop": costs,
            },
        )
    )  # fmt: skip
    print()
    for (precision, clock), xs in cost.items():
        print(f"engine over the bare loop, {precision}, {clock}: {spread(xs, 'x')} its time")
    each = ", ".join(f"{name}: {speed:,.0f}" for name, speed in speeds.items())
    print(f"\nImages a second of processor time. {each}")
    print("\n" + text)
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
