"""The families of the source task: other shapes to pretrain a teacher on, as ImageNet is for CIFAR.

None of them is a shape of the target task (`kdbench_datasets.families`, which also defines a family).
"""

from __future__ import annotations

import numpy as np

from kdbench_datasets.families import Family
from kdbench_datasets.plane import Plane, direction, union


def cells(p: Plane, k: int) -> np.ndarray:
    layouts: tuple[tuple[str, ...], ...] = (
        ("#.#", "###", "..."),  # U
        ("#..", "##.", ".##"),  # W
        ("##.", "##.", "#.."),  # P
        (".##", "##.", "..."),  # S
        (".##", "##.", ".#."),  # F
    )
    half = p.trait(0, 0.22, 0.26)
    spots = [
        ((column - 1) * 0.5, (row - 1) * 0.5)
        for row, line in enumerate(layouts[k])
        for column, cell in enumerate(line)
        if cell == "#"
    ]
    return union(*(p.box(cx, cy, half, half) for cx, cy in spots))


def bow(p: Plane, k: int) -> np.ndarray:
    x, neck = np.abs(p.x), p.trait(0, 0.1, 0.16)
    slope = (0.9, 0.6, 0.9, 0.0, 1.3)[k]
    if k == 3:  # dumb-bell
        return p.disc(-0.62, 0, 0.36) | p.disc(0.62, 0, 0.36) | p.box(0, 0, 0.6, neck)
    wing = (np.abs(p.y) < neck + slope * x) & (x < (0.75, 0.92, 0.75, 1.0, 0.58)[k])
    return wing | (p.r < 0.45) if k == 2 else wing  # with a knot


def key(p: Plane, k: int) -> np.ndarray:
    w = p.trait(0, 0.09, 0.13)
    dx = p.x + 0.6
    rr = dx * dx + p.y * p.y
    whole = ((rr < 0.16) & (rr > 0.03)) | p.box(0.35, 0, 0.62, w)
    for i in range(k):
        whole |= p.box(0.88 - 0.26 * i, 0.23, 0.09, 0.29)
    return whole


def ladder(p: Plane, k: int) -> np.ndarray:
    n, w = k + 2, p.trait(0, 0.07, 0.11)
    rungs = [p.box(0, -1 + 2 * (i + 1) / (n + 1), 0.45, w) for i in range(n)]
    return union(p.box(-0.48, 0, w, 1), p.box(0.48, 0, w, 1), *rungs)


def mushroom(p: Plane, k: int) -> np.ndarray:
    cap = p.disc(0, 0, 0.85) & (p.y < 0)
    w = p.trait(0, 0.08, 0.12)
    if k == 0:
        return cap | p.box(0, 0.4, 0.28, 0.45)
    stem = p.box(0, 0.35, w, 0.6)
    if k == 1:
        return cap | stem
    if k == 2:  # umbrella
        return cap | stem | p.box(0.26, 0.87, 0.26 + w, w) | p.box(0.52, 0.72, w, 0.24)
    if k == 3:  # anchor
        arc = p.disc(0, 0, 0.9) & ~p.disc(0, -0.15, 0.72) & (p.y > 0.1)
        return arc | p.box(0, -0.1, w, 0.9) | p.box(0, -0.55, 0.4, w)
    return cap | stem | (p.disc(0, 0.95, 0.5) & (p.y < 0.95))  # lamp


def fan(p: Plane, k: int) -> np.ndarray:
    n, w = k + 1, p.trait(0, 0.07, 0.1)
    slits = [p.stroke(0, 0.4, *_beyond(0.5 + 0.5 * (i + 1) / (n + 1)), w) for i in range(n)]
    return p.disc(0, 0.4, 1.05) & (p.y < 0.4) & ~union(*slits)


def _beyond(turn: float) -> tuple[float, float]:
    c, s = direction(turn)
    return 1.2 * c, 0.4 + 1.2 * s


def tree(p: Plane, k: int) -> np.ndarray:
    trunk = p.box(0, 0.8, p.trait(0, 0.1, 0.15), 0.25)
    if k < 3:  # one, two, three tiers
        n = k + 1
        height = 1.5 / n
        tiers = []
        for i in range(n):
            top = -0.9 + i * height
            width = 0.45 + 0.35 * (i + 1) / n
            tiers.append(p.convex(((0, top - 0.1), (width, top + height), (-width, top + height))))
        return union(trunk, *tiers)
    crown = (
        p.disc(0, -0.3, 0.62)
        if k == 3
        else p.disc(0, -0.5, 0.42) | p.disc(-0.4, 0, 0.42) | p.disc(0.4, 0, 0.42)
    )
    return crown | p.box(0, 0.6, p.trait(0, 0.1, 0.15), 0.45)


def dots(p: Plane, k: int) -> np.ndarray:
    n = k + 3
    radius = p.trait(0, 0.88, 1.08) * np.float32((0.36, 0.33, 0.29, 0.25, 0.22)[k])
    return union(*(p.disc(0.68 * c, 0.68 * s, radius) for c, s in (direction(i / n) for i in range(n))))


def chain(p: Plane, k: int) -> np.ndarray:
    layouts: tuple[tuple[tuple[float, float], ...], ...] = (
        ((-0.35, 0), (0.35, 0)),
        ((-0.6, 0), (0, 0), (0.6, 0)),
        ((0, -0.4), (-0.4, 0.28), (0.4, 0.28)),
        ((-0.38, -0.38), (0.38, -0.38), (-0.38, 0.38), (0.38, 0.38)),
        ((-0.7, 0), (0, -0.2), (0.7, 0), (0, 0.45)),
    )
    outer = (0.6, 0.42, 0.5, 0.5, 0.4)[k]
    inner = outer - p.trait(0, 0.15, 0.19)
    links = [p.disc(cx, cy, outer) & ~p.disc(cx, cy, inner) for cx, cy in layouts[k]]
    return union(*links)


def grid(p: Plane, k: int) -> np.ndarray:
    rows, columns = ((2, 2), (2, 3), (3, 3), (2, 4), (3, 4))[k]
    w = p.trait(0, 0.07, 0.1)
    lines = [p.box(0, -1 + 2 * (i + 1) / (rows + 1), 0.9, w) for i in range(rows)]
    lines += [p.box(-1 + 2 * (i + 1) / (columns + 1), 0, w, 0.9) for i in range(columns)]
    return union(*lines)


#: Superclass name, family, class names.
SOURCE: tuple[tuple[str, Family, tuple[str, str, str, str, str]], ...] = (
    ("cells", cells, ("cells_u", "cells_w", "cells_p", "cells_s", "cells_f")),
    ("bow", bow, ("bow_plain", "bow_wide", "bow_knotted", "bow_dumbbell", "bow_narrow")),
    ("key", key, ("key_0", "key_1", "key_2", "key_3", "key_4")),
    ("ladder", ladder, ("ladder_2", "ladder_3", "ladder_4", "ladder_5", "ladder_6")),
    ("mushroom", mushroom, ("mushroom", "parasol", "umbrella", "anchor", "lamp")),
    ("fan", fan, ("fan_1", "fan_2", "fan_3", "fan_4", "fan_5")),
    ("tree", tree, ("tree_1", "tree_2", "tree_3", "tree_round", "tree_clover")),
    ("dots", dots, ("dots_3", "dots_4", "dots_5", "dots_6", "dots_7")),
    ("chain", chain, ("chain_2", "chain_3", "chain_triangle", "chain_square", "chain_kite")),
    ("grid", grid, ("grid_2x2", "grid_2x3", "grid_3x3", "grid_2x4", "grid_3x4")),
)
