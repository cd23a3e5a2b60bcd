"""Tracking stores: events of a run to MLflow, and cells back from it. The only room that imports MLflow."""

from kdbench.tracking.tracker import Tracker, fetch_cells, tracking_uri

__all__ = ["Tracker", "fetch_cells", "tracking_uri"]
