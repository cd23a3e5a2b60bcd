"""The schemes in the engine: what a step yields, what it reads, and that training them teaches."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

import kdbench_semisup
from kdbench.api import Normalization, Scheme
from kdbench.api.specs import SCHEME_NEEDS
from kdbench.suite.schema import Training
from kdbench.training.data import Augmentation, ImageSource
from kdbench.training.loop import Run, train
from kdbench.training.setup import Setup, scheme_modules
from kdbench_semisup.consistency import MeanTeacher, PiModel
from kdbench_semisup.fixmatch import FixMatch
from kdbench_semisup.flexmatch import FlexMatch
from kdbench_semisup.mixmatch import MixMatch
from kdbench_semisup.pseudo_label import PseudoLabel
from kdbench_semisup.uda import UDA

C = 4
N_LABELLED, N_POOL = 16, 70
BATCH = 8


def data():
    """Small images whose class is the quadrant of a bright square, in noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(N_LABELLED + N_POOL) % C
    images = rng.integers(0, 120, (len(labels), 12, 12, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 1 + 6 * (label // 2), 1 + 6 * (label % 2)
        image[row : row + 4, column : column + 4] += 110
    return images, labels


IMAGES, LABELS = data()


class Network(nn.Module):
    """A small network that remembers what it was asked, and answered, in training."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3),
            nn.Flatten(), nn.Linear(128, C),
        )  # fmt: skip
        self.seen = []

    def forward(self, x):
        y = self.body(x)
        if self.training:
            self.seen.append((x.detach().clone(), y.detach().double().numpy()))
        return y


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Network()


def recipe(**changed):
    """FixMatch's, but for its length and batches."""
    fields = {
        "epochs": 2, "batch_size": BATCH, "learning_rate": 0.03, "momentum": 0.9, "nesterov": True,
        "weight_decay": 5e-4, "weight_decay_on": "kernels", "schedule": "cosine-7-16",
    }  # fmt: skip
    return Training(**(fields | changed))


def run_of(scheme, settings, seed=5, labels=LABELS):
    norm = Normalization((0.5,) * 3, (0.25,) * 3)
    augmentation = Augmentation(False, 1)

    def source(rows):
        return ImageSource(IMAGES, rows, norm, augmentation=augmentation)

    run = Run(
        student=network(), epochs=settings.epochs, batch_size=settings.batch_size, seed=seed,
        labelled_source=source(np.arange(N_LABELLED)), labels=torch.from_numpy(labels[:N_LABELLED]),
        unlabelled_source=source(np.arange(N_LABELLED, N_LABELLED + N_POOL)), n_classes=C,
    )  # fmt: skip
    setup = Setup(
        student=run.student, teacher=None, n_classes=C, n_train=len(IMAGES), n_labelled=N_LABELLED,
        n_unlabelled=N_POOL, student_features={}, student_width=128, build=network, seed=seed,
    )  # fmt: skip
    run.modules = scheme_modules(scheme, setup, "cpu")
    return run


def accuracy(model):
    norm = Normalization((0.5,) * 3, (0.25,) * 3)
    source = ImageSource(IMAGES, np.arange(N_LABELLED, len(IMAGES)), norm)
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(x) for x in source.in_order(64)])
    return float((logits.argmax(1).numpy() == LABELS[N_LABELLED:]).mean())


EVERY = [
    PiModel(), PiModel(variant="paper"), MeanTeacher(), MeanTeacher(variant="paper"), PseudoLabel(threshold=0.5),
    PseudoLabel(variant="paper"), MixMatch(), MixMatch(variant="paper", mix_per="batch"),
    FixMatch(threshold=0.4, mu=3), FixMatch(variant="code", threshold=0.4, augmentation="ctaugment", mu=3),
    UDA(threshold=0.4, annealing="linear", entropy_weight=0.1, mu=3), UDA(variant="code", mu=3),
    FlexMatch(threshold=0.4, mu=3), FlexMatch(variant="code", mu=3),
]  # fmt: skip
every = pytest.mark.parametrize("scheme", EVERY, ids=lambda s: f"{type(s).__name__}-{s.variant}")


def state(run):
    kept = {f"student.{k}": v for k, v in run.student.state_dict().items()}
    if run.modules is not None:
        kept |= {f"modules.{k}": v for k, v in run.modules.state_dict().items()}
    return {
        k: v.clone() for k, v in (kept | {f"ema.{k}": v for k, v in run.ema.state_dict().items()}).items()
    }


@every
def test_it_trains_alike_twice_and_resumed(scheme, tmp_path):
    assert isinstance(scheme, Scheme)
    settings = recipe(epochs=3)
    run = run_of(scheme, settings)
    trained = train(run, scheme, settings, precision="float32")
    assert trained.steps == 3 * -(-N_POOL // (BATCH * scheme.mu))
    assert all(np.isfinite(v).all() for k, v in trained.history.items() if k.startswith("loss"))

    def interrupt(seen, losses):
        if again.epoch == 1:
            raise KeyboardInterrupt

    again = run_of(scheme, settings)
    saving = {"precision": "float32", "checkpoints": tmp_path, "save_every": 0.0}
    with pytest.raises(KeyboardInterrupt):
        train(again, scheme, settings, progress=interrupt, **saving)
    again = run_of(scheme, settings)
    train(again, scheme, settings, **saving)
    assert again.epoch == 2
    first, second = state(run), state(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


@every
def test_the_extra_term_changes_the_student_and_reaches_it_alone(scheme):
    settings = recipe(epochs=1)
    run = run_of(scheme, settings)
    run.progress = 1.0  # past every ramp
    from kdbench.training.average import moving_average

    run.ema = moving_average(network(1), 0.9).module  # not the student itself, as in the middle of training
    terms = next(scheme.epoch(run))
    assert next(iter(terms)) == "cross_entropy"
    assert len(terms) == (3 if isinstance(scheme, UDA) and scheme.entropy_weight else 2)
    extra = sum(v for k, v in terms.items() if k != "cross_entropy")
    extra.backward()
    if not (isinstance(scheme, UDA) and scheme.variant == "code"):  # at first no prediction is that sure
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in run.student.parameters())
    assert all(p.grad is None for p in run.ema.parameters())
    assert run.student.training
    assert not run.ema.training


def first_step(scheme, progress=1.0):
    """The terms of a step and what the student was asked on the way: ([(images, logits), ...], terms)."""
    run = run_of(scheme, recipe())
    run.progress = progress
    run.ema = network(1).eval().requires_grad_(False)
    terms = next(scheme.epoch(run))
    return run, {k: v.item() for k, v in terms.items()}


def cross_entropy(logits, run):
    """With the labels of the first batch of the labelled stream, drawn anew."""
    fresh = run_of(FixMatch(), recipe())
    labels = next(fresh.labelled_stream()).labels.numpy()
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("progress", [0.0, 0.1, 1.0])
def test_a_step_of_the_pi_model(progress):
    run, terms = first_step(PiModel(), progress)
    (first, a), (_, x), (second, b) = run.student.seen
    weight = 10 * min(1, progress / 0.4)
    assert first.shape == second.shape
    assert not torch.equal(first, second)
    expected = weight * ((softmax(a, axis=1) - softmax(b, axis=1)) ** 2).mean()
    assert terms["consistency"] == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert terms["cross_entropy"] == pytest.approx(cross_entropy(x, run), rel=1e-5)


def test_a_step_of_the_pi_model_of_the_paper():
    run, terms = first_step(PiModel(variant="paper"), 0.1)
    (_, x), (_, others) = run.student.seen
    first, second = others[: 2 * BATCH], others[2 * BATCH :]
    weight = 100 * N_LABELLED / (N_LABELLED + N_POOL) * np.exp(-5 * (1 - 0.1 * 300 / 80) ** 2)
    difference = softmax(first, axis=1) - softmax(np.concatenate([x, second]), axis=1)
    assert terms["consistency"] == pytest.approx(weight * (difference**2).mean(), rel=1e-4)


def test_a_step_of_the_mean_teacher_asks_the_average():
    scheme = MeanTeacher()
    run, terms = first_step(scheme)
    ((_, target),) = run.ema.seen
    (_, x), (_, b) = run.student.seen
    assert terms["consistency"] == pytest.approx(
        50 * ((softmax(target, axis=1) - softmax(b, axis=1)) ** 2).mean(), rel=1e-4
    )
    assert terms["cross_entropy"] == pytest.approx(cross_entropy(x, run), rel=1e-5)


def test_a_step_of_pseudo_label():
    run, terms = first_step(PseudoLabel(threshold=0.4), 0.2)
    (_, x), (_, u) = run.student.seen
    p = softmax(u, axis=1).max(1)
    assert terms["pseudo_label"] == pytest.approx(0.5 * -(np.log(p) * (p > 0.4)).mean(), rel=1e-4)
    assert terms["cross_entropy"] == pytest.approx(cross_entropy(x, run), rel=1e-5)


def test_a_step_of_mixmatch(monkeypatch):
    scheme = MixMatch(batch_norm="joint")
    share = np.linspace(0.5, 1, 3 * BATCH).astype(np.float32)
    partner = np.random.default_rng(3).permutation(3 * BATCH)
    monkeypatch.setattr(scheme, "draw", lambda n: (torch.tensor(share), torch.tensor(partner)))
    run, terms = first_step(scheme)
    (first, a), (second, b), (mixed, z) = run.student.seen
    guessed = (softmax(a, axis=1) + softmax(b, axis=1)) / 2
    guessed = guessed**2 / (guessed**2).sum(1, keepdims=True)
    labelled = next(run_of(scheme, recipe()).labelled_stream())
    images = np.concatenate([labelled.images.numpy(), first, second])
    labels = np.concatenate([np.eye(C)[labelled.labels], guessed, guessed])
    mix = lambda v, s: s * v + (1 - s) * v[partner]  # noqa: E731
    np.testing.assert_allclose(mixed, mix(images, share[:, None, None, None]), atol=1e-5)
    labels = mix(labels, share[:, None])
    assert terms["cross_entropy"] == pytest.approx(
        -(labels * log_softmax(z, axis=1))[:BATCH].sum() / BATCH, rel=1e-4
    )
    rest = (labels - softmax(z, axis=1))[BATCH:]
    assert terms["guessed"] == pytest.approx(100 * (rest**2).mean(), rel=1e-4)


def test_mixtures_are_mostly_of_one_image_each_or_all_alike():
    share, partner = MixMatch().draw(1000)
    assert ((share >= 0.5) & (share <= 1)).all()
    assert len(share.unique()) > 500
    assert sorted(partner.tolist()) == list(range(1000))
    # Beta(a, a) folded at 1/2: its mean is known for a = 1
    assert float(MixMatch(alpha=1.0).draw(20_000)[0].mean()) == pytest.approx(0.75, abs=0.01)
    assert len(MixMatch(mix_per="batch").draw(50)[0].unique()) == 1


def parts(run, mu):
    """Logits of labelled, weakly and strongly augmented images, of the one pass a step takes."""
    ((images, z),) = run.student.seen
    n = mu * BATCH
    assert len(images) == BATCH + 2 * n
    return z[:BATCH], z[BATCH : BATCH + n], z[BATCH + n :]


@pytest.mark.parametrize("augmentation", ["randaugment", "ctaugment"])
def test_a_step_of_fixmatch(augmentation):
    run, terms = first_step(FixMatch(threshold=0.35, mu=3, weight=2.0, augmentation=augmentation))
    x, weak, strong = parts(run, 3)
    p = softmax(weak, axis=1)
    each = -log_softmax(strong, axis=1)[np.arange(len(p)), p.argmax(1)]
    used = p.max(1) >= 0.35
    assert 0 < used.mean() < 1
    assert terms["consistency"] == pytest.approx(2 * (each * used).mean(), rel=1e-4)
    assert terms["cross_entropy"] == pytest.approx(cross_entropy(x, run), rel=1e-5)
    assert run.modules.figures()["unlabelled_used"] == pytest.approx(used.mean())


def test_a_step_of_uda():
    run, terms = first_step(UDA(threshold=0.35, mu=3, entropy_weight=0.5))
    x, weak, strong = parts(run, 3)
    p = softmax(weak, axis=1)
    target = softmax(weak / 0.4, axis=1)
    each = (target * (np.log(target) - log_softmax(strong, axis=1))).sum(1)
    assert terms["consistency"] == pytest.approx((each * (p.max(1) >= 0.35)).mean(), rel=1e-4)
    assert terms["entropy"] == pytest.approx(0.5 * -(p * np.log(p)).sum(1).mean(), rel=1e-4)
    assert terms["cross_entropy"] == pytest.approx(cross_entropy(x, run), rel=1e-5)


def test_flexmatch_counts_every_image_at_first_and_remembers_the_sure_ones():
    scheme = FlexMatch(threshold=0.35, mu=3)
    run = run_of(scheme, recipe())
    steps = scheme.epoch(run)
    terms = next(steps)
    _, weak, strong = parts(run, 3)
    p = softmax(weak, axis=1)
    each = -log_softmax(strong, axis=1)[np.arange(len(p)), p.argmax(1)]
    assert terms["consistency"].item() == pytest.approx(each.mean(), rel=1e-4)
    sure = p.max(1) >= 0.35
    selected = run.modules.selected.numpy()
    assert (selected[:N_LABELLED] == -1).all()
    assert sorted(selected[selected >= 0]) == sorted(p.argmax(1)[sure])
    # the second step's thresholds follow from that count
    counts = np.bincount(selected[selected >= 0], minlength=C)
    beta = counts / max(counts.max(), N_POOL - counts.sum())
    run.student.seen.clear()
    terms = next(steps)
    _, weak, strong = parts(run, 3)
    p = softmax(weak, axis=1)
    each = -log_softmax(strong, axis=1)[np.arange(len(p)), p.argmax(1)]
    used = p.max(1) >= (0.35 * beta / (2 - beta))[p.argmax(1)]
    assert terms["consistency"].item() == pytest.approx((each * used).mean(), rel=1e-4)


def test_ctaugment_learns_from_labelled_images_under_the_average():
    scheme = FixMatch(augmentation="ctaugment")
    run = run_of(scheme, recipe())
    train(run, scheme, recipe(), precision="float32")
    rates = run.modules.augmentation.rates
    assert (rates < 1).sum() > (rates == 0).sum()


def test_an_epoch_is_a_pass_over_the_pool_or_as_long_as_it_is_told():
    for epoch_steps, expected in ((None, 9), (4, 4), (20, 20)):
        scheme = PseudoLabel(epoch_steps=epoch_steps)
        run = run_of(scheme, recipe())
        batches = list(scheme.batches(run))
        assert len(batches) == expected
        assert all(len(labelled.images) == BATCH for labelled, _ in batches)
        assert all(unlabelled.labels is None for _, unlabelled in batches)
        if epoch_steps is None:
            rows = torch.cat([unlabelled.index for _, unlabelled in batches])
            assert sorted(rows.tolist()) == list(range(N_LABELLED, N_LABELLED + N_POOL))


@pytest.mark.parametrize("scheme", [FixMatch(threshold=0.7, mu=3, ema_decay=0.9), MixMatch(ema_decay=0.9)])
def test_it_learns_in_reduced_precision(scheme):
    settings = recipe(epochs=12)
    run = run_of(scheme, settings)
    trained = train(run, scheme, settings, precision="bfloat16")
    assert accuracy(run.ema) > 0.8
    if isinstance(scheme, FixMatch):
        assert 0.2 < trained.figures["unlabelled_used"] <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixMatch(threshold=1.5), "threshold=1.5: a finite number, at least 0 and at most 1"),
        (lambda: FixMatch(augmentation="trivial"), "augmentation='trivial': 'randaugment' or 'ctaugment'"),
        (lambda: FixMatch(cta_decay=1.0), "cta_decay=1.0: a finite number, at least 0 and below 1"),
        (lambda: FixMatch(mu=0), "mu=0: an integer, at least 1"),
        (lambda: FixMatch(variant="usb"), "variant='usb': 'paper' or 'code'"),
        (lambda: FixMatch(batch_norm="none"), "batch_norm='none': 'labelled' or 'joint' or 'interleaved'"),
        (lambda: FixMatch(epoch_steps=0), "epoch_steps=0: None or an integer, at least 1"),
        (lambda: PiModel(ema_decay=1.0), "ema_decay=1.0: a finite number, at least 0 and below 1"),
        (lambda: PiModel(weight=-1.0), "weight=-1.0: a finite number, at least 0"),
        (lambda: MeanTeacher(ramp=1.2), "ramp=1.2: a finite number, at least 0 and at most 1"),
        (lambda: PseudoLabel(ramp_start=0.5), "ramp_start=0.5: at most ramp_end, 0.4"),
        (lambda: MixMatch(temperature=0.0), "temperature=0.0: a finite number, above 0"),
        (lambda: MixMatch(alpha=0.0), "alpha=0.0: a finite number, above 0"),
        (lambda: MixMatch(mix_per="pixel"), "mix_per='pixel': 'image' or 'batch'"),
        (lambda: UDA(temperature=float("nan")), "temperature=nan: a finite number, above 0"),
        (lambda: UDA(annealing="cosine"), "annealing='cosine': 'none' or 'linear' or 'log' or 'exp'"),
        (lambda: FlexMatch(operations=0), "operations=0: an integer, at least 1"),
        (lambda: FlexMatch(cutout=-0.1), "cutout=-0.1: a finite number, at least 0 and at most 1"),
    ],
)
def test_a_bad_parameter_is_named(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize("spec", kdbench_semisup.kdbench_schemes(), ids=lambda s: s.name)
def test_the_specs(spec):
    module, attribute = spec.target.split(":")
    target = getattr(importlib.import_module(module), attribute)
    assert isinstance(target(), Scheme)
    assert {target(variant=v).variant for v in spec.variants} == set(spec.variants)
    assert spec.needs <= SCHEME_NEEDS
    assert spec.reference


def test_the_hooks_and_the_constructors_import_nothing_heavy():
    code = (
        "import sys, importlib, kdbench_semisup as s\n"
        "for spec in s.kdbench_schemes():\n"
        "    module, name = spec.target.split(':')\n"
        "    getattr(importlib.import_module(module), name)()\n"
        "heavy = {'torch', 'numpy', 'scipy', 'torchvision'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
