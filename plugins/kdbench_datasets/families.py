"""The families of shapes of the target task: each is a superclass of five classes that differ in one feature.

A family is a function of the plane and the index of the class within the family (0..4). It returns the mask
of the shape, bool (n, s, s). No two classes are mirror images or rotations of each other, because images are
flipped and rotated. A `trait` varies within a class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kdbench_datasets.plane import Plane, direction, union

Family = Callable[[Plane, int], np.ndarray]


def polygon(p: Plane, k: int) -> np.ndarray:
    n = (3, 4, 5, 6, 8)[k]
    far = p.along(0)
    for i in range(1, n):
        far = np.maximum(far, p.along(i / n))
    return far < (0.55, 0.72, 0.8, 0.85, 0.9)[k]


def star(p: Plane, k: int) -> np.ndarray:
    cos, _ = p.waves((3, 4, 5, 6, 8)[k])
    # |sin(n a / 2)|, which has the corners of a star
    valley = np.sqrt(np.maximum(1 - cos, 0) * np.float32(0.5))
    return p.r < 1.05 - p.trait(0, 0.62, 0.72) * valley


def flower(p: Plane, k: int) -> np.ndarray:
    cos, _ = p.waves((2, 3, 4, 5, 7)[k])
    return (p.r < 0.72 + p.trait(0, 0.24, 0.3) * cos) & (p.r > 0.22)


def asterisk(p: Plane, k: int) -> np.ndarray:
    n, w = (3, 4, 5, 6, 8)[k], p.trait(0, 0.09, 0.14)
    arms = (p.stroke(0, 0, *direction(i / n), w, overhang=False) for i in range(n))
    return union(*arms)


def cross(p: Plane, k: int) -> np.ndarray:
    w = p.trait(0, 0.15, 0.2)
    if k == 0:  # bars as wide as long
        return p.box(0, 0, 0.36, 0.9) | p.box(0, 0, 0.9, 0.36)
    upright = p.box(0, 0, w, 1)
    if k == 1:  # Latin
        return upright | p.box(0, -0.35, 0.65, w)
    if k == 2:  # two equal bars
        return upright | p.box(0, -0.45, 0.65, w) | p.box(0, 0.35, 0.65, w)
    if k == 3:  # with a ring
        ring = (p.r < 0.72) & (p.r > 0.46)
        return upright | p.box(0, 0, 1, w) | ring
    ends = p.box(0, -0.84, 0.42, 0.16) | p.box(0, 0.84, 0.42, 0.16)  # with bars at its ends
    ends |= p.box(-0.84, 0, 0.16, 0.42) | p.box(0.84, 0, 0.16, 0.42)
    return ends | p.box(0, 0, 0.12, 1) | p.box(0, 0, 1, 0.12)


def ring(p: Plane, k: int) -> np.ndarray:
    disc, d = p.r < 0.95, p.trait(0, -0.04, 0.04)
    if k == 0:
        return disc & (p.r > 0.72 + d)
    if k == 1:
        return disc & (p.r > 0.4 + d)
    if k == 2:
        return disc & ((p.r > 0.74) | ((p.r < 0.5 + d) & (p.r > 0.27 + d)))
    if k == 3:
        return disc & ((p.r > 0.72) | (p.r < 0.35 + d))
    return disc & ((p.r > 0.72) | (np.abs(p.y) < 0.14 + d))


def gear(p: Plane, k: int) -> np.ndarray:
    cos, _ = p.waves((4, 5, 6, 8, 10)[k])
    return (p.r < np.where(cos > 0, np.float32(1), np.float32(0.68))) & (p.r > p.trait(0, 0.25, 0.38))


def crescent(p: Plane, k: int) -> np.ndarray:
    reach = (0.32, 0.55, 0.8, 1.1, 1.45)[k]
    return (p.r < 0.95) & ~p.disc(reach, 0, p.trait(0, 0.86, 0.92))


def pie(p: Plane, k: int) -> np.ndarray:
    half = (0.06, 0.125, 0.1875, 0.25, 0.375)[k]  # of a turn, cut out
    up, down = p.along(0.25 - half), p.along(-0.25 + half)
    cut = (up > 0) & (down > 0) if half <= 0.25 else (up > 0) | (down > 0)
    return (p.r < p.trait(0, 0.9, 1)) & ~cut


def button(p: Plane, k: int) -> np.ndarray:
    n, hole = k + 1, p.trait(0, 0.19, 0.24)
    around = (0.0, 0.35, 0.4, 0.46, 0.5, 0.55)[n]
    holes = [p.disc(around * c, around * s, hole) for c, s in (direction(i / n) for i in range(n))]
    return (p.r < 0.95) & ~union(*holes)


def frame(p: Plane, k: int) -> np.ndarray:
    far, w = np.maximum(np.abs(p.x), np.abs(p.y)), p.trait(0, 0.16, 0.21)
    edge = (far < 0.8) & (far > 0.8 - w)
    if k == 0:
        return edge
    if k == 1:
        return (far < 0.8) & (far > 0.36)
    if k == 2:  # a window of four
        return edge | p.box(0, 0, w / 2, 0.8) | p.box(0, 0, 0.8, w / 2)
    if k == 3:
        return edge | (far < 0.3)
    diagonal = np.abs(np.abs(p.x) - np.abs(p.y)) < w * np.float32(0.7)
    return edge | ((far < 0.8) & diagonal)


def arrow(p: Plane, k: int) -> np.ndarray:
    w = p.trait(0, 0.12, 0.17)
    head = p.convex(((0, -0.6), (1, 0), (0, 0.6)))
    if k == 0:
        return head | p.stroke(-0.95, 0, 0.1, 0, w, overhang=False)
    if k == 1:  # both ways
        return (
            p.convex(((0.3, -0.6), (1, 0), (0.3, 0.6)))
            | p.box(0, 0, 0.4, w)
            | p.convex(((-0.3, 0.6), (-1, 0), (-0.3, -0.6)))
        )
    if k == 2:  # lines alone
        return p.strokes(((0.15, -0.65), (0.8, 0), (0.15, 0.65)), w) | p.stroke(-0.9, 0, 0.8, 0, w)
    if k == 3:  # two chevrons
        return p.strokes(((-0.7, -0.62), (-0.05, 0), (-0.7, 0.62)), w) | p.strokes(
            ((0.05, -0.62), (0.7, 0), (0.05, 0.62)), w
        )
    tail = p.convex(((-1, -0.5), (-0.5, 0), (-1, 0.5)))  # fletched
    return p.convex(((0.3, -0.5), (1, 0), (0.3, 0.5))) | p.box(-0.1, 0, 0.5, w) | tail


def letter(p: Plane, k: int) -> np.ndarray:
    w = p.trait(0, 0.14, 0.19)
    if k == 0:  # T
        return p.box(0, -0.7, 0.75, w) | p.box(0, 0.05, w, 0.9)
    if k == 1:  # H
        return p.box(-0.55, 0, w, 0.9) | p.box(0.55, 0, w, 0.9) | p.box(0, 0, 0.55, w)
    back = p.box(-0.45, 0, w, 0.9)
    if k == 2:  # L
        return back | p.box(0.05, 0.72, 0.6, w)
    arms = back | p.box(0.05, -0.72, 0.6, w) | p.box(0, 0, 0.5, w)
    return arms if k == 3 else arms | p.box(0.05, 0.72, 0.6, w)  # F, E


def zigzag(p: Plane, k: int) -> np.ndarray:
    n, w = k + 2, p.trait(0, 0.09, 0.12)
    height = 0.62 if n < 4 else 0.54
    path = tuple((-0.75 + 1.5 * i / n, height if i % 2 else -height) for i in range(n + 1))
    return p.strokes(path, w)


def beads(p: Plane, k: int) -> np.ndarray:
    layouts: tuple[tuple[tuple[float, float], ...], ...] = (
        ((-0.45, 0), (0.45, 0)),
        ((-0.65, 0), (0, 0), (0.65, 0)),
        ((0, -0.52), (-0.45, 0.3), (0.45, 0.3)),
        ((-0.4, -0.4), (0.4, -0.4), (-0.4, 0.4), (0.4, 0.4)),
        ((-0.6, -0.3), (0, -0.3), (0.6, -0.3), (-0.6, 0.35)),
    )
    radius = p.trait(0, 0.9, 1) * np.float32((0.5, 0.36, 0.46, 0.42, 0.34)[k])
    return union(*(p.disc(cx, cy, radius) for cx, cy in layouts[k]))


def ellipse(p: Plane, k: int) -> np.ndarray:
    ratio = p.trait(0, 0.94, 1.06) * np.float32((1.0, 0.72, 0.5, 0.33, 0.2)[k])
    y = p.y / ratio
    return p.x * p.x + y * y < (0.8, 0.9, 1.0, 1.0, 1.1)[k]


def comb(p: Plane, k: int) -> np.ndarray:
    n = (2, 4, 5, 6, 7)[k]  # three are a letter
    w = p.trait(0, 0.85, 1.15) * np.float32((0.18, 0.12, 0.09, 0.075, 0.06)[k])
    teeth = [p.box(-0.68 + 1.36 * i / (n - 1), 0.15, w, 0.55) for i in range(n)]
    return union(p.box(0, -0.45, 0.68 + w, 0.17), *teeth)


def striped(p: Plane, k: int) -> np.ndarray:
    n, w = k + 1, 0.5 * p.trait(0, 0.13, 0.17)
    gaps = [np.abs(p.x - (-1 + 2 * (i + 1) / (n + 1))) < w for i in range(n)]
    return (p.r < 1) & ~union(*gaps)


def broken_ring(p: Plane, k: int) -> np.ndarray:
    n, w = k + 1, p.trait(0, 0.14, 0.2)
    gaps = [p.stroke(0, 0, *direction(i / n), w) for i in range(n)]
    return (p.r < 0.95) & (p.r > 0.6) & ~union(*gaps)


def quadrangle(p: Plane, k: int) -> np.ndarray:
    slant = p.trait(0, -0.06, 0.06)
    x = p.x + slant * p.y
    q = Plane(x, p.y, p._traits)
    corners: tuple[tuple[tuple[float, float], ...], ...] = (
        ((-0.4, -0.6), (0.4, -0.6), (0.95, 0.6), (-0.95, 0.6)),  # trapezoid
        ((-0.45, -0.5), (1.0, -0.5), (0.45, 0.5), (-1.0, 0.5)),  # parallelogram
        ((0, -0.75), (0.62, -0.2), (0, 1.05), (-0.62, -0.2)),  # kite
        ((0, -1), (0.55, 0), (0, 1), (-0.55, 0)),  # rhombus
        ((-0.6, -0.85), (0.75, 0.6), (-0.6, 0.6)),  # a right-angled triangle: a corner has gone
    )
    return q.convex(corners[k])


#: Superclass name, family, class names.
TARGET: tuple[tuple[str, Family, tuple[str, str, str, str, str]], ...] = (
    ("polygon", polygon, ("triangle", "square", "pentagon", "hexagon", "octagon")),
    ("star", star, ("star_3", "star_4", "star_5", "star_6", "star_8")),
    ("flower", flower, ("flower_2", "flower_3", "flower_4", "flower_5", "flower_7")),
    ("asterisk", asterisk, ("arms_3", "arms_4", "arms_5", "arms_6", "arms_8")),
    ("cross", cross, ("cross_bold", "cross_latin", "cross_double", "cross_ringed", "cross_barred")),
    ("ring", ring, ("ring_thin", "ring_thick", "ring_double", "ring_dotted", "ring_barred")),
    ("gear", gear, ("gear_4", "gear_5", "gear_6", "gear_8", "gear_10")),
    ("crescent", crescent, ("moon_1", "moon_2", "moon_3", "moon_4", "moon_5")),
    ("pie", pie, ("pie_88", "pie_75", "pie_62", "pie_50", "pie_25")),
    ("button", button, ("button_1", "button_2", "button_3", "button_4", "button_5")),
    ("frame", frame, ("frame_thin", "frame_thick", "frame_window", "frame_filled", "frame_crossed")),
    ("arrow", arrow, ("arrow_solid", "arrow_double", "arrow_open", "arrow_chevrons", "arrow_fletched")),
    ("letter", letter, ("letter_t", "letter_h", "letter_l", "letter_f", "letter_e")),
    ("zigzag", zigzag, ("zigzag_2", "zigzag_3", "zigzag_4", "zigzag_5", "zigzag_6")),
    ("beads", beads, ("beads_2", "beads_row", "beads_triangle", "beads_square", "beads_hook")),
    ("ellipse", ellipse, ("ellipse_100", "ellipse_72", "ellipse_50", "ellipse_33", "ellipse_20")),
    ("comb", comb, ("comb_2", "comb_4", "comb_5", "comb_6", "comb_7")),
    ("striped", striped, ("striped_1", "striped_2", "striped_3", "striped_4", "striped_5")),
    ("broken_ring", broken_ring, ("gaps_1", "gaps_2", "gaps_3", "gaps_4", "gaps_5")),
    ("quadrangle", quadrangle, ("trapezoid", "parallelogram", "kite", "rhombus", "right_triangle")),
)
