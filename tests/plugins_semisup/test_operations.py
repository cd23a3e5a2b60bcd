"""Operations on a batch against Pillow, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from kdbench_semisup.operations import GREY, KIND, KINDS, RESCALE_FILTERS, apply


def pictures(n=24, size=(32, 32), channels=3, seed=0):
    """Smooth colour gradients with noise, some of little contrast, and some extreme ones: (n, c, h, w)."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width] / max(size)
    waves = rng.uniform(-6, 6, (n, channels, 4, 1, 1))
    smooth = np.sin(waves[:, :, 0] * x + waves[:, :, 1] * y + waves[:, :, 2])
    images = 128 + rng.uniform(5, 160, (n, 1, 1, 1)) * smooth + rng.normal(0, 6, (n, channels, height, width))
    images = images.clip(0, 255).astype(np.uint8)
    images[0], images[1] = 0, 255
    images[2] = rng.integers(0, 256, images[2].shape)
    images[3, :, :2] = 7  # a flat image but for a line
    images[3, :, 2:] = 9
    return torch.from_numpy(images)


def pillow(image):
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def back(picture):
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def blended(function):
    return lambda im, v: Image.blend(im, function(im), v[0])


def affine(make):
    return lambda im, v: im.transform(im.size, Image.Transform.AFFINE, make(v[0]))


PILLOW = {
    "identity": lambda im, v: im,
    "autocontrast": blended(ImageOps.autocontrast),
    "equalize": blended(ImageOps.equalize),
    "invert": blended(ImageOps.invert),
    "brightness": lambda im, v: ImageEnhance.Brightness(im).enhance(v[0]),
    "contrast": lambda im, v: ImageEnhance.Contrast(im).enhance(v[0]),
    "color": lambda im, v: ImageEnhance.Color(im).enhance(v[0]),
    "sharpness": lambda im, v: ImageEnhance.Sharpness(im).enhance(v[0]),
    "posterize": lambda im, v: ImageOps.posterize(im, int(v[0])),
    "solarize": lambda im, v: ImageOps.solarize(im, int(v[0])),
    "smooth": blended(lambda im: im.filter(ImageFilter.SMOOTH)),
    "blur": blended(lambda im: im.filter(ImageFilter.BLUR)),
    "rotate": lambda im, v: im.rotate(v[0]),
    "shear-x": affine(lambda v: (1, v, 0, 0, 1, 0)),
    "shear-y": affine(lambda v: (1, 0, 0, v, 1, 0)),
    "translate-x": affine(lambda v: (1, 0, v, 0, 1, 0)),
    "translate-y": affine(lambda v: (1, 0, 0, 0, 1, v)),
}
RANGES = {
    "brightness": (0, 2), "contrast": (0, 2), "color": (0, 2), "sharpness": (0, 2), "posterize": (1, 9),
    "solarize": (0, 257), "rotate": (-46, 46), "shear-x": (-0.4, 0.4), "shear-y": (-0.4, 0.4),
    "translate-x": (-11, 11), "translate-y": (-11, 11),
}  # fmt: skip


def values_for(name, n, seed=1):
    rng = np.random.default_rng(seed)
    values = torch.zeros(n, 3, dtype=torch.float64)
    values[:, 0] = torch.from_numpy(rng.uniform(*RANGES.get(name, (0, 1)), n))
    if name in ("posterize", "solarize"):
        values[:, 0].floor_()
    elif name not in ("rotate", "shear-x", "shear-y", "translate-x", "translate-y"):
        values[:2, 0] = torch.tensor([0.0, 1.0])[:n]
    return values


@pytest.mark.parametrize("size", [(32, 32), (28, 40)])
@pytest.mark.parametrize("name", PILLOW)
def test_agrees_with_pillow_bit_for_bit(name, size):
    images = pictures(size=size)
    values = values_for(name, len(images))
    got = apply(images, torch.full((len(images),), KIND[name]), values)
    for image, v, result in zip(images, values.tolist(), got.numpy(), strict=True):
        np.testing.assert_array_equal(result, back(PILLOW[name](pillow(image), v)), err_msg=f"{name} {v}")


@pytest.mark.parametrize("name", [k for k in PILLOW if k != "color"])
def test_agrees_with_pillow_on_grey_images(name):
    images = pictures(8, channels=1)
    values = values_for(name, 8)
    got = apply(images, torch.full((8,), KIND[name]), values)
    for image, v, result in zip(images, values.tolist(), got.numpy(), strict=True):
        np.testing.assert_array_equal(result, back(PILLOW[name](pillow(image), v)))


@pytest.mark.parametrize("method", RESCALE_FILTERS)
def test_rescaling_agrees_with_pillow_to_a_grey_level(method):
    images = pictures(20)
    shares = np.linspace(0, 0.25, 20)
    values = torch.zeros(20, 3, dtype=torch.float64)
    values[:, 0] = torch.from_numpy(shares)
    values[:, 1] = RESCALE_FILTERS.index(method)
    got = apply(images, torch.full((20,), KIND["rescale"]), values).numpy().astype(int)
    filter_ = Image.Resampling[method.upper()]
    for image, share, result in zip(images, shares, got, strict=True):
        box = (share * 32, share * 32, 32 * (1 - share), 32 * (1 - share))
        difference = np.abs(result - back(pillow(image).crop(box).resize((32, 32), filter_)).astype(int))
        assert difference.max() <= 1
        assert (difference == 0).mean() > 0.999  # Pillow's weights have 22 bits: ties may fall the other way


def test_a_cutout_is_a_grey_square_cut_off_at_the_border():
    values = torch.tensor([[8.0, 16, 10], [8, 0, 31], [0, 5, 5]], dtype=torch.float64)
    images = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    got = apply(images, torch.full((3,), KIND["cutout"]), values)
    expected = torch.zeros_like(images)
    expected[0, :, 8:24, 2:18] = GREY
    expected[1, :, :8, 23:] = GREY
    assert torch.equal(got, expected)


def test_a_batch_with_every_operation_is_each_image_alone():
    n = 3 * len(KINDS)
    images = pictures(n)
    kinds = torch.arange(len(KINDS)).repeat(3)[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    values = torch.cat([values_for(KINDS[k], 1, seed=i) for i, k in enumerate(kinds.tolist())])
    values[:, 0] = torch.where(kinds == KIND["rescale"], 0.2, values[:, 0])
    before = images.clone()
    together = apply(images, kinds, values)
    assert torch.equal(images, before)
    for i in range(n):
        assert torch.equal(together[i], apply(images[i : i + 1], kinds[i : i + 1], values[i : i + 1])[0])


def test_what_shifting_leaves_empty_is_filled():
    images = torch.full((2, 3, 8, 8), 200, dtype=torch.uint8)
    values = torch.tensor([[3.0, 0, 0]] * 2, dtype=torch.float64)
    got = apply(images, torch.tensor([KIND["translate-x"], KIND["translate-y"]]), values, fill=50)
    expected = torch.full_like(images, 200)
    expected[0, :, :, 5:] = 50
    expected[1, :, 5:] = 50
    assert torch.equal(got, expected)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 8, 8)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="uint8"):
        apply(torch.zeros(shape, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="float32"):
        apply(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3))
