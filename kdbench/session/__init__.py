"""Prepare, execute and conclude a run, for the command line and for Python."""
