"""Dimensionality reducers: PCA, random projection, t-SNE, UMAP, and ivis as the package and in PyTorch."""

from __future__ import annotations

from kdbench.api import ReducerSpec, Resources, hookimpl


@hookimpl
def kdbench_reducers() -> list[ReducerSpec]:
    return [
        ReducerSpec(
            name="pca",
            target="kdbench_reducers.linear:PCA",
            summary="Principal components.",
            reference="Pearson 1901; scikit-learn",
            parametric=True,
        ),
        ReducerSpec(
            name="random-projection",
            target="kdbench_reducers.linear:RandomProjection",
            summary="Gaussian random projection: what a layer looks like through a map that learned nothing.",
            reference="Johnson & Lindenstrauss 1984; scikit-learn",
            control="negative",
            parametric=True,
        ),
        ReducerSpec(
            name="tsne",
            target="kdbench_reducers.tsne:TSNE",
            summary="t-SNE (openTSNE) on exact neighbours.",
            reference="van der Maaten & Hinton 2008; Policar et al. 2024; LW section 3.2: perplexity 150",
        ),
        ReducerSpec(
            name="umap",
            target="kdbench_reducers.umap:UMAP",
            summary="UMAP (umap-learn) on exact neighbours.",
            reference="McInnes et al. 2018",
            # with a seed it optimises on one thread; numba compiles it in the first use
            resources=Resources(threads=False, memory_gib=2.0, warm_up=10.0),
        ),
        ReducerSpec(
            name="ivis",
            target="kdbench_reducers.ivis:Ivis",
            version=2,
            summary="ivis as its package trains it, on TensorFlow in a process of its own.",
            reference="Szubert et al. 2019; LW sections 3.2 and 5.3",
            requires=("ivis", "tensorflow", "tf-keras"),
            extra="ivis",
            resources=Resources(memory_gib=4.0),
            loss_history=True,
            parametric=True,
        ),
        ReducerSpec(
            name="ivis-torch",
            target="kdbench_reducers.ivis_torch:IvisTorch",
            version=3,
            summary="ivis in PyTorch: the same network, triplets, loss and stopping rule as the package.",
            reference="Szubert et al. 2019; LW sections 3.2 and 5.3",
            resources=Resources(gpu=True, memory_gib=2.0),
            loss_history=True,
            parametric=True,
        ),
    ]
