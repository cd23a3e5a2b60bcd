"""One orchestration for the command line and for Python: prepare, execute, conclude."""
