"""Leaderboards and verdicts of a suite, from cells of a run, a workspace or a tracking store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.errors import KdbenchError, WorkspaceError

if TYPE_CHECKING:
    from kdbench.api.records import CellRecord
    from kdbench.leaderboard.board import Board
    from kdbench.leaderboard.claims import ClaimVerdict
    from kdbench.plan.settings import SuiteSettings
    from kdbench.registry import Registry
    from kdbench.suite import ResolvedSuite


def settings_of(resolved: ResolvedSuite, registry: Registry) -> SuiteSettings:
    """What a suite says, to compare the settings of cells with."""
    from kdbench.plan.settings import SuiteSettings

    return SuiteSettings(resolved.suite, registry, resolved.base)


def leaderboard(cells: Sequence[CellRecord], resolved: ResolvedSuite, registry: Registry) -> Board:
    """Make the leaderboard of a suite.

    Parameters
    ----------
    cells
        Records to rank; those of other suites and scales are ignored.
    resolved
        The suite that the cells are compared with.
    registry
        Registry that the suite was loaded with.

    Returns
    -------
    Board
        Rows, verdicts on claims, and failed cells.
    """
    from kdbench.leaderboard.build import board_of

    return board_of(
        cells,
        settings_of(resolved, registry),
        suite_name=resolved.suite.name,
        scale=resolved.suite.scale,
        given=command_arguments(resolved.source, registry),
    )


def verdicts(
    cells: Sequence[CellRecord], resolved: ResolvedSuite, registry: Registry
) -> Sequence[ClaimVerdict]:
    """Evaluate the claims of a suite on `cells`."""
    from kdbench.leaderboard import evaluate

    return evaluate(cells, settings_of(resolved, registry))


@dataclass
class BuiltLeaderboards:
    """What `build` wrote.

    Attributes
    ----------
    suite
        Name of the suite.
    scales
        Scales of which a leaderboard was written.
    files
        Paths of all files.
    skipped
        Scales that can't be loaded, with the reason.
    """

    suite: str
    scales: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    skipped: dict[str, KdbenchError] = field(default_factory=dict)


def build(
    source: str | Path,
    registry: Registry,
    *,
    scale: str | None,
    out: Path,
    tracking_uri: str | None,
    workspace: Path,
) -> BuiltLeaderboards:
    """Write the leaderboards of a suite from the cells in a tracking store.

    Each consists of README.md, leaderboard.csv, leaderboard.json, index.html and table.tex.

    Parameters
    ----------
    source
        Name of a registered suite, or path of a TOML file.
    registry
        Registry to load the suite with.
    scale
        The scale to build; None for every scale that has cells.
    out
        Folder to write to; files go to `<out>/<suite>/<scale>/`.
    tracking_uri
        MLflow tracking URI; None for `$MLFLOW_TRACKING_URI` or else SQLite in the workspace.
    workspace
        Folder of results.

    Returns
    -------
    BuiltLeaderboards
        What was written, and the scales that were skipped.

    Raises
    ------
    UsageError, SuiteError, PluginError
        The suite can't be loaded.
    WorkspaceError
        The tracking store can't be read, has no cell of the suite, or `out` can't be written.
    """
    from kdbench import tracking
    from kdbench.rendering.files import write
    from kdbench.suite import load_suite

    name = load_suite(source, scale=scale, registry=registry).suite.name
    uri = tracking.tracking_uri(tracking_uri, workspace)
    cells = tracking.fetch_cells(uri, name, scale)
    if not cells:
        raise WorkspaceError(
            f"no cell of {name!r}" + (f" at scale {scale!r}" if scale else "") + " in the tracking store",
            where=uri,
            hint=f"kdbench run {source}{f' --scale {scale}' if scale else ''}, or `kdbench track sync` if it ran "
            "elsewhere",
        )
    built = BuiltLeaderboards(name)
    for of_scale in sorted({c.scale for c in cells}):
        try:
            resolved = load_suite(source, scale=of_scale, registry=registry)
        except KdbenchError as error:
            built.skipped[of_scale] = error
            continue
        built.files += write(leaderboard(cells, resolved, registry), out)
        built.scales.append(of_scale)
    return built


def command_arguments(source: str | Path, registry: Registry) -> str:
    """Format a suite as the arguments of a command, with its one-file plugins: "own.toml --plugin nets.py".

    Parameters
    ----------
    source
        Name of a registered suite, or path of a TOML file.
    registry
        Registry with the one-file plugins that are loaded.

    Returns
    -------
    str
        The arguments; files by their names alone, because their folders differ between machines.
    """
    files = [Path(info.origin).name for info in registry.plugins() if info.distribution == "file"]
    name = Path(source).name if Path(source).suffix == ".toml" else str(source)
    return " ".join([name, *(f"--plugin {file}" for file in files)])
