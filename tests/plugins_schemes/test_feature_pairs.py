"""Pairs of layers, adapters, and the checks before training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from kdbench_schemes._adapters import Adapters, resized, to_common_size
from kdbench_schemes._pairs import Pair, last_stage, middle_stage, penultimate, stages
from kdbench_schemes.amtml import AMTML
from kdbench_schemes.attention_transfer import AttentionTransfer
from kdbench_schemes.crd import CRD
from kdbench_schemes.fitnets import FitNets
from kdbench_schemes.pkt import PKT
from kdbench_schemes.reviewkd import ReviewKD
from kdbench_schemes.rkd import RKD
from kdbench_schemes.similarity import Similarity
from kdbench_schemes.vid import VID

WIDE = {"A": (16, 32, 32), "B": (16, 32, 32), "C": (32, 16, 16), "D": (64, 8, 8), "E": (64,)}
RESNET = {
    "conv1": (64, 112, 112), "layer1": (64, 56, 56), "layer2": (128, 28, 28), "layer3": (256, 14, 14),
    "layer4": (512, 7, 7), "penultimate": (512,),
}  # fmt: skip
TOKENS = {"block1": (65, 192), "block2": (65, 192), "penultimate": (192,)}


def setup_of(student=WIDE, teacher=RESNET, **more) -> SimpleNamespace:
    fields = {
        "student_features": student, "teacher_features": teacher, "student_width": 64, "teacher_width": 512,
        "n_classes": 10, "n_train": 50, "n_labelled": 20, "n_unlabelled": 30,
    }  # fmt: skip
    return SimpleNamespace(**(fields | more))


def test_stages_are_paired_from_the_output():
    paired = [("B", "layer2"), ("C", "layer3"), ("D", "layer4")]
    assert stages(setup_of()) == paired
    assert last_stage(setup_of()) == paired[-1:]
    assert middle_stage(setup_of()) == paired[1:2]
    assert penultimate(setup_of()) == [("penultimate", "penultimate")]
    assert stages(setup_of(RESNET, WIDE)) == [(t, s) for s, t in paired]
    assert stages(setup_of(WIDE, WIDE)) == [("B", "B"), ("C", "C"), ("D", "D")]


@pytest.mark.parametrize("scheme", [RKD(), PKT(), CRD(), Similarity()])
def test_schemes_without_maps_pair_any_layers(scheme):
    scheme.pairs = {"E": "layer4"}
    (pair,) = scheme.modules(setup_of()).pairs
    assert pair == Pair("E", "layer4", (64,), (512, 7, 7))


def test_penultimate_is_always_available():
    (pair,) = RKD(pairs={"penultimate": "penultimate"}).modules(setup_of()).pairs
    assert (pair.student_shape, pair.teacher_shape) == ((64,), (512,))


@pytest.mark.parametrize(
    "scheme", [FitNets, AttentionTransfer, Similarity, RKD, PKT, VID, CRD, ReviewKD, AMTML]
)
def test_unknown_tap_error_lists_available_taps(scheme):
    with pytest.raises(ValueError, match=r"pairs=.*the student has no tap 'Z'; it has A \(16, 32, 32\)"):
        scheme(pairs={"Z": "layer4"}).modules(setup_of())
    with pytest.raises(ValueError, match=r"pairs=.*the teacher has no tap 'D'; it has conv1"):
        scheme(pairs={"D": "D"}).modules(setup_of())


def test_unsuitable_shapes_are_reported():
    with pytest.raises(ValueError, match=r"pairs='auto': the teacher has no tap of maps.*block1 \(65, 192\)"):
        VID().modules(setup_of(teacher=TOKENS))
    with pytest.raises(ValueError, match=r"pairs=\{'D': 'block1'\}.*vectors \(d,\) or maps"):
        Similarity(pairs={"D": "block1"}).modules(setup_of(teacher=TOKENS))
    with pytest.raises(ValueError, match=r"pairs=\{'E': 'layer4'\}.*larger than 1x1"):
        AttentionTransfer(pairs={"E": "layer4"}).modules(setup_of())
    for scheme in (FitNets, AMTML):
        with pytest.raises(ValueError, match=r"E \(64,\) = layer4 \(512, 7, 7\).*can't predict"):
            scheme(pairs={"E": "layer4"}).modules(setup_of())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RKD(pairs="all"), r"pairs='all': \"auto\""),
        (lambda: RKD(pairs={}), "pairs="),
        (lambda: RKD(distance_weight=0, angle_weight=0), "angle_weight=0"),
        (lambda: RKD(angle_weight=-1), "angle_weight=-1"),
        (lambda: FitNets(variant="new"), "variant='new': 'paper' or 'code'"),
        (lambda: FitNets(hint_share=1.0), "hint_share=1.0"),
        (lambda: FitNets(temperature=0.0), "temperature=0.0"),
        (lambda: AttentionTransfer(variant="both"), "variant='both'"),
        (lambda: Similarity(weight=-1.0), "weight=-1.0"),
        (lambda: VID(initial_variance=0.0), "initial_variance=0.0"),
        (lambda: VID(initial_variance=1e-6), "initial_variance=1e-06"),
        (lambda: CRD(temperature=-1.0), "temperature=-1.0"),
        (lambda: CRD(n_negatives=0), "n_negatives=0"),
        (lambda: CRD(momentum=1.0), "momentum=1.0"),
        (lambda: CRD(negatives="none"), "negatives='none'"),
        (lambda: CRD(pairs={"C": "layer3", "D": "layer4"}), "pairs="),
        (lambda: ReviewKD(warmup=1.5), "warmup=1.5"),
        (lambda: ReviewKD(width=0), "width=0"),
        (lambda: AMTML(teachers=1), "teachers=1"),
        (lambda: AMTML(adapter_share=2.0), "adapter_share=2.0"),
        (lambda: CRD().modules(setup_of(n_labelled=1, n_unlabelled=0)), "pool=True"),
        (lambda: CRD().modules(setup_of(n_classes=1)), "negatives='class'"),
    ],
)
def test_parameters_out_of_range_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("teacher", [(512, 7, 7), (5, 20, 20), (5, 4, 20), (12,)])
def test_adapters_have_teacher_shape(teacher):
    pair = Pair("D", "layer4", (64, 8, 8), teacher)
    student = torch.randn(2, 64, 8, 8, requires_grad=True)
    adapted = Adapters([pair])(0, student)
    assert adapted.shape == (2, *teacher, 1, 1)[:4] if len(teacher) == 1 else (2, *teacher)
    adapted.sum().backward()
    assert student.grad is not None
    assert (student.grad != 0).any()
    vectors = Adapters([Pair("E", "penultimate", (64,), (12,))])(0, torch.randn(2, 64))
    assert vectors.shape == (2, 12, 1, 1)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 5), (7, 1), (8, 8), (9, 13), (16, 16)])
def test_resizing_is_average_pooling_and_bilinear_interpolation(size):
    maps = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    smaller = F.adaptive_avg_pool2d(maps, (min(8, size[0]), min(8, size[1])))
    expected = F.interpolate(smaller, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized(maps, size), expected)


def test_resizing_keeps_constants_and_means():
    flat = torch.full((1, 2, 6, 6), 3.0)
    for size in ((1, 1), (6, 6), (9, 4), (13, 13)):
        assert torch.allclose(resized(flat, size), torch.full((1, 2, *size), 3.0))
    maps = torch.randn(2, 3, 8, 8)
    assert torch.allclose(resized(maps, (4, 4)).mean((2, 3)), maps.mean((2, 3)), atol=1e-6)
    assert resized(maps, (8, 8)) is maps
    student, teacher = to_common_size(torch.randn(1, 2, 8, 3), torch.randn(1, 5, 4, 6))
    assert (student.shape, teacher.shape) == ((1, 2, 4, 3), (1, 5, 4, 3))
