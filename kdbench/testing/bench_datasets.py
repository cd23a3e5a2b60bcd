"""A workbench for datasets: they are loaded into caches of their own, without a network."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kdbench.api.data import DataPlaces, ImageData
from kdbench.api.specs import DatasetSpec
from kdbench.errors import DataError
from kdbench.testing.outcome import NotApplicable, Violation

if TYPE_CHECKING:
    from kdbench.registry import Registry


@dataclass(frozen=True)
class DatasetBench:
    """One dataset with one set of parameters.

    Args:
        name: of a dataset of the registry. params: where the defaults do not do.
        folders: that may hold its files. Nothing is written to them, and nothing is downloaded.
    """

    name: str
    registry: Registry
    params: Mapping[str, Any] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()

    @cached_property
    def spec(self) -> DatasetSpec:
        return cast(DatasetSpec, self.registry.spec("datasets", self.name))

    def dataset(self) -> Any:
        return self.registry.create("datasets", self.name, dict(self.params))

    def load(self, folders: tuple[Path, ...] | None = None) -> ImageData:
        """A new instance's images, through a cache that is new too.

        Raises:
            Violation: it returned something else than ImageData.
        """
        # Kept for as long as the bench is: what is loaded may be mapped from there.
        folder = tempfile.TemporaryDirectory(prefix="kdbench-check-")
        self._caches.append(folder)
        places = DataPlaces(self.folders if folders is None else folders, Path(folder.name), download=False)
        found = self.dataset().load(places)
        if not isinstance(found, ImageData):
            raise Violation(f"load returned {type(found).__name__}; a kdbench.api.ImageData is expected")
        return found

    @cached_property
    def _caches(self) -> list[tempfile.TemporaryDirectory[str]]:
        return []

    @cached_property
    def _found(self) -> ImageData | DataError:
        try:
            return self.load()
        except DataError as error:
            return error

    @property
    def data(self) -> ImageData:
        """What an ordinary load returns.

        Raises:
            NotApplicable: its files are not here. Violation: it is embedded, and needs files.
        """
        found = self._found
        if isinstance(found, DataError):
            if self.spec.embedded:
                raise Violation(
                    f"its spec says embedded, and loading ends in: {found.what.partition(':')[0]}"
                )
            raise NotApplicable(f"its files are not here: {' '.join(found.what.split())}")
        return found
