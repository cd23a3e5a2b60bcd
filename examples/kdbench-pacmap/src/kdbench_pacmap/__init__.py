"""The spec of the reducer `pacmap` for kdbench."""

from kdbench.api import ReducerSpec, Resources, hookimpl

kdbench_api = 1


@hookimpl
def kdbench_reducers() -> list[ReducerSpec]:
    return [
        ReducerSpec(
            name="pacmap",
            target="kdbench_pacmap.pacmap:PaCMAP",
            version=1,
            summary="PaCMAP: near, mid-near and further pairs, attracted and repelled in three phases.",
            reference="Wang, Huang, Rudin & Shaposhnik 2021, JMLR 22(201)",
            requires=("pacmap>=0.8",),
            # numba compiles the package on first import, about 20 s on a slow core
            resources=Resources(threads=True, memory_gib=1.0, warm_up=5.0),
        )
    ]
