"""Connect to a tracking store. MLflow is imported when a store is opened."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kdbench.errors import WorkspaceError

if TYPE_CHECKING:
    from types import ModuleType

    from mlflow import MlflowClient

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")


def tracking_uri(uri: str | None, workspace: Path) -> str:
    """Return `uri`, else $MLFLOW_TRACKING_URI, else the URI of an SQLite file in the workspace."""
    return (
        uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(workspace).resolve() / 'mlflow.db'}"
    )


def open_client(uri: str, *, create: bool = True) -> MlflowClient:
    """Connect to a tracking store. A new SQLite file is initialised by one process at a time.

    Parameters
    ----------
    uri
        MLflow's tracking URI.
    create
        Whether to create an SQLite file that does not exist.

    Returns
    -------
    MlflowClient
        A client that has answered a request.

    Raises
    ------
    WorkspaceError
        The store does not exist, refuses the connection or is of an unknown kind.
    """
    scheme = (urlsplit(uri).scheme or uri).split("+")[0]
    if scheme not in SCHEMES:
        raise WorkspaceError(
            f"the tracking URI {uri!r} is none that kdbench can use",
            hint="MLflow no longer takes folders of files; use sqlite:///path/to/mlflow.db or http://host:port",
        )
    if scheme == "sqlite":
        return _open_sqlite(uri, create)
    if scheme in ("postgresql", "mysql", "mssql"):
        _check_port(uri)
    mlflow = _mlflow()
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except ImportError as error:
        raise WorkspaceError(
            f"the driver of this database is not installed: {error}",
            where=public_uri(uri),
            hint=f"install the Python driver of {scheme}, or go through an MLflow server (http://...)",
        ) from error
    return client


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Raise errors of MLflow and of the database as a WorkspaceError that names the store."""
    _mlflow()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        lines = str(error).strip().splitlines()
        what = lines[0][:300] if lines else type(error).__name__
        hint = (
            "is the server up, and the address right? the records are in the workspace: `kdbench track sync`"
        )
        if "out-of-date database schema" in str(error):
            hint = f"the database was made by another MLflow: mlflow db upgrade {uri}"
        raise WorkspaceError(
            f"the tracking store can't be used: {what}", where=public_uri(uri), hint=hint
        ) from error


def public_uri(uri: str) -> str:
    """Return the URI without its password."""
    parts = urlsplit(uri)
    if not parts.password:
        return uri
    return uri.replace(f":{parts.password}@", ":***@")


def _check_port(uri: str) -> None:
    """Fail within seconds: MLflow retries a database for minutes, which no setting of it shortens."""
    parts = urlsplit(uri)
    port = parts.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}[parts.scheme.split("+")[0]]
    try:
        socket.create_connection((parts.hostname or "localhost", port), timeout=5).close()
    except OSError as error:
        raise WorkspaceError(
            f"no answer from {parts.hostname or 'localhost'}:{port}: {error}", where=public_uri(uri)
        ) from error


def _open_sqlite(uri: str, create: bool) -> MlflowClient:
    from filelock import FileLock, Timeout

    name = uri.split("?")[0].partition(":///")[2]
    if not name:
        raise WorkspaceError(
            f"the tracking URI {uri!r} names no file",
            hint="write sqlite:///path/to/mlflow.db (three slashes)",
        )
    path = Path(name)
    if not path.exists() and not create:
        raise WorkspaceError(
            "there is no tracking database", where=str(path), hint="run a suite first, or give --tracking-uri"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open("rb") as f:
                head = f.read(16)
            if head not in (b"", b"SQLite format 3\0"):
                raise WorkspaceError("the tracking database is not an SQLite file", where=str(path))
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            if not create:
                return _mlflow().MlflowClient(tracking_uri=uri)  # to read from
            raise PermissionError(f"not writable: {path}")
        # Two processes must not initialise a database at once. The lock file stays.
        with FileLock(f"{path}.lock", timeout=120):
            client = _mlflow().MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
    except Timeout as error:
        raise WorkspaceError(
            "another process has been initialising the tracking database for two minutes",
            where=f"{path}.lock",
        ) from error
    except OSError as error:
        raise WorkspaceError(
            f"the tracking database can't be opened for writing: {error}",
            where=str(path),
            hint="choose another --workspace or --tracking-uri",
        ) from error
    return client


def _mlflow() -> ModuleType:
    """Import MLflow without telemetry (unless the user decided about it) and with warnings and errors only."""
    if not {"MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"} & os.environ.keys():
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # MLflow's defaults (7 retries, 120 s each) would hold up a training for minutes at every event.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    import mlflow

    for name in ("mlflow", "alembic"):
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)
    return mlflow
