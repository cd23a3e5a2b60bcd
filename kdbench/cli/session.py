"""A session from the options that `run` and `plan` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdbench.session.prepare import Session


def prepare(
    suite: str,
    *,
    scale: str | None,
    overrides: tuple[str, ...],
    plugin_files: tuple[Path, ...],
    workspace: Path,
    data_dir: Path | None,
    seed: int,
    device: str | None,
    only_plan: bool = False,
) -> Session:
    """See `kdbench.session.prepare.prepare`; plugins and data are looked for where the options say."""
    from kdbench.cli.options import data_places, registry_from
    from kdbench.session import prepare as session

    return session.prepare(
        suite, scale=scale, overrides=overrides, registry=registry_from(plugin_files), workspace=workspace,
        places=data_places(data_dir), seed=seed, device=device, only_plan=only_plan,
    )  # fmt: skip
