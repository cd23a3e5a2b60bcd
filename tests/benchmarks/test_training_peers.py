"""The gates that the peers of training pass before anything is timed."""

import sys

import numpy as np
import pytest


@pytest.fixture
def loops(peers, monkeypatch):
    """plain_loop with a network of 10 layers in place of 28."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # the scripts add their folders
    loops, engine = peers("plain_loop"), peers("_engine")

    def small(seed=0):
        import torch

        from kdbench_networks.wide_resnet import WideResNet

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return WideResNet(depth=10, width=1).build(100, (32, 32, 3))

    monkeypatch.setattr(loops, "BATCH", 16)
    monkeypatch.setattr(loops, "student_network", small)
    monkeypatch.setattr(engine, "student_network", small)
    return loops


def test_all_loops_take_the_same_step(loops):
    found = loops.step_gate(["float32"])
    assert len(found) == 2


@pytest.mark.parametrize("wrong", ["weight_decay", "learning_rate"])
def test_a_loop_with_another_recipe_does_not_pass(loops, peers, monkeypatch, wrong):
    engine = peers("_engine")
    right = engine.recipe

    def recipe(*args, **kwargs):
        how = right(*args, **kwargs)
        setattr(how, wrong, getattr(how, wrong) * 1.01)
        return how

    monkeypatch.setattr(engine, "recipe", recipe)
    with pytest.raises(AssertionError, match="engine, float32: the step differs"):
        loops.step_gate(["float32"])


def test_the_bare_loop_and_the_engine_learn_alike(loops, peers):
    """A few epochs on 64 images learnt by heart, in another order and with other flips."""
    engine = peers("_engine")
    data = engine.Images(*(getattr(engine.noise(64, 4), k) for k in ("images", "labels")))
    losses = loops.bare_loop(loops.student_network(), data, 4, "float32")[1]
    seen = []
    how = engine.recipe(4, batch_size=16)
    run = engine.training(loops.student_network(), engine.source(data, engine.FLIPS), data.labels, how)
    engine.fit(run, how, "float32", progress=lambda _, terms: seen.append(sum(terms.values())))
    assert losses[-1] < 0.75 * losses[0]
    assert seen[-1] == pytest.approx(losses[-1], rel=0.2)


def test_the_scheme_beside_torchdistill_is_hintons(peers):
    """alpha * CE + (1 - alpha) T^2 KL(teacher || student), against NumPy in float64."""
    import torch
    from scipy.special import log_softmax

    peer = peers("torchdistill_student")
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 3, (2, 7, 5))
    labels = rng.integers(0, 5, 7)
    t, alpha = peer.TEMPERATURE, peer.ALPHA
    soft, target = log_softmax(student / t, 1), log_softmax(teacher / t, 1)
    kl = (np.exp(target) * (target - soft)).sum(1).mean()
    expected = -alpha * log_softmax(student, 1)[range(7), labels].mean() + (1 - alpha) * t**2 * kl
    found = peer._kdbench_loss(*(torch.from_numpy(x) for x in (student, teacher, labels)))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_a_longer_run_is_projected_from_its_parts(peers):
    peer = peers("torchdistill_student")
    at = lambda *walls: tuple(peer.Seconds(w, 2 * w) for w in walls)  # noqa: E731
    ran = peer.Ran(*at(3.0), at(5.0, 7.0), *at(1.0), loss=1.0, accuracy=0.5)
    assert ran.whole(1) == peer.Seconds(6.0, 12.0)
    assert ran.whole(2) == peer.Seconds(8.0, 16.0)
    assert ran.whole(10) == peer.Seconds(3 + 10 * 2 + 1, 2 * (3 + 10 * 2 + 1))


def test_known_targets_are_the_teachers_answers_for_each_view(peers):
    import torch

    engine = peers("_engine")
    data = engine.noise(6)
    source = engine.source(data, engine.FLIPS)
    teacher = engine.teacher_network().eval()
    ask = engine.targets(teacher, source, "float32")
    run = engine.training(engine.student_network(), source, data.labels, engine.recipe(1, batch_size=6))
    (batch,) = run.labelled()
    assert {0, 1} == set(batch.view.tolist())
    torch.testing.assert_close(ask(batch), engine.live(teacher, "float32")(batch), rtol=1e-4, atol=1e-4)


def test_means_further_apart_than_seeds_do_not_agree(peers):
    same = peers("_cifar").same_within_seeds
    assert same([0.10, 0.12, 0.11], [0.115, 0.12, 0.125])
    assert not same([0.10, 0.12, 0.11], [0.135, 0.135, 0.14])
