"""Strong augmentation of FixMatch's 448 unlabelled images beside the step of WRN-28-1 that it feeds.

The step is a forward and backward pass over 64 labelled and twice 448 unlabelled images, in float32. Compare the
rows of one run with each other: on a shared machine absolute times mean little. `pillow` is the same work image
by image, as it is mostly done.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdbench_semisup.ctaugment import CTAugment
from kdbench_semisup.operations import KIND
from kdbench_semisup.randaugment import OPERATIONS, RandAugment

LABELLED, UNLABELLED = 64, 448
DEVICES = ["cpu", "cuda"]


def _images(n: int = UNLABELLED) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)


def _pillow():
    """Two operations with the paper's ranges and a cutout, image by image."""
    from PIL import Image, ImageDraw, ImageEnhance, ImageOps

    def affine(*matrix):
        return lambda im, v: im.transform(
            im.size, Image.Transform.AFFINE, [v if m is None else m for m in matrix]
        )

    functions = {
        "identity": lambda im, v: im,
        "autocontrast": lambda im, v: ImageOps.autocontrast(im),
        "equalize": lambda im, v: ImageOps.equalize(im),
        "brightness": lambda im, v: ImageEnhance.Brightness(im).enhance(v),
        "color": lambda im, v: ImageEnhance.Color(im).enhance(v),
        "contrast": lambda im, v: ImageEnhance.Contrast(im).enhance(v),
        "sharpness": lambda im, v: ImageEnhance.Sharpness(im).enhance(v),
        "posterize": lambda im, v: ImageOps.posterize(im, int(v)),
        "solarize": lambda im, v: ImageOps.solarize(im, int(v)),
        "rotate": lambda im, v: im.rotate(v),
        "shear-x": affine(1, None, 0, 0, 1, 0),
        "shear-y": affine(1, 0, 0, None, 1, 0),
        "translate-x": affine(1, 0, None, 0, 1, 0),
        "translate-y": affine(1, 0, 0, 0, 1, None),
    }
    by_kind = {KIND[name]: functions[name] for name in OPERATIONS}
    arrays = _images().permute(0, 2, 3, 1).contiguous().numpy()
    draw = RandAugment().draw
    rng = np.random.default_rng(0)

    def call() -> torch.Tensor:
        drawn = [draw(UNLABELLED, 32, 32) for _ in range(2)]
        chosen = [(kinds.tolist(), values[:, 0].tolist()) for kinds, values in drawn]
        result = []
        for i, array in enumerate(arrays):
            image = Image.fromarray(array)
            for kinds, values in chosen:
                image = by_kind[kinds[i]](image, values[i])
            y, x = rng.integers(0, 32, 2)
            ImageDraw.Draw(image).rectangle((x - 8, y - 8, x + 7, y + 7), fill=(127, 127, 127))
            result.append(torch.from_numpy(np.array(image)))
        return torch.stack(result).permute(0, 3, 1, 2)

    return call


def _step(device: str):
    from kdbench_networks.wide_resnet import WideResNet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WideResNet(depth=28, width=1).build(100, (32, 32, 3))
    model = model.to(device, memory_format=torch.channels_last)
    images = _images(LABELLED + 2 * UNLABELLED).to(device).float() / 255
    images = images.contiguous(memory_format=torch.channels_last)

    def call() -> None:
        model.zero_grad(set_to_none=True)
        model(images).sum().backward()

    return call


def _work(what: str, device: str):
    if what == "step":
        return _step(device)
    if what == "pillow":
        return _pillow()
    augment = CTAugment().to(device) if what == "ctaugment" else RandAugment(style=what.split("-")[1])
    images = _images().to(device)
    return lambda: augment(images)


@pytest.mark.benchmark(group=f"strong augmentation of {UNLABELLED} images and the step that it feeds")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("what", ["randaugment-paper", "randaugment-code", "ctaugment", "pillow", "step"])
def test_augmentation(benchmark, what: str, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if device == "cuda" and what == "pillow":
        pytest.skip("Pillow works on the CPU")
    call = _work(what, device)

    def timed() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(timed, rounds=2 if what == "step" else 15, warmup_rounds=1 if what == "step" else 3)
    benchmark.extra_info["images_per_second"] = round(UNLABELLED / benchmark.stats["median"])
