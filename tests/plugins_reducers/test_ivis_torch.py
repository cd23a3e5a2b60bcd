"""The parts of ivis-torch against NumPy, and what its parameters do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdbench.api import exact_neighbours
from kdbench.errors import KdbenchError, UsageError
from kdbench_reducers import _ivis_train
from kdbench_reducers._ivis_loss import TripletLoss, fit_diagnostics
from kdbench_reducers._ivis_names import WIDTHS
from kdbench_reducers._ivis_network import Encoder
from kdbench_reducers._ivis_step import Step
from kdbench_reducers._ivis_step_cpu import CpuStep
from kdbench_reducers._ivis_train import hardest
from kdbench_reducers._ivis_triplets import Outside, TripletSampler, fixed_triplets, neighbour_lists
from kdbench_reducers._scaling import fit_scaling
from kdbench_reducers.ivis_torch import IvisTorch


def data(n: int = 200, d: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def lists_of(n: int = 200, k: int = 10, with_self: bool = True) -> np.ndarray:
    return neighbour_lists(exact_neighbours(data(n), k), with_self)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- loss


@pytest.mark.parametrize("variant", ["both", "min", "an"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("margin", [0.0, 1.0, 2.5])
def test_the_loss_is_the_formula_in_numpy(variant, squared, margin):
    a, p, n = (points.astype(np.float64) for points in data(3 * 50, 2).reshape(3, 50, 2))
    power = 2 if squared else 1
    ap, an, pn = (np.linalg.norm(x - y, axis=1) ** power for x, y in ((a, p), (a, n), (p, n)))
    hinges = {
        "both": [ap - an + margin, ap - pn + margin],
        "min": [ap - np.minimum(an, pn) + margin],
        "an": [ap - an + margin],
    }[variant]
    expected = np.mean([np.maximum(h, 0).mean() for h in hinges])
    found = TripletLoss(variant, squared, margin)(torch.from_numpy(np.stack([a, p, n])))
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_loss_has_a_finite_gradient_where_a_positive_is_its_own_anchor():
    points = torch.zeros(3, 4, 2, requires_grad=True)
    TripletLoss()(points).backward()
    assert torch.isfinite(points.grad).all()


# --- triplets


def test_negatives_are_uniform_over_the_rows_outside_the_list():
    lists = torch.tensor([[0, 2, 5], [1, 3, 0], [2, 0, 1], [3, 6, 4], [4, 5, 6], [5, 4, 3], [6, 1, 2]])
    outside = Outside(lists)
    assert outside.count == 4
    for anchor in range(7):
        found = outside(torch.full((4,), anchor), torch.arange(4)).tolist()
        assert found == sorted(set(range(7)) - set(lists[anchor].tolist()))


def test_an_anchor_is_never_its_own_negative_where_lists_leave_it_out():
    lists = torch.from_numpy(lists_of(with_self=False))
    sampler = TripletSampler(lists, batch_size=64, sampling="per_row", generator=generator())
    anchors, positives, negatives = sampler.epoch()
    assert (negatives != anchors).all()
    assert (positives != anchors).all()


def test_lists_that_leave_no_negative_are_refused():
    with pytest.raises(ValueError, match="no negative"):
        Outside(torch.tensor([[0, 1], [1, 0]]))


@pytest.mark.parametrize("sampling", ["rank_per_batch", "per_row"])
def test_an_epoch_has_each_anchor_once_with_a_listed_positive_and_an_unlisted_negative(sampling):
    lists = torch.from_numpy(lists_of())
    sampler = TripletSampler(lists, batch_size=64, sampling=sampling, generator=generator())
    anchors, positives, negatives = sampler.epoch()
    assert anchors.tolist() == list(range(200))
    rank = (lists == positives[:, None]).int()
    assert (rank.sum(1) == 1).all()
    assert not (lists == negatives[:, None]).any()
    ranks = rank.argmax(1)
    per_batch = [len(set(ranks[i : i + 64].tolist())) for i in range(0, 200, 64)]
    assert (per_batch == [1, 1, 1, 1]) == (sampling == "rank_per_batch")
    assert sorted(sampler.order()) == [0, 1, 2, 3]


@pytest.mark.parametrize("sampling", ["rank_per_batch", "per_row"])
def test_every_rank_is_drawn_equally_often(sampling):
    lists = torch.from_numpy(lists_of(40, 4))
    sampler = TripletSampler(lists, batch_size=8, sampling=sampling, generator=generator())
    ranks = torch.cat([(lists == sampler.epoch()[1][:, None]).int().argmax(1) for _ in range(400)])
    share = torch.bincount(ranks, minlength=5) / len(ranks)
    assert share.min() > 0.17
    assert share.max() < 0.23


def test_fixed_triplets_are_fixed_and_fit_the_lists():
    lists = lists_of()
    anchors, positives, negatives = fixed_triplets(lists, 3_000)
    assert np.array_equal(fixed_triplets(lists, 3_000)[2], negatives)
    assert (lists[anchors] == positives[:, None]).any(1).all()
    assert not (lists[anchors] == negatives[:, None]).any()


def test_the_hard_negative_is_the_nearest_of_the_batch_outside_the_list():
    lists = torch.from_numpy(lists_of())
    rows = TripletSampler(lists, batch_size=200, sampling="per_row", generator=generator()).epoch()[:, :50]
    points = torch.from_numpy(data(150, 2, seed=4)).view(3, 50, 2)
    found = hardest(points, rows, lists)
    for i in range(50):
        allowed = [j for j in range(50) if rows[2, j] not in lists[rows[0, i]]]
        distances = [float((points[0, i] - points[2, j]).norm()) for j in allowed]
        assert int(found[i]) == allowed[int(np.argmin(distances))]


# --- network


@pytest.mark.parametrize("model", list(WIDTHS))
def test_weights_are_drawn_as_keras_draws_them(model):
    encoder = Encoder(700, 3, WIDTHS[model], generator=generator())
    for weight in list(encoder.weights)[:-1]:
        fan_in = weight.shape[1]
        assert float(weight.detach().std()) == pytest.approx(fan_in**-0.5, rel=0.03)
        assert float(weight.detach().abs().max()) <= 2 * fan_in**-0.5 / 0.8796 + 1e-6
    last = encoder.weights[-1].detach()
    assert float(last.abs().max()) <= np.sqrt(6 / sum(last.shape))
    assert all((bias == 0).all() for bias in encoder.biases)


def test_without_dropout_it_is_the_network_in_numpy():
    encoder = Encoder(12, 2, (20, 20, 20), generator=generator())
    x = data().astype(np.float64)
    for i, weight in enumerate(encoder.weights):
        x = x @ weight.detach().double().numpy().T
        if i < 3:
            x = 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))
    np.testing.assert_allclose(encoder(torch.from_numpy(data())).detach().numpy(), x, atol=1e-5)


def test_dropout_is_torch_s_alpha_dropout():
    torch_own = torch.nn.AlphaDropout(0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = torch_own(torch.full((50_000,), 0.5)).unique()
    encoder = Encoder(1, 1, (1,), generator=None)
    with torch.no_grad():
        encoder.weights[0].fill_(0.5 / 1.0507009873554805)
        encoder.weights[1].fill_(1)
        found = encoder(torch.ones(2, 1), [torch.tensor([[True], [False]])])
    torch.testing.assert_close(found.flatten().sort().values, expected, atol=1e-5, rtol=0)


# --- the step, in plain operations and compiled

STEPS = pytest.mark.parametrize("kind", [Step, CpuStep])


def step_of(
    kind, encoder: Encoder, X: torch.Tensor, size: int, loss: TripletLoss | None = None, seed: int = 0
):
    return kind(encoder, X, size, loss or TripletLoss(), 1e-3, seed)


@STEPS
def test_a_tenth_of_the_units_of_two_layers_is_dropped_each_on_its_own(kind):
    encoder = Encoder(4, 2, (30, 20, 10), generator=generator())
    step = step_of(kind, encoder, torch.zeros(9, 4), 400)
    same, different = (step_of(kind, encoder, torch.zeros(9, 4), 400, seed=s) for s in (0, 1))
    first, second, again, other = (s.dropped(s.draw(400)) for s in (step, step, same, different))
    assert [tuple(d.shape) for d in first] == [(1200, 30), (1200, 20)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for drawn in (*first, *second, *other):
        assert float(drawn.float().mean()) == pytest.approx(0.1, abs=0.006)
        assert float(drawn.float().mean(0).std()) < 0.02  # no unit, and no row, is favoured
        assert float(drawn.float().mean(1).std()) == pytest.approx((0.09 / drawn.shape[1]) ** 0.5, rel=0.15)
    pairs = [(first[0][:, :20], first[1]), (first[0], second[0]), (first[0], other[0])]
    for one, another in [*pairs, (first[0][:-1], first[0][1:]), (first[0][:, :-1], first[0][:, 1:])]:
        assert float((one & another).float().mean()) == pytest.approx(0.01, abs=0.003)


@STEPS
@pytest.mark.parametrize("variant", ["both", "min", "an"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("hard", [False, True])
def test_the_step_is_what_autograd_and_adam_do(kind, variant, squared, half, hard):
    """Three steps, the last on fewer rows than a batch has, against the plain way with the same dropout."""
    X, lists = torch.from_numpy(data(90)), torch.from_numpy(lists_of(90))
    X = X.bfloat16() if half else X
    loss = TripletLoss(variant, squared, 0.5)
    encoders = [Encoder(12, 2, (16, 12, 8), generator=generator(), in_bfloat16=half) for _ in range(2)]
    adam = torch.optim.Adam(encoders[1].parameters(), lr=1e-3, eps=1e-7)
    step = step_of(kind, encoders[0], X, 40, loss)
    draws = generator(3)
    for count in (40, 40, 10):
        rows = torch.randint(90, (3, count), generator=draws)
        rows[1, 0] = rows[0, 0]  # a positive that is its own anchor, as the package has them
        drawn = step.draw(count)
        points = encoders[1](X[rows.reshape(-1)], step.dropped(drawn)).view(3, count, 2)
        pick = (lambda p, rows=rows: hardest(p, rows, lists)) if hard else None
        used = torch.stack([*points[:2], points[2][pick(points.detach())]]) if pick else points
        expected = loss(used)
        adam.zero_grad()
        expected.backward()
        total = step(rows, drawn, pick)
        assert float(total) == pytest.approx(count * float(expected.detach()), rel=2e-2 if half else 1e-5)
        mine = [*step.weight_grads, *step.bias_grads]
        for found, parameter in zip(mine, encoders[1].parameters(), strict=True):
            if half:  # sums of rounded terms: what is small beside the largest is noise
                close = {"rtol": 3e-2, "atol": 3e-2 * float(parameter.grad.abs().max()) + 1e-6}
            else:
                close = {"rtol": 1e-4, "atol": 1e-5}
            torch.testing.assert_close(found.float(), parameter.grad, **close)
            # Adam moves a weight whose gradient is nothing but rounding as far as any other.
            parameter.grad.copy_(found)
        adam.step()
        for found, plain in zip(encoders[0].parameters(), encoders[1].parameters(), strict=True):
            torch.testing.assert_close(found.detach(), plain.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_a_dropped_unit_has_no_gradient(half):
    X = torch.from_numpy(data(30))
    encoder = Encoder(12, 2, (16, 12, 8), generator=generator(), in_bfloat16=half)
    step = step_of(Step, encoder, X.bfloat16() if half else X, 10)
    draws = step.draw(10)
    draws[0][:, 3] = -(2**15)
    step(torch.arange(30).view(3, 10), draws)
    assert (step.weight_grads[0][3] == 0).all()
    assert (step.weight_grads[0][4] != 0).any()


def test_the_compiled_step_has_the_constants_of_the_plain_one():
    from kdbench_reducers import _ivis_kernels, _ivis_loss, _ivis_network, _ivis_step

    homes = {"DROPOUT": _ivis_network, "SELU_SCALE": _ivis_network, "SELU_ALPHA": _ivis_network,
             "DISTANCE_EPSILON": _ivis_loss, "SHORTS": _ivis_step}  # fmt: skip
    for name, home in homes.items():
        assert getattr(_ivis_kernels, f"_{name}") == getattr(home, name)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("model", list(WIDTHS))
def test_the_compiled_step_is_the_plain_one_at_full_size(model, half):
    """A step of Adam from equal weights and draws, units as many as they really are."""
    X = torch.from_numpy(data(300, 700))
    X = X.bfloat16() if half else X
    encoders = [Encoder(700, 3, WIDTHS[model], generator=generator(), in_bfloat16=half) for _ in range(2)]
    plain, compiled = (step_of(kind, e, X, 100) for kind, e in zip((Step, CpuStep), encoders, strict=True))
    draws = compiled.draw(100)
    as_bits = [torch.where(d, -(2**15), 0) for d in compiled.dropped(draws)]
    rows = torch.arange(300).view(3, 100)
    totals = [float(plain(rows, as_bits)), float(compiled(rows, draws))]
    assert totals[1] == pytest.approx(totals[0], rel=5e-3 if half else 1e-6)
    for a, b in zip(plain.weight_grads, compiled.weight_grads, strict=True):
        off = float((a - b).norm() / a.norm())
        assert off < (0.05 if half else 1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_the_compiled_activation_is_selu_in_float64(half):
    from kdbench_reducers._ivis_kernels import activate, pull_back

    z = np.concatenate([np.linspace(-100, 20, 4_000), [-0.0, 0.0, -1e-30, 1e-30, 3e38, -3e38, -np.inf]])
    product = torch.from_numpy(z.astype(np.float32)).repeat(2, 1)
    product = product.bfloat16() if half else product
    z = product.double().numpy()
    slope, out = (t.view(torch.int16).numpy() if half else t.numpy() for t in (product, product.clone()))
    activate(slope, np.zeros(z.shape[1], np.float32), out)
    low = 1.0507009873554805 * 1.6732632423543772
    expected = np.where(z > 0, 1.0507009873554805 * z, low * np.expm1(np.minimum(z, 0)))
    steep = np.where(z > 0, 1.0507009873554805, low * np.exp(np.minimum(z, 0)))
    for found, known in ((out, expected), (slope, steep)):
        found = torch.from_numpy(found)
        found = found.view(torch.bfloat16).double().numpy() if half else found.double().numpy()
        np.testing.assert_allclose(found, known, rtol=2**-8 if half else 3e-7, atol=2e-7)
    gradient, bias, pulled = np.full(z.shape, 2, np.float32), np.empty(z.shape[1], np.float32), out.copy()
    pull_back(gradient, slope, bias, pulled)
    np.testing.assert_allclose(bias, 2 * 2 * steep[0], rtol=2**-8, atol=1e-6)
    if half:  # rounded as PyTorch rounds
        x = torch.from_numpy(data(50, 64)) * torch.logspace(-30, 30, 64)
        activated = torch.empty(50, 64)
        rounded = torch.empty(50, 64, dtype=torch.bfloat16)
        activate(x.clone().numpy(), np.zeros(64, np.float32), activated.numpy())
        activate(x.clone().numpy(), np.zeros(64, np.float32), rounded.view(torch.int16).numpy())
        assert torch.equal(activated.bfloat16(), rounded)


def test_the_random_bits_are_splitmix64_s():
    from kdbench_reducers._ivis_kernels import fill_with_bits

    state, rows, units = 1_234_567, 3, 6  # two numbers a row, of which the second gives two units bits
    found = np.empty((rows, units), np.int16)
    fill_with_bits(np.uint64(state), found)
    expected = []
    for _ in range(2 * rows):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        expected.append(z ^ z >> 31)
    shorts = np.array(expected, np.uint64).view(np.int16).reshape(rows, 8)
    assert (found == shorts[:, :units]).all()
    assert expected[:2] == [6457827717110365317, 3203168211198807973]  # as published for this seed


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("half", [False, True])
@STEPS
def test_what_is_not_finite_is_seen_in_the_loss(kind, half, bad):
    encoder = Encoder(12, 2, (16, 12, 8), generator=generator(), in_bfloat16=half)
    with torch.no_grad():
        encoder.weights[1][3, 4] = bad
    X = torch.from_numpy(data(30))
    step = step_of(kind, encoder, X.bfloat16() if half else X, 10)
    assert not np.isfinite(float(step(torch.arange(30).view(3, 10), step.draw(10))))


# --- scaling


def test_scalings_do_what_they_say():
    X = data() * 5 + 3
    X[:, 4] = 7
    minmax = fit_scaling(X, "minmax")(X)
    assert minmax.min() == 0
    assert minmax.max() == pytest.approx(1)
    assert (minmax[:, 4] == 0).all()
    unit = fit_scaling(X, "unit-std")(X)
    assert unit.std(axis=0).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(unit / X, unit[0, 0] / X[0, 0], rtol=1e-5)
    assert np.array_equal(fit_scaling(X, "none")(X), X)
    found = fit_scaling(X, "minmax").tensor(X, torch.bfloat16)
    assert torch.equal(found, torch.from_numpy(minmax).bfloat16())
    assert np.isfinite(fit_scaling(np.ones((4, 2), np.float32), "unit-std")(X[:, :2])).all()


# --- the reducer


def short(**params) -> IvisTorch:
    return IvisTorch(**{"k": 10, "epochs": 3, "random_state": 0, "device": "cpu", **params})


@pytest.mark.parametrize(
    ("params", "variant", "squared"),
    [
        ({}, "both", False),
        ({"compat": "1.8.4"}, "min", False),
        ({"compat": "paper"}, "an", True),
        ({"distance": "euclidean"}, "an", False),
        ({"compat": "paper", "squared": False}, "an", False),
        ({"compat": "paper", "loss_variant": "both"}, "both", True),
        ({"compat": "1.8.4", "loss_variant": "both", "squared": True}, "both", True),
    ],
)
def test_presets_resolve_and_what_is_given_wins(params, variant, squared):
    assert short(**params).loss == TripletLoss(variant, squared, 1.0)


def test_k_counts_the_row_itself_where_the_package_does():
    assert short(compat="2.0.11").neighbours_wanted(200) == (9, "angular")
    assert short(compat="1.8.4").neighbours_wanted(200) == (10, "angular")
    assert short(compat="paper", metric="euclidean").neighbours_wanted(200) == (10, "euclidean")


def test_every_option_changes_the_fit():
    X = data(300)
    plain = short().fit_transform(X)
    options = [
        {"compat": "1.8.4"},
        {"compat": "paper"},
        {"sampling": "per_row"},
        {"negative": "hard"},
        {"loss_variant": "min"},
        {"squared": True},
        {"margin": 2.0},
        {"model": "maaten"},
        {"metric": "euclidean"},
        {"scaling": "unit-std"},
        {"precision": "bfloat16"},
        {"learning_rate": 3e-3},
        {"batch_size": 50},
        {"k": 11},
    ]
    for option in options:
        other = short(**option).fit_transform(X)
        assert np.isfinite(other).all(), option
        assert not np.array_equal(plain, other), option
    assert short(embedding_dims=5).fit_transform(X).shape == (300, 5)


def test_it_stops_when_the_loss_has_had_no_new_minimum_and_keeps_the_last_weights():
    fitted = short(epochs=500, n_epochs_without_progress=4).fit(data(150, 4))
    history = fitted.loss_history_
    assert len(history) < 500
    assert int(np.argmin(history)) == len(history) - 1 - 4
    since = [i - int(np.argmin(history[: i + 1])) for i in range(len(history) - 1)]
    assert max(since) < 4  # nowhere before had it waited so long


def test_the_training_loss_falls_and_diagnostics_describe_it():
    X = np.repeat(10 * data(10, 8, seed=2), 30, axis=0) + data(300, 8)
    fitted = short(epochs=40, n_epochs_without_progress=40)
    points = fitted.fit_transform(X)
    history = fitted.loss_history_
    assert history[-1] < 0.6 * history[0]
    found = fitted.diagnostics_
    assert found["loss_last"] == history[-1]
    assert found["loss_min"] == min(history)
    assert found["loss_tail"] == pytest.approx(np.mean(history[-20:]))
    assert (found["n_epochs"], found["n"], found["k"]) == (len(history), 300, 10)
    lists = neighbour_lists(exact_neighbours(X, 9, "angular"), True)
    a, p, n = points.astype(np.float64)[fixed_triplets(lists)]
    ap, an, pn = (np.sqrt(np.maximum(((x - y) ** 2).sum(1), 1e-7)) for x, y in ((a, p), (a, n), (p, n)))
    expected = (np.maximum(ap - an + 1, 0).mean() + np.maximum(ap - pn + 1, 0).mean()) / 2
    assert found["loss_eval"] == pytest.approx(expected, rel=1e-9)


def test_points_that_are_all_alike_have_the_margin_as_their_loss():
    found = fit_diagnostics(np.zeros((200, 2)), lists_of(), [2.0, 1.0, 1.5], TripletLoss(margin=0.7), 11)
    assert found["loss_eval"] == pytest.approx(0.7)
    assert (found["loss_last"], found["loss_min"], found["loss_tail"]) == (1.5, 1.0, 1.5)


def test_one_batch_trained_by_hand_is_one_epoch():
    """Adam's first step moves each weight by the learning rate against its gradient's sign."""
    X, lists = torch.from_numpy(data(60)), torch.from_numpy(lists_of(60))
    encoder = Encoder(12, 2, (16, 16, 16), generator=generator())
    before = [w.detach().clone() for w in encoder.weights]
    recipe = _ivis_train.Recipe(TripletLoss(), 60, 1, 5, 1e-3, "per_row", False)
    history = _ivis_train.train(encoder, X, lists, recipe, triplets=generator(1), dropout=2)
    again = Encoder(12, 2, (16, 16, 16), generator=generator())
    sampler = TripletSampler(lists, batch_size=60, sampling="per_row", generator=generator(1))
    step = step_of(CpuStep, Encoder(12, 2, (16, 16, 16), generator=None), X, 60, seed=2)
    dropped = step.dropped(step.draw(60))
    loss = TripletLoss()(again(X[sampler.epoch().reshape(-1)], dropped).view(3, 60, 2))
    loss.backward()
    assert history == [pytest.approx(loss.item(), rel=1e-6)]
    for old, new, weight in zip(before, encoder.weights, again.weights, strict=True):
        moved = weight.grad.abs() > 1e-4
        torch.testing.assert_close((new - old)[moved], -1e-3 * weight.grad.sign()[moved], rtol=0.1, atol=1e-6)


def test_a_loss_that_is_not_finite_is_an_error_that_says_what_to_try():
    with pytest.raises(KdbenchError, match=r"(?s)loss of epoch .*learning_rate"):
        short(scaling="none", learning_rate=1e30, epochs=5).fit_transform(data() * 1e15)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused_and_auto_is_the_cpu():
    with pytest.raises(UsageError, match="cuda"):
        short(device="cuda").fit_transform(data())
    assert short(device="auto").resolved_device() == "cpu"
