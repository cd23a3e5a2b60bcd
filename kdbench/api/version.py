"""Version of the plugin interface, and how long old versions are supported.

A plugin says which version it was written for by a line in the module that has its hooks:

    kdbench_api = 1

A plugin without it is taken to be written for the current version. New hooks, new fields of specs with a default
and new optional members of a component do not raise the version. What does: a hook, a field or a member that is
taken away, or means something else. Then

1. `API_VERSION` is raised, and `OLDEST_API_VERSION` stays: plugins of the old version go on working and are
   reported as old (`kdbench plugins list`; an error under `KDBENCH_STRICT=1`, so that their own tests notice).
   A hook that is to go is marked with pluggy's `warn_on_impl`, which is reported likewise.
2. One minor release of kdbench later at the earliest, `OLDEST_API_VERSION` follows, and a plugin of the old version
   is refused with what to upgrade.
"""

#: What this kdbench serves.
API_VERSION = 1
#: The oldest version whose plugins still work.
OLDEST_API_VERSION = 1
