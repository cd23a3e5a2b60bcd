"""Tracking stores: log a run to MLflow and read cells back. The only package that imports MLflow."""

from kdbench.tracking.connect import tracking_uri
from kdbench.tracking.query import fetch_cells
from kdbench.tracking.tracker import Tracker

__all__ = ["Tracker", "fetch_cells", "tracking_uri"]
