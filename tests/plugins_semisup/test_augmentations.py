"""RandAugment's ranges, CTAugment's learning, and that every image gets operations of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdbench_semisup.ctaugment import OPERATIONS as LEARNT
from kdbench_semisup.ctaugment import CTAugment, Policy
from kdbench_semisup.operations import GREY, KIND, KINDS
from kdbench_semisup.randaugment import OPERATIONS, RandAugment

DRAWS = 100_000


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def drawn(style, n=DRAWS):
    kinds, values = RandAugment(style=style).draw(n, 32, 32)
    return {name: values[kinds == KIND[name], 0].numpy() for name in OPERATIONS}


def test_the_papers_operations_are_drawn_evenly_from_their_ranges():
    """FixMatch, table 12, on images of 32x32 pixels."""
    ranges = {
        "brightness": (0.05, 0.95), "color": (0.05, 0.95), "contrast": (0.05, 0.95), "sharpness": (0.05, 0.95),
        "rotate": (-30, 30), "shear-x": (-0.3, 0.3), "shear-y": (-0.3, 0.3), "solarize": (0, 256),
        "translate-x": (-9.6, 9.6), "translate-y": (-9.6, 9.6),
    }  # fmt: skip
    values = drawn("paper")
    assert len(values) == 14
    for name, of_one in values.items():
        assert len(of_one) / DRAWS == pytest.approx(1 / 14, rel=0.1), name
        if name in ranges:
            low, high = ranges[name]
            quarters = np.quantile((of_one - low) / (high - low), [0, 0.25, 0.5, 0.75, 1])
            np.testing.assert_allclose(quarters, [0, 0.25, 0.5, 0.75, 1], atol=0.03)
    assert np.bincount(values["posterize"].astype(int), minlength=9)[4:] == pytest.approx(
        [DRAWS / 70] * 5, rel=0.15
    )
    assert set(values["autocontrast"]) == set(values["equalize"]) == {1.0}


def test_the_codes_operations_take_place_every_second_time_at_nine_levels():
    values = drawn("code")
    assert len(values.pop("identity")) / DRAWS == pytest.approx(1 / 14 + 13 / 28, rel=0.05)
    assert set(values["posterize"]) == {1, 2, 3, 4}
    assert set(values["rotate"]) == {s * 3 * level for level in range(1, 10) for s in (1, -1)}
    assert set(values["translate-x"]) == {s * level for level in range(1, 10) for s in (1, -1)}
    np.testing.assert_allclose(sorted(set(values["color"])), [0.1 + 0.18 * v for v in range(1, 10)])
    np.testing.assert_allclose(sorted(set(np.abs(values["shear-y"]).round(6)))[-1], 0.27)
    assert sorted(set(values["solarize"]))[0] == 256 - 230
    for name, of_one in values.items():
        assert len(of_one) / DRAWS == pytest.approx(1 / 28, rel=0.15), name


def grey_square(style, **more):
    """Sizes of the grey patch on black images, which no operation brightens to grey at 0 operations."""
    images = torch.zeros(400, 3, 32, 32, dtype=torch.uint8)
    got = RandAugment(style=style, operations=0, **more)(images)
    assert set(got.unique().tolist()) <= {0, GREY}
    return (got[:, 0] == GREY).sum((1, 2))


def test_the_cutout_is_half_a_side_unless_it_is_cut_off():
    areas = grey_square("paper")
    assert areas.max() == 256
    # it stands over where its centre is less than 8 pixels from the border: 17 of 32 positions are free
    assert (areas == 256).float().mean().item() == pytest.approx((17 / 32) ** 2, abs=0.08)
    assert areas.min() >= 64
    assert grey_square("paper", cutout=0.25).max() == 64
    assert grey_square("paper", cutout=0.0).max() == 0
    assert len(grey_square("torchssl").unique()) > 30


@pytest.mark.parametrize("style", ["paper", "code", "torchssl"])
def test_each_image_of_a_batch_is_augmented_on_its_own_and_the_seed_decides(style):
    one = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    images = one.expand(64, -1, -1, -1)
    augment = RandAugment(style=style)
    torch.manual_seed(3)
    first, second = augment(images), augment(images)
    torch.manual_seed(3)
    assert torch.equal(first, augment(images))
    assert not torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=0)) == 64
    assert first.dtype == torch.uint8
    assert first.shape == images.shape
    assert torch.equal(images[0], one[0])


# -- CTAugment


def test_the_operations_of_table_13():
    assert set(LEARNT) == set(KINDS)
    bins = {name: tuple(b for b in bins if b) for name, (bins, _) in LEARNT.items()}
    assert bins.pop("identity") == ()
    assert bins.pop("posterize") == (8,)
    assert bins.pop("rescale") == (17, 6)
    assert set(bins.values()) == {(17,)}


def in_a_loop(rates, policy, proximity, decay):
    """The published update: image by image, operation by operation, parameter by parameter."""
    rates = rates.copy()
    bins = [b for b, _ in LEARNT.values()]
    for image in range(policy.operations.shape[1]):
        for depth in range(policy.operations.shape[0]):
            k = int(policy.operations[depth, image])
            for parameter in range(2):
                if n := bins[k][parameter]:
                    bin_ = int(float(policy.levels[depth, image, parameter]) * n * 0.999)
                    old = rates[k, parameter, bin_]
                    rates[k, parameter, bin_] = old * decay + proximity[image] * (1 - decay)
    return rates


def test_the_update_is_the_published_loop():
    cta = CTAugment(depth=3, decay=0.9)
    rates = cta.rates.double().numpy()
    for _ in range(4):
        policy = cta.probe(200)  # several probes of one bin, so that their order counts
        proximity = torch.rand(200)
        rates = in_a_loop(rates, policy, proximity.tolist(), 0.9)
        cta.update(policy, proximity)
    np.testing.assert_allclose(cta.rates.numpy(), rates, atol=2e-6)
    assert (cta.rates[..., 0] < 1).any()


def test_an_operation_that_does_harm_is_no_longer_drawn_that_far():
    cta = CTAugment()
    place = list(LEARNT).index("rotate")
    for _ in range(300):
        policy = cta.probe(32)
        policy.operations[:] = place
        far = (policy.levels[0, :, 0] - 0.5).abs() > 0.25
        cta.update(policy, torch.where(far, 0.2, 1.0))
    drawn = Policy(torch.full((2, 500), place), cta.policy(500).levels)
    assert cta.chances()[place, 0].gt(0).sum() < 11
    levels = []
    for _ in range(20):
        policy = cta.policy(500)
        levels += policy.levels[policy.operations == place][:, 0].tolist()
    assert len(levels) > 500
    assert max(abs(level - 0.5) for level in levels) < 0.3
    other = list(LEARNT).index("color")
    assert cta.chances()[other, 0].eq(1).all()
    assert drawn.levels.shape == (2, 500, 2)


def test_levels_are_spread_evenly_over_the_bins_that_are_drawn():
    cta = CTAugment()
    place = list(LEARNT).index("solarize")
    cta.rates[place, 0, 5:] = 0.1
    levels = []
    for _ in range(40):
        policy = cta.policy(1000)
        levels += policy.levels[policy.operations == place][:, 0].tolist()
    quarters = np.quantile(np.array(levels) * 17 / 5, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quarters, [0, 0.25, 0.5, 0.75, 1], atol=0.03)


def test_its_values_are_the_published_ones():
    """The functions of the published code at a few levels, on images of 32x32 pixels."""
    cta = {variant: CTAugment(variant=variant) for variant in ("paper", "code")}
    level = torch.tensor([[0.0, 0.0], [0.31, 0.5], [0.999, 0.999]], dtype=torch.float64)

    def value(name, variant="code", column=0):
        operations = torch.full((3,), list(LEARNT).index(name))
        return cta[variant]._values(operations, level, 32, 32)[:, column].tolist()

    assert value("posterize") == [1, 1 + int(0.31 * 7.999), 8]
    assert value("solarize") == [0, int(0.31 * 255.999), 255]
    assert value("rotate") == [-45, round(-0.38 * 45), 45]
    assert value("color") == pytest.approx([0.1, 0.1 + 1.9 * 0.31, 0.1 + 1.9 * 0.999])
    assert value("shear-x") == pytest.approx([-0.3, -0.114, 0.2994])
    assert value("translate-y") == pytest.approx([-0.3, -0.114, 0.2994])
    assert value("translate-y", "paper") == pytest.approx([-9.6, -3.648, 9.5808])
    assert value("cutout") == [(1 + int(v * 32 * 0.499)) // 2 for v in (0, 0.31, 0.999)]
    assert value("rescale") == pytest.approx([0, 0.0775, 0.24975])
    assert value("rescale", column=1) == [0, int(0.5 * 5.99), 5]
    assert value("blur") == pytest.approx([0, 0.31, 0.999])


def test_it_augments_and_its_weights_are_all_that_is_saved():
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    cta = CTAugment()
    got = cta(images)
    assert got.dtype == torch.uint8
    assert ((got == GREY).all(1).sum((1, 2)) >= 64).all()  # the cutout
    assert (got != images).flatten(1).any(1).all()
    cta.update(cta.probe(8), torch.rand(8))
    assert list(cta.state_dict()) == ["rates"]
    other = CTAugment()
    other.load_state_dict(cta.state_dict())
    assert torch.equal(other.chances(), cta.chances())
