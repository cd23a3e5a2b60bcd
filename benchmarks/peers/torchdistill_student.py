"""A student distilled from ResNet-18, the whole run: torchdistill against kdbench.

    python -m venv benchmarks/peers/.venv-torchdistill
    benchmarks/peers/.venv-torchdistill/bin/pip install -e . torchdistill==1.1.5
    KDBENCH_DATA=... OMP_NUM_THREADS=2 benchmarks/peers/.venv-torchdistill/bin/python \\
        benchmarks/peers/torchdistill_student.py

Both sides run in this one environment, so with one torch. They get the same modules with the same weights
(ResNet-18 with a CIFAR stem, 11.2 M parameters; WRN-28-1), the same uint8 images of CIFAR-100, random flips,
and the same recipe: batches of 64, SGD at one rate, KDLoss(temperature=4, alpha=0.1, reduction="batchmean").
Before anything is timed, the loss and one step's gradients must agree; afterwards, the accuracies of the timed
students. A run counts from the weights to the accuracy on the test images: setting up, the teacher's targets
(kdbench computes them once, at the start), the epochs, one evaluation.

torchdistill 1.1.5 as its users run it: DistillationBox, a DataLoader over PIL images, float32, a teacher pass in
every step (it has no cache of outputs since 1.1.5). Two traps: it leaves the teacher in whatever mode it finds
it, so `.eval()` is ours to call; and its own `WideResNet4Cifar` takes the shortcut before the activation where
filters change, unlike Zagoruyko & Komodakis, so that both sides use kdbench's network.

Since the rate is constant, the first epochs of a run are a shorter run: one run gives the times at several
numbers of epochs.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import _engine
from _cifar import PilImages, cifar100, same_within_seeds, teacher
from _engine import FLIPS, Hinton, Images, student_network
from _sidebyside import RESULTS, describe_machine, heading, interleave, markdown, spread

TEMPERATURE, ALPHA, BATCH, RATE = 4.0, 0.1, 64, 0.05
LIVE = "like for like: kdbench in float32, the teacher in every step"


@dataclass(frozen=True)
class Work:
    train: Images
    test: Images
    teacher: nn.Module

    def smaller(self, n: int) -> Work:
        return Work(self.train.first(n), self.test.first(n), self.teacher)


@dataclass(frozen=True)
class Seconds:
    """On the wall, and of the processor (what neighbours stretch less)."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.cpu:.2f} s of processor)"

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.wall * factor, self.cpu * factor)


@dataclass(frozen=True)
class Ran:
    """Time since the start of a run at the end of its targets and of each epoch, then that of the evaluation;
    the mean loss over the last epoch; and top-1 on the test images, 0..1."""

    targets: Seconds
    epochs: tuple[Seconds, ...]
    evaluation: Seconds
    loss: float
    accuracy: float

    @property
    def epoch(self) -> Seconds:
        """Mean of the epochs."""
        return (self.epochs[-1] - self.targets) * (1 / len(self.epochs))

    def whole(self, epochs: int) -> Seconds:
        """Of the whole run had it ended after so many epochs; beyond those that were made, projected: targets and
        evaluation once, and an epoch at their mean."""
        if epochs <= len(self.epochs):
            return self.epochs[epochs - 1] + self.evaluation
        return self.targets + self.epoch * epochs + self.evaluation


def kd_loss() -> dict[str, Any]:
    """torchdistill's configuration of the loss."""
    places = {f"{who}_module_{what}": value for who in ("student", "teacher")
              for what, value in (("path", "."), ("io", "output"))}  # fmt: skip
    settings = {"temperature": TEMPERATURE, "alpha": ALPHA, "reduction": "batchmean"}
    term = {"criterion": {"key": "KDLoss", "kwargs": {**places, **settings}}, "weight": 1.0}
    return {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": term}}}


def distillation_box(work: Work, student: nn.Module, epochs: int, *, flip: bool = True) -> Any:
    """torchdistill's box, as one of its configuration files describes it."""
    from torchdistill.core.distillation import get_distillation_box

    logging.getLogger("torchdistill").setLevel(logging.WARNING)
    sampler = torch.utils.data.RandomSampler
    config = {
        "num_epochs": epochs,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": sampler},
            "kwargs": {"batch_size": BATCH},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": {"lr": RATE, "momentum": 0.9, "weight_decay": 5e-4}},
        "criterion": kd_loss(),
    }
    datasets = {"train": PilImages(work.train, flip=flip)}
    return get_distillation_box(
        work.teacher.eval(), student, datasets, config, torch.device("cpu"), None, False, 1
    )


def torchdistill_run(work: Work, seed: int, epochs: int) -> Ran:
    started = Seconds.now()
    torch.manual_seed(seed)
    student = student_network(seed)
    box = distillation_box(work, student, epochs)
    ends = []
    for epoch in range(epochs):
        box.pre_epoch_process(epoch=epoch)
        total = torch.zeros(())
        for images, labels, extra in box.train_data_loader:
            box.pre_forward_process()
            loss = box.forward_process(images, targets=labels, supp_dict=extra)
            box.post_forward_process(loss=loss)
            total += loss.detach()
        box.post_epoch_process()
        ends.append(Seconds.now() - started)
    right = 0
    student.eval()
    with torch.inference_mode():
        for images, labels in torch.utils.data.DataLoader(PilImages(work.test, flip=False), batch_size=128):
            right += int((student(images).argmax(1) == labels).sum())
    box.clean_modules()
    evaluation = Seconds.now() - started - ends[-1]
    mean_loss = float(total) / len(box.train_data_loader)
    return Ran(Seconds(0, 0), tuple(ends), evaluation, mean_loss, right / len(work.test))


def kdbench_run(work: Work, seed: int, epochs: int, precision: str, *, live: bool = False) -> Ran:
    """Args:
    live: ask the teacher in every step instead of computing its targets for each view at the start.
    """
    started = Seconds.now()
    student = student_network(seed)
    teacher = copy.deepcopy(work.teacher).to(memory_format=torch.channels_last).eval()
    images = _engine.source(work.train, FLIPS)
    ask = _engine.live(teacher, precision) if live else _engine.targets(teacher, images, precision)
    targets = Seconds.now() - started
    how = _engine.recipe(epochs, batch_size=BATCH, learning_rate=RATE)
    run = _engine.training(student, images, work.train.labels, how, seed=seed, teacher=ask)
    ends, losses = [], []

    def epoch_ended(_seen: int, terms: Mapping[str, float]) -> None:
        ends.append(Seconds.now() - started)
        losses.append(sum(terms.values()))

    _engine.fit(
        run, how, precision, scheme=Hinton(temperature=TEMPERATURE, alpha=ALPHA),
        progress=epoch_ended,
    )  # fmt: skip
    accuracy = _engine.test_accuracy(student, work.test, precision)
    return Ran(targets, tuple(ends), Seconds.now() - started - ends[-1], losses[-1], accuracy)


def loss_gate(work: Work) -> dict[str, Any]:
    """That both compute the same loss, and from one batch the same gradients (in float64).

    Raises:
        AssertionError: they do not; nothing is to be timed then.
    """
    from torchdistill.losses.mid_level import KDLoss

    generator = torch.Generator().manual_seed(0)
    student_logits, teacher_logits = (3 * torch.randn(BATCH, 100, generator=generator) for _ in range(2))
    labels = torch.randint(100, (BATCH,), generator=generator)
    peer = KDLoss(".", "output", ".", "output", temperature=TEMPERATURE, alpha=ALPHA, reduction="batchmean")
    theirs = peer({".": {"output": student_logits}}, {".": {"output": teacher_logits}}, labels)
    ours = _kdbench_loss(student_logits, teacher_logits, labels)
    assert abs(float(ours - theirs)) <= 1e-5 * float(theirs), f"KDLoss {float(theirs)}, kdbench {float(ours)}"

    doubled = _engine.InDouble(copy.deepcopy(work.teacher))
    batch = Work(work.train.first(BATCH), work.test, doubled)
    student = _engine.InDouble(student_network(0))
    box = distillation_box(batch, student, 1, flip=False)
    box.pre_epoch_process(epoch=0)
    images, targets, extra = next(iter(box.train_data_loader))
    step_theirs = box.forward_process(images, targets=targets, supp_dict=extra)
    step_theirs.backward()
    box.clean_modules()
    step_theirs, peer_gradient = float(step_theirs.detach()), _gradient(student)

    student = _engine.InDouble(student_network(0))
    source = _engine.source(batch.train)
    ask = _engine.targets(doubled, source, "float32")
    run = _engine.training(
        student, source, batch.train.labels, _engine.recipe(1, batch_size=BATCH), teacher=ask
    )
    student.train()
    step_ours = sum(next(Hinton(temperature=TEMPERATURE, alpha=ALPHA).epoch(run)).values())
    step_ours.backward()
    step_ours, gradient = float(step_ours.detach()), _gradient(student)
    far = float((gradient - peer_gradient).norm() / peer_gradient.norm())
    assert abs(step_ours - step_theirs) <= 1e-5 * step_theirs, (
        f"the first batch's loss: torchdistill {step_theirs}, kdbench {step_ours}"
    )
    assert far <= 1e-4, f"the first batch's gradients differ by {far:.1e} of their norm"
    return {
        "loss on random logits": f"torchdistill {float(theirs):.6f}, kdbench {float(ours):.6f}",
        "loss of the first batch": f"torchdistill {step_theirs:.6f}, kdbench {step_ours:.6f}",
        "its gradients": f"differ by {far:.1e} of their norm",
    }


def _kdbench_loss(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The scheme's loss of given logits, through the scheme itself."""
    from types import SimpleNamespace

    batch = SimpleNamespace(images=student, labels=labels)
    run = SimpleNamespace(
        student=nn.Identity(), labelled=lambda: iter([batch]), teacher_logits=lambda _: teacher
    )
    return sum(next(Hinton(temperature=TEMPERATURE, alpha=ALPHA).epoch(run)).values())


def _gradient(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2000, help="training images; a multiple of 100")
    parser.add_argument("--test-images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--report", type=int, nargs="+", default=[2, 5, 10, 200], help="whole runs of these epochs"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--live-epochs", type=int, default=1, help="of the like-for-like row; 0 leaves it out"
    )
    parser.add_argument("--teacher-images", type=int, default=4000)
    parser.add_argument("--teacher-epochs", type=int, default=4)
    a = parser.parse_args()
    from kdbench.training.precision import resolve_precision

    precision = resolve_precision("auto", "cpu")
    train, test = cifar100(a.images, a.test_images)
    model, top = teacher(a.teacher_images, a.teacher_epochs, test)
    work = Work(train, test, model)
    agreement = loss_gate(work)
    print("\n".join(f"{k}: {v}" for k, v in agreement.items()), flush=True)

    sides: dict[str, Callable[[int, Work, int], Ran]] = {
        "torchdistill": lambda seed, w, n: torchdistill_run(w, seed, n),
        "kdbench": lambda seed, w, n: kdbench_run(w, seed, n, precision),
    }
    if a.live_epochs:
        sides[LIVE] = lambda seed, w, n: kdbench_run(w, seed, min(n, a.live_epochs), "float32", live=True)
    for side in sides.values():  # instead of a whole round: imports, primitives, thread pools
        side(0, work.smaller(2 * BATCH), 1)
    seeds = {name: iter(range(a.seeds)) for name in sides}

    def call(name: str) -> Callable[[], Ran]:
        def run() -> Ran:
            ran = sides[name](next(seeds[name]), work, a.epochs)
            parts = ", ".join(f"{part} {getattr(ran, part)}" for part in ("targets", "epoch", "evaluation"))
            print(f"{name}: {parts}, loss {ran.loss:.4f}, accuracy {ran.accuracy:.4f}", flush=True)
            return ran

        return run

    measured = interleave({name: call(name) for name in sides}, rounds=a.seeds, dropped=0)
    ran: dict[str, list[Ran]] = measured.results
    agree = True
    for what in ("accuracy", "loss"):
        by_side = {name: [getattr(r, what) for r in ran[name]] for name in ("torchdistill", "kdbench")}
        same = same_within_seeds(*by_side.values())
        agree &= same
        agreement[f"{what} of the last epoch, by seed"] = "; ".join(
            f"{name} " + ", ".join(f"{x:.4f}" for x in xs) for name, xs in by_side.items()
        ) + (" (means within the seeds' range)" if same else " (MEANS APART: no timing counts)")  # fmt: skip
    agreement["teacher"] = f"{100 * top:.1f} % on the same {len(test)} test images"
    machine = describe_machine("torchvision", "torchdistill")
    rows, ratios = compare(ran, a.report, a.live_epochs)
    head = ["whole run", "torchdistill", "kdbench", "faster, wall", "faster, processor"]
    print(heading("torchdistill_student", machine, agreement, measured.load))
    print(f"\n{markdown(head, rows)}\n\n{arithmetic(ran, precision)}")
    record = {
        "name": "torchdistill_student", "machine": machine, "agreement": agreement, "agree": agree,
        "load": measured.load, "settings": vars(a), "precision": precision, "faster": ratios,
        "runs": {name: [_plain(r) for r in rs] for name, rs in ran.items()},
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "torchdistill_student.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0 if agree else 1


def compare(
    ran: dict[str, list[Ran]], report: list[int], live_epochs: int
) -> tuple[list[list[str]], dict[str, dict[str, list[float]]]]:
    """Rows of the table, and the ratios by row and clock, run by run."""
    peer, ours = ran["torchdistill"], ran["kdbench"]
    made = len(peer[0].epochs)
    lines = [
        (
            f"{n} epochs" + (", projected" if n > made else ""),
            [r.whole(n) for r in peer],
            [r.whole(n) for r in ours],
        )
        for n in report
    ]
    if live_epochs:
        theirs = [r.epochs[live_epochs - 1] for r in peer]
        lines.append(
            (f"{live_epochs} epoch(s) of training, {LIVE}", theirs, [r.epochs[-1] for r in ran[LIVE]])
        )
    rows, ratios = [], {}
    for label, theirs, own in lines:
        pairs = list(zip(theirs, own, strict=True))
        ratios[label] = {
            "wall": [round(p.wall / o.wall, 3) for p, o in pairs],
            "processor": [round(p.cpu / o.cpu, 3) for p, o in pairs],
        }
        seconds = [spread([s.wall for s in side], "s") for side in (theirs, own)]
        rows.append([label, *seconds, *(spread(xs, "x") for xs in ratios[label].values())])
    return rows, ratios


def arithmetic(ran: dict[str, list[Ran]], precision: str) -> str:
    """What a projection is put together from, in processor seconds."""
    lines = [f"kdbench in {precision}; processor seconds, median (range):"]
    for name in ("torchdistill", "kdbench"):
        targets, epoch, evaluation = (
            spread([getattr(r, part).cpu for r in ran[name]], "s")
            for part in ("targets", "epoch", "evaluation")
        )
        once = f"targets {targets} + " if name == "kdbench" else ""
        lines.append(f"{name}: {once}epochs x {epoch} + evaluation {evaluation}")
    return "  \n".join(lines)


def _plain(ran: Ran) -> dict[str, Any]:
    times = {"targets": [ran.targets], "epoch_ends": ran.epochs, "evaluation": [ran.evaluation]}
    return {
        f"{part}_{clock}": [round(getattr(s, clock), 3) for s in seconds]
        for part, seconds in times.items()
        for clock in ("wall", "cpu")
    } | {"loss": ran.loss, "accuracy": ran.accuracy}


if __name__ == "__main__":
    raise SystemExit(main())
