"""Options shared by several commands, and how commands print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from kdbench.registry import Registry

#: Adds `workspace: Path`.
workspace_option = click.option(
    "--workspace",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="KDBENCH_HOME",
    default=Path(".kdbench"),
    show_default=True,
    show_envvar=True,
    help="Folder of results and of the tracking store.",
)

#: Adds `data_dir: Path | None`.
data_option = click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Folder to look for datasets in, before $KDBENCH_DATA and the user cache.",
)

#: Adds `scale: str | None`.
scale_option = click.option(
    "--scale",
    default=None,
    metavar="NAME",
    help="Scale of the suite; by default the suite's default_scale.",
)

#: Adds `overrides: tuple[str, ...]`.
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override a setting of the suite: student.epochs=3, reducers+=pca, reducers-=umap. Repeatable.",
)

#: Adds `plugin_files: tuple[Path, ...]`.
plugin_option = click.option(
    "--plugin",
    "plugin_files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE.py",
    help="Load a one-file plugin. Repeatable.",
)

#: Adds `tracking_uri: str | None`.
tracking_option = click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    default=None,
    metavar="URI",
    show_envvar=True,
    help="MLflow tracking store; by default SQLite in the workspace.",
)

#: Adds `seed: int`.
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed that every other seed is derived from.",
)

#: Adds `device: str | None`.
device_option = click.option(
    "--device", default=None, metavar="DEVICE", help="cpu or cuda; by default a GPU if there is one."
)


class _Jobs(click.ParamType):
    """A number from 1, or "auto" (converted to None)."""

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


#: Adds `jobs: int | None`, None for "auto".
jobs_option = click.option(
    "--jobs",
    type=_Jobs(),
    default="1",
    show_default=True,
    help="Number of stages at once; they share the cores, or the GPU. auto chooses it. Another number of "
    "threads may change the last digits of results.",
)


class _Executor(click.ParamType):
    """A component: its name, or a TOML inline table with its name and parameters."""

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
            self.fail(f"{value!r} is not a TOML inline table: {error}", param, ctx)
        if not isinstance(table.get("name"), str):
            self.fail(f"{value!r} has no name", param, ctx)
        return table.pop("name"), table


#: Adds `executor: tuple[str, dict] | None`, its name and parameters.
executor_option = click.option(
    "--executor",
    type=_Executor(),
    default=None,
    metavar="NAME",
    help="How stages are executed: serial, processes, or one of a plugin; with parameters as "
    "'{ name = \"processes\", pin = false }'. By default serial for one job, else processes.",
)

#: Adds `as_json: bool`.
json_option = click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")


def registry_from(plugin_files: Sequence[Path] = ()) -> Registry:
    """Discover plugins as `kdbench.locations.discover` does, with warnings on stderr."""
    from kdbench.locations import discover

    return discover(plugin_files, warn)


def warn(sentence: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"warning: {sentence}", err=True)


def console(stderr: bool = False) -> Console:
    """Return a rich console without markup, because names like `tsne[perplexity=5]` look like tags."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def echo_json(data: Any) -> None:
    """Print data as indented JSON, keys in their order; NaN is an error."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} can't be printed as JSON: {value!r}")
