"""Draw shapes: position and form (geometry), then colours and background (appearance).

The two use separate random generators, so masks do not depend on clutter or noise. Pixels are computed with
integers, products, sums and square roots only, so that images are the same on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kdbench_datasets.families import Family
from kdbench_datasets.plane import Plane

SIDE = 32
#: Images that share a random generator. Changing it changes every image.
BLOCK = 16
#: Samples per pixel and axis.
_FINE = 2


@dataclass(frozen=True)
class Look:
    """Appearance of the scene around the shapes.

    Attributes
    ----------
    clutter
        Pieces (bars and discs) behind each shape.
    noise
        Largest change of a pixel value by noise, of 255 (triangular distribution).
    rotation
        Largest rotation in either direction, in degrees.
    scale
        Smallest and largest radius of a shape, in pixels.
    """

    clutter: int
    noise: int
    rotation: float
    scale: tuple[float, float]


def block(
    family: Family, member: int, look: Look, stream: tuple[int, ...], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the first `n` images of a block.

    Parameters
    ----------
    family
        Family to draw from.
    member
        Class within the family, 0..4.
    look
        Appearance of the scene.
    stream
        Non-negative integers that identify the block; blocks share no random numbers.
    n
        Number of images, at most BLOCK.

    Returns
    -------
    tuple[ndarray, ndarray]
        Images uint8 (n, 32, 32, 3); masks bool (n, 32, 32), True if at least half of a pixel's samples are
        inside the shape.
    """
    geometry = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*stream, 0))))
    appearance = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*stream, 1))))
    inside = family(_plane(geometry, look, n), member)
    # samples of a pixel inside the shape: 0..4
    rows = inside[:, 0::2].astype(np.uint8) + inside[:, 1::2]
    cover = rows[:, :, 0::2] + rows[:, :, 1::2]
    return _paint(appearance, look, cover, n), cover >= _FINE * _FINE // 2


def _plane(rng: np.random.Generator, look: Look, n: int) -> Plane:
    """Coordinates of the samples of `n` images, each object rotated, stretched, scaled and moved."""
    draw = rng.random((BLOCK, 8))[:n]
    traits = rng.random((BLOCK, 2))[:n].astype(np.float32)
    radius = look.scale[0] + (look.scale[1] - look.scale[0]) * draw[:, 0]
    turn = math.radians(look.rotation) * (2 * draw[:, 1] - 1)
    room = np.maximum(SIDE / 2 - radius, 0)
    cx = SIDE / 2 + room * (2 * draw[:, 2] - 1)
    cy = SIDE / 2 + room * (2 * draw[:, 3] - 1)
    stretch = 0.9 + 0.2 * draw[:, 4]  # along an axis of the object
    shear = 0.24 * (draw[:, 5] - 0.5)
    c, s = np.cos(turn), np.sin(turn)
    # object = M (pixel - centre), M = shear . stretch . rotation / radius; in float64, so that the last bit
    # of a sine has no effect
    xx, xy = c / radius / stretch, s / radius / stretch
    yx, yy = -s / radius * stretch, c / radius * stretch
    xx, xy = xx + shear * yx, xy + shear * yy
    grid = (np.arange(SIDE * _FINE) + 0.5) / _FINE
    across, down = grid - cx[:, None], grid - cy[:, None]

    def combine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        along_x = (a[:, None] * across).astype(np.float32)[:, None, :]
        along_y = (b[:, None] * down).astype(np.float32)[:, :, None]
        return along_x + along_y

    return Plane(combine(xx, xy), combine(yx, yy), traits)


def _paint(rng: np.random.Generator, look: Look, cover: np.ndarray, n: int) -> np.ndarray:
    # A shape is brighter than its background, by 75 to 125 before the hues. With contrast of either sign and
    # saturated colours, networks memorised the colours of 400 images and did not learn the shapes.
    hues = rng.integers(-35, 36, (BLOCK, 2, 3))[:n]
    behind = rng.integers(35, 121, (BLOCK, 1))[:n] + hues[:, 0]
    front = behind + rng.integers(75, 126, (BLOCK, 1))[:n] + hues[:, 1]
    scene = _gradient(rng, behind, 25, n)
    _clutter(rng, look, scene, behind, n)
    shade = _gradient(rng, front, 25, n)
    weight = cover.astype(np.int16)[..., None]
    samples = _FINE * _FINE
    scene = (scene * (samples - weight) + shade * weight) // samples
    if look.noise:
        # drawn last and image by image, so that it does not depend on the number of images
        noise = rng.integers(0, 256, (n, 2, SIDE, SIDE, 3), dtype=np.uint8).astype(np.int16)
        scene += (noise[:, 0] - noise[:, 1]) * np.int16(look.noise) // np.int16(256)
    return np.clip(scene, 0, 255).astype(np.uint8)


def _gradient(rng: np.random.Generator, colour: np.ndarray, strength: int, n: int) -> np.ndarray:
    """The colour with a gradient of at most `strength` from the centre to an edge: int16 (n, 32, 32, 3)."""
    slope = rng.integers(-strength, strength + 1, (BLOCK, 2, 3))[:n]
    ramp = np.arange(SIDE) * 2 - (SIDE - 1)  # -31..31
    across = slope[:, 0, None, None, :] * ramp[None, None, :, None]
    down = slope[:, 1, None, None, :] * ramp[None, :, None, None]
    return (colour[:, None, None, :] + (across + down) // (2 * SIDE)).astype(np.int16)


def _clutter(rng: np.random.Generator, look: Look, scene: np.ndarray, behind: np.ndarray, n: int) -> None:
    """Bars and discs of colours near the background's, drawn into `scene`."""
    grid = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
    for piece in range(look.clutter):
        draw = rng.random((BLOCK, 5))[:n]
        tint = rng.integers(-40, 41, (BLOCK, 3))[:n]
        dx = grid[None, None, :] - (SIDE * draw[:, 0]).astype(np.float32)[:, None, None]
        dy = grid[None, :, None] - (SIDE * draw[:, 1]).astype(np.float32)[:, None, None]
        if piece % 2:
            radius = (1.5 + 3.5 * draw[:, 2]).astype(np.float32)[:, None, None]
            where = dx * dx + dy * dy < radius * radius
        else:
            turn = 2 * math.pi * draw[:, 4]
            c = np.cos(turn).astype(np.float32)[:, None, None]
            s = np.sin(turn).astype(np.float32)[:, None, None]
            half = (4 + 8 * draw[:, 2]).astype(np.float32)[:, None, None]
            wide = (0.6 + 1.2 * draw[:, 3]).astype(np.float32)[:, None, None]
            where = (np.abs(dx * c + dy * s) < half) & (np.abs(dy * c - dx * s) < wide)
        colour = (behind + tint).clip(0, 255).astype(np.int16)[:, None, None, :]
        np.copyto(scene, np.broadcast_to(colour, scene.shape), where=where[..., None])
