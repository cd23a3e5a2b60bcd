"""A plugin that can't be imported."""

import kdb_nowhere  # noqa: F401
