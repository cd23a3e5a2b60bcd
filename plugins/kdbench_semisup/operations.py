"""Image operations on a batch, one per image, with the results of Pillow.

Images are sorted by operation, so that each family of operations works on one slice of the batch: tables (maps of
single pixel values), colour, filters, geometry, rescaling, cutout. The operations are chosen on the CPU, so nothing
waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from kdbench.api import moved

#: The operations, grouped by family, and their `values` (n, 3).
#: autocontrast, equalize, invert, smooth, blur: the fraction of the result that is blended into the image, 0..1;
#: brightness, contrast, color, sharpness: Pillow's factor, >= 0, 1 for no change; posterize: bits that are
#: kept, 0..8; solarize: the lowest value that is inverted, 0..256; rotate: degrees, counter-clockwise; shear:
#: a coefficient; translate: pixels, to the left or up; rescale: the fraction cut off at each side, 0..0.5, and the
#: number of the filter in RESCALE_FILTERS; cutout: half a side in pixels, row and column of the centre.
KINDS = (
    "identity",
    "autocontrast", "equalize", "invert", "brightness", "contrast", "posterize", "solarize",
    "color",
    "sharpness", "smooth", "blur",
    "rotate", "shear-x", "shear-y", "translate-x", "translate-y",
    "rescale",
    "cutout",
)  # fmt: skip
KIND = {name: number for number, name in enumerate(KINDS)}
RESCALE_FILTERS = ("lanczos", "bicubic", "bilinear", "box", "hamming", "nearest")
#: Mid-grey, the colour of a cutout.
GREY = 127


def apply(images: torch.Tensor, kinds: torch.Tensor, values: torch.Tensor, *, fill: int = 0) -> torch.Tensor:
    """Apply one operation to each image.

    Parameters
    ----------
    images
        uint8 (n, c, h, w), c = 1 or 3, on any device; not modified.
    kinds
        Indices into KINDS, int64 (n,), on the CPU.
    values
        Parameters of the operations, float64 (n, 3), on any device.
    fill
        Value of empty areas of shifted, sheared or rotated images, 0..255.

    Returns
    -------
    Tensor
        uint8 (n, c, h, w).

    Raises
    ------
    ValueError
        Images have another dtype or number of channels.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images {images.dtype} {tuple(images.shape)}: strong augmentation takes uint8 (n, 1 or 3, h, w)"
        )
    order = torch.argsort(kinds, stable=True)
    counts = torch.bincount(kinds, minlength=len(KINDS)).tolist()
    ends = torch.tensor([0, *counts]).cumsum(0).tolist()
    device_order = moved(order, images.device)
    work = images[device_order].contiguous()
    values = moved(values, images.device)[device_order]

    def run(first: str, last: str, function: Callable[..., torch.Tensor], *more: object) -> None:
        start, end = ends[KIND[first]], ends[KIND[last] + 1]
        if start < end:
            work[start:end] = function(work[start:end], values[start:end], *more)

    run("autocontrast", "solarize", _by_table, counts)
    run("color", "color", _color)
    run("sharpness", "sharpness", _sharpness)
    run("smooth", "smooth", lambda x, v: blend(x, smooth(x), v[:, 0]))
    run("blur", "blur", lambda x, v: blend(x, blur(x), v[:, 0]))
    run("rotate", "translate-y", _geometry, counts, fill)
    run("rescale", "rescale", _rescale)
    run("cutout", "cutout", cutout)
    result = torch.empty_like(work)
    result[device_order] = work
    return result


def blend(first: torch.Tensor, second: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """first + share * (second - first), clipped to 0..255 and rounded down: Pillow's `Image.blend`.

    Parameters
    ----------
    first
        uint8, first dimension n.
    second
        uint8, broadcast with `first`.
    share
        Blending factor (n,), may be outside 0..1.

    Returns
    -------
    Tensor
        uint8.
    """
    a, b = first.float(), second.float()
    share = share.float().view(-1, *(1,) * (max(a.ndim, b.ndim) - 1))
    return (share * (b - a)).add_(a).clamp_(0, 255).to(torch.uint8)


def grey(images: torch.Tensor) -> torch.Tensor:
    """uint8 (n, 1, h, w): luma by ITU-R 601-2 in 16-bit fixed point, as Pillow's mode "L"."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8)[:, None]


def cutout(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """A grey square; `values` (n, 3): half its side, row and column of its centre (DeVries & Taylor 2017)."""
    height, width = images.shape[-2:]
    half, row, column = (v[:, None] for v in values.unbind(1))
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    rows = (y >= row - half) & (y < row + half)
    columns = (x >= column - half) & (x < column + half)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], GREY)


# --- tables: a pixel's new value depends on its old value and on statistics of the image


def _by_table(images: torch.Tensor, values: torch.Tensor, counts: list[int]) -> torch.Tensor:
    parts, start = [], 0
    for name in KINDS[KIND["autocontrast"] : KIND["solarize"] + 1]:
        end = start + counts[KIND[name]]
        if start < end:
            table = _TABLES[name](images[start:end], values[start:end, 0])
            parts.append(table.expand(-1, images.shape[1], -1))
        start = end
    tables = torch.cat(parts)
    return tables.gather(2, images.flatten(2).long()).view_as(images)


def _every_value(images: torch.Tensor) -> torch.Tensor:
    return torch.arange(256, device=images.device)


def _autocontrast(images: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    flat = images.flatten(2)
    low, high = flat.amin(2).double()[..., None], flat.amax(2).double()[..., None]
    # divide tensors: a number over a tensor is computed with the reciprocal, which can differ by one ulp
    scale = torch.full_like(low, 255) / (high - low)
    every = _every_value(images)
    stretched = (every * scale - low * scale).clamp(0, 255).to(torch.uint8)
    same = every.to(torch.uint8)
    return blend(same, torch.where(high > low, stretched, same), share)


def _equalize(images: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    pixels = images.flatten(2).long()
    histogram = torch.zeros(*pixels.shape[:2], 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(2, pixels, torch.ones_like(pixels))
    brightest = histogram.gather(2, pixels.amax(2, keepdim=True))
    step = (pixels.shape[2] - brightest) // 255
    below = histogram.cumsum(2) - histogram
    # for an image of one colour, or with too few pixels, the step is 0 and nothing changes
    spread = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255).to(torch.uint8)
    same = _every_value(images).to(torch.uint8)
    return blend(same, torch.where(step > 0, spread, same), share)


def _invert(images: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    every = _every_value(images).to(torch.uint8).expand(len(images), 1, -1)
    return blend(every, 255 - every, share)


def _brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    every = _every_value(images).expand(len(images), 1, -1)
    return blend(torch.zeros_like(every), every, factor)


def _contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    total = grey(images).flatten(1).sum(1)
    pixels = images.shape[-2] * images.shape[-1]
    mean = ((2 * total + pixels) // (2 * pixels))[:, None, None]
    return blend(mean, _every_value(images).expand(len(images), 1, -1), factor)


def _posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    dropped = 8 - bits.long()[:, None, None]
    return ((_every_value(images) >> dropped) << dropped).to(torch.uint8)


def _solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    every = _every_value(images)
    return torch.where(every < threshold[:, None, None], every, 255 - every).to(torch.uint8)


_TABLES = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "invert": _invert,
    "brightness": _brightness,
    "contrast": _contrast,
    "posterize": _posterize,
    "solarize": _solarize,
}


# --- colour and filters


def _color(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return blend(grey(images), images, values[:, 0])


def _sharpness(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return blend(smooth(images), images, values[:, 0])


def _window(images: torch.Tensor, size: int) -> torch.Tensor:
    """Sums over size x size windows, where they fit: int16 (n, c, h - size + 1, w - size + 1)."""
    x = images.to(torch.int16)
    height, width = x.shape[-2] - size + 1, x.shape[-1] - size + 1
    x = sum((x[..., i : i + height, :] for i in range(1, size)), start=x[..., :height, :])
    return sum((x[..., i : i + width] for i in range(1, size)), start=x[..., :width])


def smooth(images: torch.Tensor) -> torch.Tensor:
    """Mean over 3x3 pixels with weight 5 in the centre; the border does not change (Pillow's SMOOTH)."""
    if min(images.shape[-2:]) < 3:
        return images
    result = images.clone()
    total = _window(images, 3) + 4 * images[..., 1:-1, 1:-1].to(torch.int16)
    result[..., 1:-1, 1:-1] = (total.float() / 13 + 0.5).to(torch.uint8)
    return result


def blur(images: torch.Tensor) -> torch.Tensor:
    """Mean over the 16 outer pixels of 5x5; a border of two pixels does not change (Pillow's BLUR)."""
    if min(images.shape[-2:]) < 5:
        return images
    result = images.clone()
    ring = _window(images, 5) - _window(images[..., 1:-1, 1:-1], 3)
    result[..., 2:-2, 2:-2] = ((ring + 8) >> 4).to(torch.uint8)
    return result


# --- geometry


def _geometry(images: torch.Tensor, values: torch.Tensor, counts: list[int], fill: int) -> torch.Tensor:
    height, width = images.shape[-2:]
    amount = values[:, 0]
    matrix = torch.zeros(len(images), 6, dtype=torch.float64, device=images.device)
    matrix[:, 0] = matrix[:, 4] = 1
    start = 0
    for name in KINDS[KIND["rotate"] : KIND["translate-y"] + 1]:
        rows = slice(start, start + counts[KIND[name]])
        start = rows.stop
        if name == "rotate":
            angle = -torch.deg2rad(amount[rows])
            cos, sin = angle.cos(), angle.sin()
            x, y = width / 2, height / 2
            columns = (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)
            matrix[rows] = torch.stack(columns, dim=1)
        else:
            matrix[rows, _COLUMN[name]] = amount[rows]
    return nearest(images, matrix, fill)


_COLUMN = {"shear-x": 1, "shear-y": 3, "translate-x": 2, "translate-y": 5}


def nearest(images: torch.Tensor, matrix: torch.Tensor, fill: int = 0) -> torch.Tensor:
    """Apply an affine map with nearest-neighbour sampling, in 16-bit fixed point as Pillow's `Image.transform`.

    Parameters
    ----------
    images
        uint8 (n, c, h, w).
    matrix
        float64 (n, 6): the pixel at (x, y) is read from (a x + b y + c, d x + e y + f), relative to the
        image's corner.
    fill
        Value outside the image, 0..255.

    Returns
    -------
    Tensor
        uint8 (n, c, h, w).
    """
    n, c, height, width = images.shape
    a, b, c0, d, e, f0 = matrix.unbind(1)

    def fixed(v: torch.Tensor) -> torch.Tensor:
        return torch.floor(v * 65536 + 0.5).long()[:, None, None]

    x = torch.arange(width, device=images.device)
    y = torch.arange(height, device=images.device)[:, None]
    column = (fixed(c0 + a * 0.5 + b * 0.5) + fixed(a) * x + fixed(b) * y) >> 16
    row = (fixed(f0 + d * 0.5 + e * 0.5) + fixed(d) * x + fixed(e) * y) >> 16
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = torch.where(inside, row * width + column, height * width)  # the last entry is `fill`
    padded = torch.nn.functional.pad(images.flatten(2), (0, 1), value=fill)
    return padded.gather(2, index.flatten(1)[:, None].expand(-1, c, -1)).view(n, c, height, width)


def _rescale(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[-2:]
    across = _resampling(width, values[:, 0], values[:, 1].long()).transpose(1, 2)
    down = _resampling(height, values[:, 0], values[:, 1].long())
    # autocast would reduce the precision below that of a pixel
    with torch.autocast(images.device.type, enabled=False):
        x = images.double() @ across[:, None]
        x = (x.clamp_(0, 255) + 0.5).floor_()
        x = down[:, None] @ x
    return (x.clamp_(0, 255) + 0.5).to(torch.uint8)


def _resampling(size: int, share: torch.Tensor, method: torch.Tensor) -> torch.Tensor:
    """Matrices float64 (n, size, size) that cut off `share` at both ends of a side and enlarge the rest."""
    low = torch.round(share * size)[:, None, None]
    high = size - low
    at = torch.arange(size, device=share.device, dtype=torch.float64)
    centre = low + (at[:, None] + 0.5) * (high - low) / size
    x = at + 0.5 - centre
    weight = torch.stack([f(x) for f in (_lanczos, _bicubic, _bilinear, _box, _hamming)])
    nearest = (at == torch.floor(centre)).double()
    weight = torch.cat([weight, nearest[None]])[method, torch.arange(len(method), device=share.device)]
    weight = weight * ((at >= low) & (at < high))
    return weight / weight.sum(2, keepdim=True)


def _lanczos(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


def _bicubic(x: torch.Tensor) -> torch.Tensor:
    x = x.abs()
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = -0.5 * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, inner, torch.where(x < 2, outer, 0.0))


def _bilinear(x: torch.Tensor) -> torch.Tensor:
    return (1 - x.abs()).clamp(min=0)


def _box(x: torch.Tensor) -> torch.Tensor:
    return ((x > -0.5) & (x <= 0.5)).double()


def _hamming(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() < 1, torch.sinc(x) * (0.54 + 0.46 * torch.cos(torch.pi * x)), 0.0)
