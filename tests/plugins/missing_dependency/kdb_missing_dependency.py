"""A plugin that imports what its distribution requires and nobody has installed."""

import kdb_absent  # noqa: F401
