"""Options that several verbs share, and how verbs print."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from kdbench.api.data import DataPlaces
    from kdbench.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


def workspace_option(function: F) -> F:
    """Adds `workspace: Path`."""
    return click.option(
        "--workspace",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="KDBENCH_HOME",
        default=Path(".kdbench"),
        show_default=True,
        show_envvar=True,
        help="Folder of results and of the tracking store.",
    )(function)


def data_option(function: F) -> F:
    """Adds `data_dir: Path | None`."""
    return click.option(
        "--data-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=None,
        help="Folder to look for datasets in, before $KDBENCH_DATA and the user cache.",
    )(function)


def scale_option(function: F) -> F:
    """Adds `scale: str | None`."""
    return click.option(
        "--scale", default=None, metavar="NAME", help="Scale of the suite (its own default without)."
    )(function)


def set_option(function: F) -> F:
    """Adds `overrides: tuple[str, ...]`."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Change the suite: student.epochs=3, reducers+=pca, reducers-=umap. Repeatable.",
    )(function)


def plugin_option(function: F) -> F:
    """Adds `plugin_files: tuple[Path, ...]`."""
    return click.option(
        "--plugin",
        "plugin_files",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="FILE.py",
        help="Load a one-file plugin. Repeatable.",
    )(function)


def tracking_option(function: F) -> F:
    """Adds `tracking_uri: str | None`."""
    return click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        default=None,
        metavar="URI",
        show_envvar=True,
        help="MLflow tracking store; SQLite in the workspace without.",
    )(function)


def seed_option(function: F) -> F:
    """Adds `seed: int`."""
    return click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Seed that every other seed is derived from.",
    )(function)


class _Jobs(click.ParamType):
    """A number from 1, or "auto" (None)."""

    name = "jobs"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "auto":
            return None
        try:
            n = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'auto'", param, ctx)
        if n < 1:
            self.fail(f"{n}: at least 1", param, ctx)
        return n


def jobs_option(function: F) -> F:
    """Adds `jobs: int | None`, None for "auto"."""
    return click.option(
        "--jobs",
        type=_Jobs(),
        default="1",
        show_default=True,
        help="Number of stages that run at once and share the cores or the GPU. auto chooses it from the cores, "
        "the device and the stages that can run at once. Another number of threads may change last digits.",
    )(function)


class _Executor(click.ParamType):
    """A component: its name, or an inline table of TOML with its name and parameters."""

    name = "executor"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, dict[str, Any]]:
        if isinstance(value, tuple):
            return value
        if not value.lstrip().startswith("{"):
            return value, {}
        import tomllib

        try:
            table = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError as error:
            self.fail(f"{value!r} is no inline table of TOML: {error}", param, ctx)
        if not isinstance(table.get("name"), str):
            self.fail(f"{value!r} has no name", param, ctx)
        return table.pop("name"), table


def executor_option(function: F) -> F:
    """Adds `executor: tuple[str, dict] | None`, its name and parameters."""
    return click.option(
        "--executor",
        type=_Executor(),
        default=None,
        metavar="NAME",
        help="How stages are executed: serial, processes, or a plugin's; with parameters as "
        "'{ name = \"processes\", pin = false }'. Without: serial for one job, else processes.",
    )(function)


def json_option(function: F) -> F:
    """Adds `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")(function)


def registry_from(plugin_files: Sequence[Path] = ()) -> Registry:
    """The registry with the given one-file plugins; what is wrong with a plugin is said on stderr.

    Raises:
        UsageError, PluginError: as `Registry.discover`.
    """
    from kdbench.locations import discover

    return discover(plugin_files, warn)


def warn(sentence: str) -> None:
    """One line on stderr."""
    click.echo(f"warning: {sentence}", err=True)


def data_places(data_dir: Path | None = None, download: bool = True) -> DataPlaces:
    """See `kdbench.locations.data_places`."""
    from kdbench import locations

    return locations.data_places(data_dir, download)


def console(stderr: bool = False) -> Console:
    """A rich console. Markup is off: names like `tsne[perplexity=5]` are no tags."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def echo_json(data: Any) -> None:
    """Print plain data as indented JSON with its keys in the given order. NaN is refused."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not plain data: {value!r}")
