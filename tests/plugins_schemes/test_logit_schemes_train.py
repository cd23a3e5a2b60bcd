"""Students trained by the schemes in the engine: cases with exact expectations."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from kdbench.testing.fixtures.schemes import SchemeFixture
from kdbench_schemes.dkd import DKD
from kdbench_schemes.quantization import in_buckets, quantised_names

HEAD = ("student/fc.weight", "student/fc.bias")


@pytest.fixture(scope="module")
def fixture(plain_registry):
    def make(name: str, **params) -> SchemeFixture:
        return SchemeFixture(name, plain_registry, params)

    return make


def student_of(outcome) -> dict[str, torch.Tensor]:
    return {k: v for k, v in outcome.state.items() if k.startswith("student/")}


def same(one, other) -> bool:
    return all(torch.equal(v, student_of(other)[k]) for k, v in student_of(one).items())


@pytest.fixture(scope="module")
def undistilled(fixture):
    return fixture("undistilled").reference


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("label-smoothing", {"epsilon": 0.0}),
        ("tf-kd", {"ce_weight": 1.0, "weight": 0.0}),
        ("hinton", {"ce_weight": 1.0, "weight": 0.0, "pool": False}),
        ("mutual", {"weight": 0.0, "pool": False}),
    ],
)
def test_scheme_of_zero_weight_equals_undistilled(fixture, undistilled, name, params):
    assert same(undistilled, fixture(name, **params).reference)


def test_pool_false_skips_unlabelled_images(fixture):
    with_pool, without = fixture("hinton").reference, fixture("hinton", pool=False).reference
    assert not same(with_pool, without)
    assert with_pool.images == 2 * without.images  # sixteen unlabelled images with sixteen labelled images
    assert with_pool.steps == without.steps


def test_dkd_of_two_classes_is_hinton():
    """With two classes NCKD is 0 and TCKD is the KL."""
    from kdbench_schemes._common import soft_kl
    from kdbench_schemes.dkd import decoupled_kl

    student, teacher = torch.randn(2, 6, 2, dtype=torch.float64)
    tckd, nckd = decoupled_kl(student, teacher, teacher.argmin(1), temperature=4.0)
    torch.testing.assert_close(tckd, soft_kl(student, teacher, temperature=4.0))
    assert float(nckd) == 0


def test_dkd_warms_up_by_epochs():
    scheme = DKD(warmup=0.25, weight=2.0)
    weights = [scheme.weight_at(SimpleNamespace(epoch=e, epochs=16)) for e in range(6)]
    assert weights == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert DKD(warmup=0.0).weight_at(SimpleNamespace(epoch=0, epochs=16)) == 1


@pytest.mark.parametrize("method", ["quantized-distillation", "differentiable-quantization"])
def test_quantised_student_has_few_values_per_bucket(fixture, method):
    made = fixture("quantized", method=method, bits=2, bucket=64)
    made.watched
    student = made.watched.run.student
    for name in quantised_names(student, ends=False):
        rows = in_buckets(student.get_parameter(name).detach(), 64)[0]
        assert max(len(row.unique()) for row in rows.mul(1e4).round()) <= 4, name
    assert len(student.conv1.weight.unique()) > 100
    assert len(student.fc.weight.unique()) > 100


@pytest.mark.parametrize(
    ("method", "points"), [("quantized-distillation", 0), ("differentiable-quantization", 4)]
)
def test_size_of_quantised_student_is_recorded(fixture, method, points):
    made = fixture("quantized", method=method, bits=2, bucket=64)
    run = made.run()
    figures = run.scheme.finish(run)
    weights = {n: p.numel() for n, p in run.student.named_parameters() if p.ndim > 1}
    few = [n for name, n in weights.items() if name not in ("conv1.weight", "fc.weight")]
    floats = [t for t in run.student.state_dict().values() if t.is_floating_point()]
    whole = 32 * sum(t.numel() for t in floats)
    saved = sum(n * 30 - (-(-n // 64) * 2 + points) * 32 for n in few)
    assert figures["size_bits_float32"] == whole
    assert figures["size_bits"] == whole - saved
    assert figures["compression"] == pytest.approx(whole / (whole - saved))


def test_weights_are_frozen_while_points_are_learned(fixture):
    made = fixture("quantized", method="differentiable-quantization", bits=2)
    run = made.run()
    kept: list[dict[str, torch.Tensor]] = []

    class Peek:
        finish = None

        def epoch(self, run):
            kept.append({k: v.detach().clone() for k, v in run.student.named_parameters()})
            yield from run.scheme.epoch(run)

    outcome = made.train(run, Peek())
    first, second = kept
    after = {k: outcome.state[f"student/{k}"] for k in second}
    assert not torch.equal(first["group1.0.conv1.weight"], second["group1.0.conv1.weight"])
    assert all(torch.equal(second[k], after[k]) for k in second)
    assert outcome.state["modules/moved"].abs().min(dim=1).values.max() > 0


def test_teacher_copy_equals_teacher(fixture):
    made = fixture("teacher-copy")
    outcome = made.watched.outcome
    teacher = made.watched.run.teachers[0].state_dict()
    assert outcome.steps == 0
    assert all(torch.equal(v, teacher[k.removeprefix("student/")]) for k, v in student_of(outcome).items())


def test_simclr_trains_no_last_layer_and_uses_no_labels(fixture):
    made = fixture("simclr")
    untouched = made.run().student.state_dict()
    assert all(torch.equal(made.reference.state[k], untouched[k.removeprefix("student/")]) for k in HEAD)
    run = made.run()
    run.labels = run.labels.roll(1)
    assert not made.reference.differs(made.train(run))


def test_simclr2_uses_labels_only_if_mixed(fixture):
    for labels, reads in (("none", False), ("mixed", True)):
        made = fixture("simclr2", labels=labels)
        run = made.run()
        run.labels = run.labels.roll(1)
        assert bool(made.reference.differs(made.train(run))) is reads


def test_mutual_learning_is_symmetric(fixture):
    outcome = fixture("mutual", peers=2).reference
    networks = [student_of(outcome)["student/fc.weight"]]
    networks += [outcome.state[f"modules/{k}.fc.weight"] for k in range(2)]
    assert all(not torch.equal(a, b) for i, a in enumerate(networks) for b in networks[:i])
    assert set(outcome.history) >= {
        "loss.cross_entropy",
        "loss.kl",
        "loss.peer_cross_entropy",
        "loss.peer_kl",
    }
