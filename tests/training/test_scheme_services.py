"""What the loop does for schemes beside stepping: streams, views, an average, modules of their own, steps."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from test_loop import IMAGES, LABELS, NORM, Interruption, assert_same, network, recipe, run_of, weights
from torch import nn

from kdbench.training.checkpoint import Checkpointer
from kdbench.training.data import Augmentation, ImageSource
from kdbench.training.loop import Supervised, train
from kdbench.training.optimizer import make_optimizer
from kdbench.training.outputs import Anatomy


class Recorder:
    """A scheme that trains on labelled batches and notes what `look(run)` tells at each step."""

    def __init__(self, look) -> None:
        self.look, self.seen = look, []

    def epoch(self, run):
        for batch in run.labelled():
            self.seen.append(self.look(run))
            yield nn.functional.cross_entropy(run.student(batch.images), batch.labels)


# -- steps


@pytest.mark.parametrize(("steps", "epochs"), [(10, 3), (3, 5), (12, 4), (1, 1)])
def test_a_fixed_number_of_steps_is_taken_whatever_an_epoch_has(steps, epochs):
    """30 images in batches of 8: 4 steps a pass."""
    settings = recipe(steps=steps, epochs=epochs)
    scheme = Recorder(lambda run: (run.epoch, run.step, run.progress))
    trained = train(run_of(network(), settings), scheme, settings, precision="float32")
    assert trained.steps == steps
    assert [s for _, s, _ in scheme.seen] == list(range(steps))
    assert [p for _, _, p in scheme.seen] == [s / steps for s in range(steps)]
    by_epoch = [sum(1 for e, _, _ in scheme.seen if e == epoch) for epoch in range(epochs)]
    assert max(by_epoch) - min(by_epoch) <= 1
    assert len(trained.history["learning_rate"]) == epochs


def test_schemes_of_any_epoch_take_the_same_steps_and_rates():
    class Long:
        def epoch(self, run):
            for batch in itertools.islice(run.labelled_stream(), 1000):
                yield nn.functional.cross_entropy(run.student(batch.images), batch.labels)

    settings = recipe(steps=11, epochs=2, schedule="cosine-7-16")
    ends = [
        train(run_of(network(), settings), s, settings, precision="float32") for s in (Supervised(), Long())
    ]
    assert ends[0].steps == ends[1].steps == 11
    # the rates of the last steps, 4 and 10, not of those after them
    last = [0.1 * math.cos(7 * math.pi / 16 * step / 11) for step in (4, 10)]
    for end in ends:
        assert end.history["learning_rate"] == pytest.approx(last)
    assert ends[1].images == 11 * 8


def test_a_scheme_without_steps_ends():
    class Idle:
        def epoch(self, run):
            yield from ()

    model = network()
    before = weights(model)
    for settings in (recipe(steps=7), recipe()):
        assert train(run_of(model, settings), Idle(), settings, precision="float32").steps == 0
    assert_same(before, weights(model))


# -- what it reads


def test_streams_are_full_batches_of_whole_passes():
    settings = recipe(epochs=1)
    run = run_of(network(), settings)
    for stream, rows, labelled in (
        (run.labelled_stream(7), range(30), True),
        (run.unlabelled_stream(20), range(30, 37), False),
    ):
        seen = list(itertools.islice(stream, 30))
        size = len(seen[0].index)
        assert {len(b.index) for b in seen} == {size}
        order = torch.cat([b.index for b in seen]).tolist()
        for start in range(0, len(order) - len(rows) + 1, len(rows)):
            assert sorted(order[start : start + len(rows)]) == list(rows)
        assert all((b.labels is not None) == labelled for b in seen)
        if labelled:
            assert all(torch.equal(b.labels, LABELS[b.index]) for b in seen)
    assert run.images == 30 * 7 + 30 * 20


def test_another_view_is_of_the_same_images():
    run = run_of(network(), recipe())
    batch = next(run.labelled())
    one, two = run.another_view(batch), run.another_view(batch)
    source = batch.source
    for other in (one, two):
        assert torch.equal(other.index, batch.index)
        assert torch.equal(other.labels, batch.labels)
        assert torch.equal(other.images, source.batch(batch.positions, other.view))
    assert not torch.equal(one.view, two.view)
    assert run.images == len(batch.index)


def test_an_augmentation_of_the_schemes_own_sees_pixels():
    run = run_of(network(), recipe())
    batch = next(run.unlabelled())
    seen = []

    def inverted(images):
        seen.append(images)
        return 255 - images

    images = run.augmented(batch, inverted)
    assert seen[0].dtype == torch.uint8
    # normalised by mean 0.5 and deviation 0.25: an inverted image is the negative
    torch.testing.assert_close(images, -batch.images, atol=1e-5, rtol=1e-5)
    with pytest.raises(TypeError, match="float32"):
        run.augmented(batch, lambda x: x.float())


@pytest.mark.parametrize("shift", [1, 3])
def test_reflected_shifts_are_numpys(shift):
    source = ImageSource(IMAGES, np.arange(4), NORM, augmentation=Augmentation(True, shift, "reflect"))
    side = 2 * shift + 1
    padded = np.pad(IMAGES[:4], ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="reflect")
    for view in range(2 * side * side):
        top, left = divmod(view // 2, side)
        expected = padded[:, top : top + 8, left : left + 8]
        expected = expected[:, :, ::-1] if view % 2 else expected
        seen = source.raw(torch.arange(4), torch.full((4,), view))
        assert np.array_equal(seen.permute(0, 2, 3, 1).numpy(), expected)
    still = source.augmentation.unchanged(4)
    assert np.array_equal(source.raw(torch.arange(4), still).permute(0, 2, 3, 1).numpy(), IMAGES[:4])


def test_activations_come_with_gradients_and_leave_no_hooks():
    model = network()
    run = run_of(model, recipe())
    run.anatomy = Anatomy({"A": "0", "B": "4"}, "6")
    batch = next(run.labelled())
    found = run.forward(batch.images)
    assert list(found.features) == ["A", "B"]
    assert torch.equal(found.penultimate, found.features["B"].flatten(1))
    torch.testing.assert_close(found.logits, model[6](found.penultimate))
    found.features["A"].square().mean().backward()
    assert model[0].weight.grad is not None
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


# -- what it keeps


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_the_average_by_its_formula(decay):
    states = []  # of the student and the average after each step

    class Averaging:
        ema_decay = decay

        def epoch(self, run):
            for batch in run.labelled():
                states.append((weights(run.student), weights(run.ema)))
                yield nn.functional.cross_entropy(run.student(batch.images), batch.labels)

    settings, model = recipe(epochs=2), network()
    run = run_of(model, settings)
    train(run, Averaging(), settings, precision="float32")
    assert run.ema is not None
    assert not any(p.requires_grad for p in run.ema.parameters())
    assert_same(*states[0])
    parameters = {name for name, _ in model.named_parameters()}
    for (_, before), (student, after) in itertools.pairwise(states):
        for name in student:
            if name in parameters:
                expected = decay * before[name] + (1 - decay) * student[name]
                torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-5)
            else:
                assert torch.equal(after[name], student[name]), name  # statistics are averages already


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_an_impossible_average_is_refused(decay):
    class Averaging(Supervised):
        ema_decay = decay

    settings = recipe()
    with pytest.raises(ValueError, match="ema_decay"):
        train(run_of(network(), settings), Averaging(), settings, precision="float32")


class Stateful:
    """A scheme that trains an adapter, counts in a buffer, and averages."""

    ema_decay = 0.7

    @staticmethod
    def modules() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(4)
            made = nn.Linear(4, 4)
        made.register_buffer("count", torch.zeros(()))
        return made

    def epoch(self, run):
        for batch in run.labelled():
            logits = run.modules(run.student(batch.images)) * (1 + 0.01 * run.modules.count)
            with torch.no_grad():
                target = run.ema(batch.images)
            yield {
                "ce": nn.functional.cross_entropy(logits, batch.labels),
                "consistency": (logits - target).square().mean(),
            }
            run.modules.count += 1


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("steps", [None, 13])
def test_state_of_a_scheme_is_resumed(tmp_path, monkeypatch, optimizer, steps):
    monkeypatch.setattr(Checkpointer, "maybe_save", Checkpointer.save)
    settings = recipe(epochs=4, optimizer=optimizer, steps=steps, learning_rate=0.01)

    def trained(**more):
        run = run_of(network(dropout=0.3), settings)
        run.modules = Stateful.modules()
        ended = train(run, Stateful(), settings, precision="float32", **more)
        return run, ended

    whole, expected = trained()
    adapter = weights(Stateful.modules())
    assert any(not torch.equal(adapter[k], weights(whole.modules)[k]) for k in ("weight", "bias"))

    def stop(*_):
        stop.calls += 1
        if stop.calls == 3:
            raise Interruption

    stop.calls = 0
    with pytest.raises(Interruption):
        trained(checkpoints=tmp_path, progress=stop)
    again, got = trained(checkpoints=tmp_path)
    assert str(got.history) == str(expected.history)
    for name in ("student", "modules", "ema"):
        assert_same(weights(getattr(whole, name)), weights(getattr(again, name)))


def test_what_a_scheme_says_at_its_end_is_kept_and_may_change_the_student():
    class Rounding(Supervised):
        def finish(self, run):
            for p in run.student.parameters():
                p.copy_((p * 8).round() / 8)
            return {"size_bits": 96}

    settings, model = recipe(), network()
    measured = []
    trained = train(
        run_of(model, settings), Rounding(), settings, precision="float32",
        evaluate=lambda: measured.append(weights(model)) or {"x": 0.0},
    )  # fmt: skip
    assert trained.figures == {"size_bits": 96.0}
    assert all(
        torch.equal(v, (v * 8).round() / 8) for k, v in measured[-1].items() if k.endswith(("weight", "bias"))
    )


# -- the optimiser


def test_kernels_alone_decay():
    model = network()
    for settings, decayed in ((recipe(weight_decay_on="kernels"), {2, 4}), (recipe(), {1, 2, 4})):
        optimizer = make_optimizer(settings, model.parameters())
        groups = [g for g in optimizer.param_groups if g["weight_decay"]]
        assert {p.ndim for g in groups for p in g["params"]} == decayed
        assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))


def test_adam_by_its_formula():
    """Kingma and Ba 2015, algorithm 1, one step from zero moments."""
    settings = recipe(optimizer="adam", epochs=1, batch_size=30, learning_rate=0.01, weight_decay=0.0)
    model, start = network(), weights(network())
    run = run_of(model, settings)
    batch = next(run_of(network(), settings).labelled())
    plain = network()
    nn.functional.cross_entropy(plain(batch.images), batch.labels).backward()
    train(run, Supervised(), settings, precision="float32")
    for name, p in plain.named_parameters():
        step = p.grad / (p.grad.abs() + 1e-8)
        expected = start[name] - 0.01 * step
        away = p.grad.abs() > 1e-4  # near zero the sign is rounding's
        torch.testing.assert_close(weights(model)[name][away], expected[away], atol=1e-5, rtol=1e-3)
