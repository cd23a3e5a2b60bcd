"""Over which images batch normalisation takes its statistics, and what it remembers of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdbench_semisup import passes


def network(n_classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(5, n_classes),
        )  # fmt: skip


def parts(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 3, 6, 6, generator=generator) * (i + 1) + i for i, n in enumerate(sizes)]


def normalised(model, images):
    """Logits with the statistics of `images` themselves, written out."""
    x = model[0](images)
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    x = (x - mean) / (var + model[1].eps).sqrt()
    x = x * model[1].weight[:, None, None] + model[1].bias[:, None, None]
    return model[2:](x)


def remembered(model, images):
    """Running mean after one batch, from nought."""
    return 0.1 * model[0](images).mean((0, 2, 3))


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_labelled_images_alone_are_remembered():
    model, (x, u, s) = network(), parts(4, 8, 8)
    got = passes.logits(model, (x, u, s), "labelled")
    close(got[0], normalised(model, x))
    close(torch.cat(got[1:]), normalised(model, torch.cat([u, s])))
    close(model[1].running_mean, remembered(model, x))
    assert int(model[1].num_batches_tracked) == 1


def test_jointly_all_are():
    model, (x, u) = network(), parts(4, 8)
    together = torch.cat([x, u])
    got = passes.logits(model, (x, u), "joint")
    close(torch.cat(got), normalised(model, together))
    close(model[1].running_mean, remembered(model, together))


@pytest.mark.parametrize("sizes", [(4, 8, 8), (4, 3, 3), (4, 1)])
def test_interleaved_every_pass_holds_some_of_each_and_the_first_is_remembered(sizes):
    model, images = network(), parts(*sizes)
    together = torch.cat(images)
    n = len(together) // 4
    got = torch.cat(passes.logits(model, images, "interleaved"))
    for i in range(n):
        close(got[i::n], normalised(model, together[i::n]))
    close(model[1].running_mean, remembered(model, together[::n]))
    assert int(model[1].num_batches_tracked) == 1


@pytest.mark.parametrize("training", [True, False])
def test_targets_leave_no_trace(training):
    model, (u, v) = network().train(training), parts(8, 6)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    first, second = passes.targets(model, u, v)
    close(first, normalised(model, u))
    close(second, normalised(model, v))
    assert not first.requires_grad
    assert model.training is training
    assert all(torch.equal(before[k], t) for k, t in model.state_dict().items())
    assert model[1].track_running_stats
    with pytest.raises(RuntimeError):
        passes.targets(model, torch.zeros(1, 2, 6, 6))
    assert model[1].track_running_stats


def test_targets_in_reduced_precision_leave_the_weights_their_gradients():
    """Autocast keeps the weights it has converted, and those from a pass without gradients have none."""
    model, (u, v) = network(), parts(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        (target,) = passes.targets(model, u)
        x, y = passes.logits(model, (v, u), "labelled")
    ((y.softmax(1) - target.roll(1, 1).softmax(1)) ** 2).sum().backward()
    assert x.dtype == target.dtype == torch.float32
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (model[0].weight, model[5].weight))
