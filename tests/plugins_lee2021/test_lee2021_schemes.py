"""The paper's schemes: the loss against NumPy and scipy in float64, and the order of the updates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from kdbench.api import Scheme
from kdbench_lee2021.schemes import KL, Undistilled, kl_divergence


def logits(seed, n=16, c=10, scale=5.0):
    return scale * np.random.default_rng(seed).standard_normal((n, c))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("t2_scaling", [False, True])
@pytest.mark.parametrize("direction", ["teacher||student", "student||teacher"])
@pytest.mark.parametrize("reduction", ["batchmean", "sum"])
def test_kl_equals_scipy_relative_entropy(temperature, t2_scaling, direction, reduction):
    s, t = logits(0), logits(1)
    p_s, p_t = softmax(s / temperature, axis=1), softmax(t / temperature, axis=1)
    pair = (p_t, p_s) if direction == "teacher||student" else (p_s, p_t)
    expected = entropy(*pair, axis=1).sum() / (16 if reduction == "batchmean" else 1)
    expected *= temperature**2 if t2_scaling else 1
    settings = {"t2_scaling": t2_scaling, "direction": direction, "reduction": reduction}
    got = kl_divergence(torch.tensor(s), torch.tensor(t), temperature=temperature, **settings)
    assert got.item() == pytest.approx(expected, rel=1e-10)
    single = kl_divergence(
        torch.tensor(s).float(), torch.tensor(t).float(), temperature=temperature, **settings
    )
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(expected, rel=1e-5)


def test_gradient_is_difference_of_probabilities_over_t():
    s, t = logits(2), logits(3)
    student = torch.tensor(s, requires_grad=True)
    kl_divergence(student, torch.tensor(t), temperature=4.0, reduction="sum").backward()
    expected = (softmax(s / 4, axis=1) - softmax(t / 4, axis=1)) / 4
    np.testing.assert_allclose(student.grad.numpy(), expected, atol=1e-14)


def test_reverse_gradient_is_centred_log_ratio():
    s, t = logits(4), logits(5)
    student = torch.tensor(s, requires_grad=True)
    kl_divergence(
        student, torch.tensor(t), temperature=2.0, direction="student||teacher", reduction="sum"
    ).backward()
    p, ratio = softmax(s / 2, axis=1), log_softmax(s / 2, axis=1) - log_softmax(t / 2, axis=1)
    expected = p * (ratio - (p * ratio).sum(1, keepdims=True)) / 2
    np.testing.assert_allclose(student.grad.numpy(), expected, atol=1e-13)


def test_teacher_gets_no_gradient():
    teacher = torch.tensor(logits(1), requires_grad=True)
    student = torch.tensor(logits(0), requires_grad=True)
    kl_divergence(student, teacher).backward()
    assert teacher.grad is None


def test_kl_ignores_constants_and_is_zero_for_equal_logits():
    s, t = torch.tensor(logits(0)), torch.tensor(logits(1))
    offset = torch.tensor(np.random.default_rng(2).normal(0, 50, (16, 1)))
    assert kl_divergence(s + offset, t - offset).item() == pytest.approx(
        kl_divergence(s, t).item(), rel=1e-10
    )
    assert kl_divergence(t + offset, t).item() == pytest.approx(0, abs=1e-12)
    assert kl_divergence(s, t).item() > 0.1


def test_kl_of_extreme_logits_is_finite():
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = kl_divergence(s, torch.tensor([[-1e4, 1e4, 0.0]]), temperature=1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(s.grad).all()


def test_kl_is_computed_in_float32():
    s, t = torch.tensor(logits(0)).bfloat16(), torch.tensor(logits(1)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = kl_divergence(s, t)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(kl_divergence(s.double(), t.double()).item(), rel=1e-5)


@pytest.mark.parametrize("shapes", [((4, 3), (4, 5)), ((4, 3), (2, 3)), ((4, 3, 1), (4, 3, 1))])
def test_mismatched_logits_are_rejected(shapes):
    with pytest.raises(ValueError, match="the same shape"):
        kl_divergence(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


@dataclass
class FakeBatch:
    images: torch.Tensor
    labels: torch.Tensor | None
    index: torch.Tensor
    view: torch.Tensor


class FakeRun:
    """A run over random vectors that logs started passes and read batches."""

    epoch, epochs = 0, 1

    def __init__(self, labelled=3, unlabelled=5, size=4, classes=6):
        self.generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.student = torch.nn.Linear(8, classes)
        self.sizes = {"labelled": labelled, "unlabelled": unlabelled}
        self.size, self.classes = size, classes
        self.read = []
        self.batches = []

    def _pass(self, kind):
        for i in range(self.sizes[kind]):
            self.read.append(f"{kind[0]}{i}")
            images = torch.randn(self.size, 8, generator=self.generator)
            labels = torch.randint(self.classes, (self.size,), generator=self.generator)
            index = torch.arange(self.size) + i * self.size
            batch = FakeBatch(images, labels if kind == "labelled" else None, index, torch.zeros_like(index))
            self.batches.append(batch)
            yield batch

    def labelled(self):
        return self._pass("labelled")

    def unlabelled(self):
        return self._pass("unlabelled")

    def teacher_logits(self, batch):
        return torch.sin(torch.arange(self.classes) + batch.index[:, None].float())


def order(scheme, run):
    return [next(iter(terms)) for terms in scheme.epoch(run)]


def test_schemes_implement_the_protocol():
    assert isinstance(Undistilled(), Scheme)
    assert isinstance(KL(), Scheme)


def test_undistilled_is_cross_entropy_on_labelled_images():
    run = FakeRun()
    run.teacher_logits = None  # not to be called
    for terms, i in zip(Undistilled().epoch(run), range(3), strict=True):
        batch = run.batches[i]
        with torch.no_grad():
            z = run.student(batch.images).double().numpy()
        expected = -log_softmax(z, axis=1)[np.arange(4), batch.labels].mean()
        assert terms["cross_entropy"].item() == pytest.approx(expected, rel=1e-5)
        assert terms["cross_entropy"].requires_grad
    assert run.read == ["l0", "l1", "l2"]


def test_epoch_alternation_runs_labelled_then_unlabelled_pass():
    assert order(KL(), FakeRun(2, 3)) == ["cross_entropy"] * 2 + ["kl"] * 3


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((2, 4), "ckckkk"), ((4, 2), "ckckcc"), ((2, 2), "ckck"), ((0, 2), "kk"), ((2, 0), "cc")],
)
def test_batch_alternation_ends_with_rest_of_longer_pass(sizes, expected):
    assert "".join(term[0] for term in order(KL(alternation="batch"), FakeRun(*sizes))) == expected


@pytest.mark.parametrize("alternation", ["epoch", "batch"])
def test_batches_are_read_lazily(alternation):
    run = FakeRun(2, 2)
    for done, _terms in enumerate(KL(alternation=alternation).epoch(run), start=1):
        assert len(run.read) == done  # a step in between changes the student for the next one
    assert done == 4


def test_kl_term_uses_batch_teacher_logits_and_parameters():
    run = FakeRun(0, 3)
    scheme = KL(temperature=2.0, direction="student||teacher", t2_scaling=True, reduction="sum")
    for terms, i in zip(scheme.epoch(run), range(3), strict=True):
        batch = run.batches[i]
        with torch.no_grad():
            s = run.student(batch.images).double().numpy() / 2
        t = run.teacher_logits(batch).double().numpy() / 2
        expected = 4 * entropy(softmax(s, axis=1), softmax(t, axis=1), axis=1).sum()
        assert terms["kl"].item() == pytest.approx(expected, rel=1e-4)


def test_student_learns_from_teacher_outputs():
    """A student trained on the teacher's outputs only agrees with it afterwards."""
    run = FakeRun(0, 4)
    run.teacher_logits = lambda batch: 3 * batch.images[:, : run.classes]
    optimiser = torch.optim.SGD(run.student.parameters(), lr=0.5)
    losses = []
    for _ in range(40):
        for terms in KL(t2_scaling=True).epoch(run):
            optimiser.zero_grad()
            terms["kl"].backward()
            optimiser.step()
            losses.append(terms["kl"].item())
    assert np.mean(losses[-4:]) < 0.05 * np.mean(losses[:4])


def test_labelled_batches_need_labels():
    run = FakeRun()
    run.labelled = run.unlabelled
    with pytest.raises(ValueError, match="has no labels"):
        next(Undistilled().epoch(run))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": 0}, "temperature=0: a positive number"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"direction": "forward"}, "direction='forward': 'teacher||student' or 'student||teacher'"),
        ({"alternation": "step"}, "alternation='step'"),
        ({"reduction": "mean"}, "reduction='mean'"),
    ],
)
def test_parameter_out_of_range_is_rejected(params, message):
    with pytest.raises(ValueError) as error:
        KL(**params)
    assert message in str(error.value)
