"""One way in for command line and Python: what both prepare, run and measure alike. See `kdbench` for its names."""
