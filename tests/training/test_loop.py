"""The loop against a plain one, its resumption, its schedule, its precision."""

from __future__ import annotations

import itertools
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from kdbench.api import Normalization
from kdbench.training.checkpoint import Checkpointer, Position
from kdbench.training.compiled import Compiled
from kdbench.training.data import Augmentation, ImageSource, generator_for
from kdbench.training.loop import Diverged, Run, Supervised, train
from kdbench.training.optimizer import learning_rate

RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (37, 8, 8, 3), dtype=np.uint8)
LABELS = torch.from_numpy(RNG.integers(0, 4, 37))
NORM = Normalization((0.5,) * 3, (0.25,) * 3)


def recipe(**changed) -> SimpleNamespace:
    fields = {
        "epochs": 3, "steps": None, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9,
        "nesterov": False, "weight_decay": 5e-3, "weight_decay_on": "all", "schedule": "step", "decay_every": 2,
        "decay_factor": 0.2, "compile": False,
    }  # fmt: skip
    return SimpleNamespace(**(fields | changed))


def network(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 4),
        ).to(memory_format=torch.channels_last)


def run_of(model: nn.Module, settings: SimpleNamespace, *, seed: int = 5, rows: int = 30) -> Run:
    augmentation = Augmentation(True, 1)
    return Run(
        student=model,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=seed,
        labelled_source=ImageSource(IMAGES, np.arange(rows), NORM, augmentation=augmentation),
        labels=LABELS[:rows],
        unlabelled_source=ImageSource(IMAGES, np.arange(rows, 37), NORM, augmentation=augmentation),
    )


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


# -- schedule


def test_the_papers_schedule():
    """LW 4.2: 0.1, multiplied by 0.2 every 60 epochs."""
    paper = recipe(epochs=200, decay_every=60)
    rates = [learning_rate(paper, e, e / 200) for e in range(200)]
    expected = np.repeat([0.1, 0.02, 0.004, 0.0008], 60)[:200]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_other_schedules():
    cosine = recipe(schedule="cosine", epochs=10)
    rates = [learning_rate(cosine, e, e / 10) for e in range(10)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[5] == pytest.approx(0.05)
    assert all(a > b > 0 for a, b in itertools.pairwise(rates))
    assert {learning_rate(recipe(schedule="constant"), e, e / 99) for e in range(99)} == {0.1}
    fixmatch = recipe(schedule="cosine-7-16")
    assert learning_rate(fixmatch, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(fixmatch, 2, 1.0) == pytest.approx(0.1 * np.cos(7 * np.pi / 16))


# -- against a plain loop


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_loop_is_a_plain_pytorch_loop(nesterov):
    """SGD by its formula, written out: v = m v + g + wd w; w -= lr (v, or g + m v with Nesterov)."""
    settings = recipe(nesterov=nesterov)
    model = network()
    trained = train(run_of(model, settings), Supervised(), settings, precision="float32")

    plain = network()
    plain.train()
    source = ImageSource(IMAGES, np.arange(30), NORM, augmentation=Augmentation(True, 1))
    velocity = {name: torch.zeros_like(p) for name, p in plain.named_parameters()}
    epoch_losses = []
    for epoch in range(3):
        rate = 0.1 if epoch < 2 else 0.1 * 0.2
        generator = generator_for(5, "order", "labelled", epoch, 1)
        order = torch.randperm(30, generator=generator)
        views = torch.randint(18, (30,), generator=generator)
        losses = []
        for start in range(0, 30, 8):
            rows = order[start : start + 8]
            logits = plain(source.batch(rows, views[start : start + 8]))
            loss = -torch.log_softmax(logits, 1)[torch.arange(len(rows)), LABELS[rows]].mean()
            plain.zero_grad()
            loss.backward()
            with torch.no_grad():
                for name, p in plain.named_parameters():
                    assert p.grad is not None
                    step = p.grad + 5e-3 * p
                    velocity[name] = 0.9 * velocity[name] + step
                    p -= rate * (step + 0.9 * velocity[name] if nesterov else velocity[name])
            losses.append(float(loss.detach()))
        epoch_losses.append(np.mean(losses))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(trained.history["loss.cross_entropy"], epoch_losses, rtol=1e-5)
    np.testing.assert_allclose(trained.history["learning_rate"], [0.1, 0.1, 0.02])
    assert (trained.images, trained.steps) == (90, 12)


def test_named_terms_are_summed_and_reported_each():
    class Terms:
        def epoch(self, run):
            for batch in run.labelled():
                loss = nn.functional.cross_entropy(run.student(batch.images), batch.labels)
                yield {"a": loss, "b": 2 * loss}

    class Whole:
        def epoch(self, run):
            for batch in run.labelled():
                yield 3 * nn.functional.cross_entropy(run.student(batch.images), batch.labels)

    settings, one, other = recipe(epochs=2), network(), network()
    named = train(run_of(one, settings), Terms(), settings, precision="float32").history
    whole = train(run_of(other, settings), Whole(), settings, precision="float32").history
    np.testing.assert_allclose(named["loss.b"], 2 * np.array(named["loss.a"]), rtol=1e-6)
    np.testing.assert_allclose(
        whole["loss.loss"], np.array(named["loss.a"]) + np.array(named["loss.b"]), rtol=1e-4
    )
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_passes_of_an_epoch_differ_and_images_of_both_kinds_are_counted():
    orders = []

    class Twice:
        def epoch(self, run):
            for passed in (run.labelled(), run.labelled(), run.unlabelled()):
                orders.append([])
                for batch in passed:
                    orders[-1] += batch.index.tolist()
                    yield run.student(batch.images).square().mean()

    settings = recipe(epochs=2)
    trained = train(run_of(network(), settings), Twice(), settings, precision="float32")
    assert trained.images == 2 * (30 + 30 + 7)
    assert trained.steps == 2 * (4 + 4 + 1)
    assert len({tuple(o) for o in orders}) == 6
    assert sorted(orders[2]) == list(range(30, 37))


def test_what_a_scheme_did_not_ask_for_is_refused():
    class Greedy:
        def __init__(self, wish):
            self.wish = wish

        def epoch(self, run):
            batch = next(iter(run.labelled()))
            yield from (
                (b.images.mean() for b in run.unlabelled())
                if self.wish == "pool"
                else [run.teacher_logits(batch).mean()]
            )

    settings = recipe()
    run = run_of(network(), settings)
    run.unlabelled_source = None
    with pytest.raises(RuntimeError, match='must need "unlabelled"'):
        train(run, Greedy("pool"), settings, precision="float32")
    with pytest.raises(RuntimeError, match='must need "teacher_logits"'):
        train(run, Greedy("teacher"), settings, precision="float32")


# -- evaluation


@pytest.mark.parametrize(("every", "at"), [(0, [4]), (1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (7, [4])])
def test_evaluations_stand_at_their_epochs(every, at):
    settings = recipe(epochs=5)
    calls = []

    def evaluate():
        calls.append(1)
        return {"test_accuracy": len(calls) / 10}

    history = train(
        run_of(network(), settings), Supervised(), settings, precision="float32", evaluate=evaluate, eval_every=every
    ).history  # fmt: skip
    curve = history["test_accuracy"]
    assert len(curve) == 5
    assert [e for e, x in enumerate(curve) if not math.isnan(x)] == at
    assert [x for x in curve if not math.isnan(x)] == [(i + 1) / 10 for i in range(len(at))]


def test_evaluation_does_not_touch_the_training():
    from kdbench.training.evaluate import predict

    settings, alone, watched = recipe(), network(dropout=0.3), network(dropout=0.3)
    run = run_of(watched, settings)
    train(run_of(alone, settings), Supervised(), settings, precision="float32")
    train(
        run, Supervised(), settings, precision="float32", eval_every=1,
        evaluate=lambda: {"x": float(predict(watched, run.labelled_source, precision="float32").mean())},
    )  # fmt: skip
    assert_same(weights(alone), weights(watched))


# -- resuming


class Interruption(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(Checkpointer, "maybe_save", Checkpointer.save)
    settings = recipe(epochs=5)
    whole = network(dropout=0.3)
    expected = train(run_of(whole, settings), Supervised(), settings, precision="float32", eval_every=2,
                     evaluate=lambda: {"x": 1.0})  # fmt: skip
    seen = 0

    def interrupt(_images, _losses):
        nonlocal seen
        seen += 1
        if seen == stop + 1:  # in the epoch after the one that was saved last
            raise Interruption

    first = network(dropout=0.3)
    with pytest.raises(Interruption):
        train(run_of(first, settings), Supervised(), settings, precision="float32", eval_every=2,
              evaluate=lambda: {"x": 1.0}, checkpoints=tmp_path, progress=interrupt)  # fmt: skip
    epochs = []
    second = network(seed=99, dropout=0.3)  # whatever it starts from
    got = train(run_of(second, settings), Supervised(), settings, precision="float32", eval_every=2,
                evaluate=lambda: {"x": 1.0}, checkpoints=tmp_path, progress=lambda *a: epochs.append(a))  # fmt: skip
    assert len(epochs) == 5 - stop
    assert_same(weights(whole), weights(second))
    assert str(got.history) == str(expected.history)
    assert (got.images, got.steps) == (expected.images, expected.steps)


def test_checkpoints_are_saved_now_and_then_alone(tmp_path):
    model, settings = network(), recipe(epochs=4)
    train(run_of(model, settings), Supervised(), settings, precision="float32", checkpoints=tmp_path)
    assert list(tmp_path.iterdir()) == []  # a moment's training is not worth one


def test_half_a_checkpoint_is_never_seen(tmp_path, monkeypatch):
    import safetensors.torch

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    parameters = list(model.parameters())
    saver = Checkpointer(tmp_path, {"student": model}, optimizer, parameters)
    saver.save(Position(1, {"loss": [0.5]}, 10, 2))

    def dies(tensors, path, metadata=None):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", dies)
    with pytest.raises(OSError, match="no space"):
        saver.save(Position(2, {"loss": [0.5, 0.4]}, 20, 4))
    resumed = saver.load()
    assert resumed is not None
    assert (resumed.epoch, resumed.history, resumed.images, resumed.steps) == (1, {"loss": [0.5]}, 10, 2)


# -- precision, divergence, global state


def test_bfloat16_is_close_to_float32_and_keeps_float32_weights():
    settings = recipe(learning_rate=0.02, epochs=4)
    curves, ends = [], []
    for precision in ("float32", "bfloat16"):
        model = network()
        history = train(run_of(model, settings), Supervised(), settings, precision=precision).history
        curves.append(history["loss.cross_entropy"])
        ends.append(weights(model))
    assert all(v.dtype in (torch.float32, torch.int64) for v in ends[1].values())
    np.testing.assert_allclose(curves[1], curves[0], rtol=0.02)
    assert any(not torch.equal(ends[0][k], ends[1][k]) for k in ends[0])  # it did run in another precision
    start = weights(network())
    moved = torch.cat([(ends[0][k] - start[k]).flatten().float() for k in start])
    moved_too = torch.cat([(ends[1][k] - start[k]).flatten().float() for k in start])
    assert torch.cosine_similarity(moved, moved_too, dim=0) > 0.98


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_training(value):
    class Bad:
        def epoch(self, run):
            for batch in run.labelled():
                loss = run.student(batch.images).square().mean()
                yield {"good": loss, "bad": loss * value}

    settings = recipe()
    with pytest.raises(Diverged, match=r"'bad'.*epoch 1 of 3.*learning rate 0\.1"):
        train(run_of(network(), settings), Bad(), settings, precision="float32")


def test_global_random_states_are_left_as_they_were():
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 (the global state is what is looked at)
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    settings = recipe()
    train(run_of(network(dropout=0.5), settings), Supervised(), settings, precision="float32")
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


def test_the_result_does_not_depend_on_the_global_state():
    settings, ends = recipe(), []
    for seed in (1, 2):
        model = network(dropout=0.5)
        torch.manual_seed(seed)
        train(run_of(model, settings), Supervised(), settings, precision="float32")
        ends.append(weights(model))
    assert_same(*ends)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_is_the_plain_one_within_rounding():
    settings, plain, compiled = recipe(epochs=2), network(), network()
    histories = []
    for model, how in ((plain, settings), (compiled, recipe(epochs=2, compile=True))):
        run = run_of(model, how)
        histories.append(train(run, Supervised(), how, precision="float32").history)
        assert set(model.state_dict()) == set(network().state_dict())
    np.testing.assert_allclose(
        histories[1]["loss.cross_entropy"], histories[0]["loss.cross_entropy"], rtol=1e-4
    )
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-4, rtol=1e-3)
    assert isinstance(run.student, Compiled)
