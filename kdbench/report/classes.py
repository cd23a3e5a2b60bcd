"""Class names and superclasses of embedded points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.api.draws import draw_test
from kdbench.errors import KdbenchError

if TYPE_CHECKING:
    from kdbench.api import CellRecord
    from kdbench.api.data import ImageData
    from kdbench.suite.schema import Suite


@dataclass(frozen=True)
class Classes:
    """Classes and superclasses, as far as they are known.

    Attributes
    ----------
    labels
        Class of each embedded image, (n,).
    superclass_of
        Superclass of each class; None where there are none, so that classes are told apart.
    names
        One a class, one a superclass.
    superclass_names
        One a class, one a superclass.
    """

    labels: np.ndarray | None = None
    superclass_of: tuple[int, ...] | None = None
    names: tuple[str, ...] = ()
    superclass_names: tuple[str, ...] = ()

    def name(self, group: int) -> str:
        """Of a superclass where there are any, else of a class."""
        what, names = (
            ("class", self.names) if self.superclass_of is None else ("superclass", self.superclass_names)
        )
        return names[group] if group < len(names) else f"{what} {group}"


def known_classes(
    records: Sequence[CellRecord],
    suite: Suite,
    dataset: Callable[[], ImageData] | None,
    superclass_of: Sequence[int] | None,
    superclass_names: Sequence[str],
) -> Classes:
    """What was told, completed by the dataset where it can be had and is the one that the records are of."""
    given = None if superclass_of is None else tuple(int(s) for s in superclass_of)
    told = Classes(None, given, (), tuple(superclass_names))
    if dataset is None or not any(r.arrays for r in records):
        return told
    try:
        data = dataset()
        if {r.dataset_digest for r in records} != {data.digest} or len({r.seed for r in records}) != 1:
            return told
        classes = np.asarray(data.test.labels)
        rows = draw_test(classes, data.n_classes, size=suite.data.embedded, seed=records[0].seed)
    except (KdbenchError, OSError):  # a page without colours is better than none
        return told
    if given is None and data.superclass_of is not None:
        given = tuple(int(s) for s in data.superclass_of)
    return Classes(
        classes[rows],
        given,
        tuple(data.class_names),
        told.superclass_names or tuple(data.superclass_names),
    )
