"""Each conformance check finds the schemes that it is there for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from kdbench.registry import Registry
from kdbench.testing import NotApplicable, Target, Violation, run_checks, schemes
from kdbench.testing.fixtures.schemes import FixtureRun, SchemeFixture, tiny_images


@pytest.fixture(scope="module")
def broken():
    return Registry.discover(files=[Path(__file__).with_name("kdb_broken_schemes.py")])


def test_a_sound_scheme_is_found_sound(broken):
    (findings,) = run_checks(Target("schemes", "sound", broken)).values()
    assert [f.status for f in findings] == ["passed"] * len(schemes.CHECKS)


@pytest.mark.parametrize(
    ("name", "check", "sentence"),
    [
        ("not-a-number", schemes.check_loss_is_finite, "mse is nan in epoch 1|diverges.*'mse': nan"),
        (
            "not-a-scalar",
            schemes.check_loss_is_finite,
            r"loss: a scalar tensor is expected, not shape \(4,\)",
        ),
        ("average-with-itself", schemes.check_gradient_reaches_student, "no gradient flows from mse"),
        (
            "average-with-itself",
            schemes.check_each_term_changes_the_student,
            "without mse ends with the same",
        ),
        ("trains-no-student", schemes.check_gradient_reaches_student, "no gradient reaches the student"),
        (
            "teacher-in-training-mode",
            schemes.check_teacher_stays_as_it_is,
            "the teacher's .*running_mean changed",
        ),
        ("teacher-with-gradients", schemes.check_teacher_stays_as_it_is, "a teacher has gradients"),
        ("least-elsewhere", schemes.check_minimum_where_student_is_teacher, "mse has a gradient of norm"),
        (
            "names-no-term",
            schemes.check_minimum_where_student_is_teacher,
            "names 'kl'; its terms are ce, mse",
        ),
        ("unseeded", schemes.check_same_seed_same_result, "second training with the same seed differs"),
        ("state-to-itself", schemes.check_resumed_ends_bit_identical, "a resumed training differs"),
    ],
)
def test_a_broken_promise_is_found(broken, name, check, sentence):
    with pytest.raises(Violation, match=sentence):
        check(SchemeFixture(name, broken))


@pytest.mark.parametrize(
    ("name", "check", "sentence"),
    [
        ("asks-for-a-pool", "trains-without-a-pool", "must need"),
        ("asks-for-more", "loss-is-finite", 'must need "teacher_features"'),
    ],
)
def test_what_a_scheme_raises_is_a_finding(broken, name, check, sentence):
    (findings,) = run_checks(Target("schemes", name, broken)).values()
    found = next(f for f in findings if f.check == check)
    assert found.status == "failed"
    assert sentence in found.sentence


def test_an_engine_that_hands_out_labels_of_the_pool_is_found(broken, monkeypatch):
    handed_out = FixtureRun.unlabelled

    def with_labels(self, batch_size=None):
        for batch in handed_out(self, batch_size):
            yield dataclasses.replace(batch, labels=self.all_labels[batch.index])

    fixture = SchemeFixture("reads-labels-of-the-pool", broken)
    made = SchemeFixture.run

    def run(self, *args, labels=None, **more):
        found = made(self, *args, labels=labels, **more)
        found.all_labels = torch.as_tensor(tiny_images()[1] if labels is None else labels)
        return found

    monkeypatch.setattr(SchemeFixture, "run", run)
    monkeypatch.setattr(FixtureRun, "unlabelled", with_labels)
    with pytest.raises(Violation, match="other labels of the unlabelled images change"):
        schemes.check_labels_of_the_pool_are_never_read(fixture)


def test_a_check_says_why_there_is_nothing_to_check(plain_registry):
    with pytest.raises(NotApplicable, match="no unlabelled images"):
        schemes.check_labels_of_the_pool_are_never_read(SchemeFixture("undistilled", plain_registry))
