"""Lee & Wallraven, "Visualizing the embedding space to explain the effect of knowledge distillation"
(ACPR 2021, LNCS 13189, pp. 462-475; arXiv 2110.04483), referred to as LW.

Details that the paper does not report are assumptions LW-A1 to LW-A13, cited where they are used.
"""

from __future__ import annotations

from kdbench.api import MetricSpec, SchemeSpec, SuiteSpec, hookimpl


@hookimpl
def kdbench_schemes() -> list[SchemeSpec]:
    return [
        SchemeSpec(
            name="undistilled",
            target="kdbench_lee2021.schemes:Undistilled",
            summary="Cross-entropy on the labelled images only",
            reference="LW section 4.2",
        ),
        SchemeSpec(
            name="kl",
            target="kdbench_lee2021.schemes:KL",
            summary="Cyclical update: cross-entropy on labelled images, KL to the teacher on unlabelled images",
            reference="LW section 3.1, eq. (1)",
            needs=frozenset({"unlabelled", "teacher_logits"}),
            whole_passes=("alternation", "epoch"),
        ),
    ]


@hookimpl
def kdbench_metrics() -> list[MetricSpec]:
    return [
        MetricSpec(
            name="superclass-correlation",
            target="kdbench_lee2021.superclass_correlation:SuperclassCorrelation",
            version=2,
            summary="Correlation of the outputs of classes that share a superclass",
            reference="LW section 5.2, Fig. 5",
            needs=frozenset({"logits", "superclasses"}),
            primary="r",
            higher_is_better=True,
            bounds=(-1.0, 1.0),
        ),
        MetricSpec(
            name="ivis-loss",
            target="kdbench_lee2021.ivis_loss:IvisLoss",
            summary="Converged triplet loss of the ivis embedding of a layer",
            reference="LW section 5.3, Table 2",
            needs=frozenset({"embedding", "loss_history"}),
            primary="last",
            higher_is_better=False,
            bounds=(0.0, None),
        ),
        MetricSpec(
            name="class-area",
            target="kdbench_lee2021.class_area:ClassArea",
            summary="Area of each class in the embedding relative to the area of all points",
            reference="LW section 5.4, Figs. 7 and 8",
            needs=frozenset({"embedding"}),
            primary="median",
            higher_is_better=False,
            bounds=(0.0, None),
        ),
        MetricSpec(
            name="noise-demonstration",
            target="kdbench_lee2021.noise_demonstration:NoiseDemonstration",
            summary="Within-cluster variance in embeddings of Gaussian clusters with increasing noise",
            reference="LW section 3.2, Fig. 1",
            needs=frozenset({"reducers"}),
            primary="within",
            bounds=(0.0, 1.0),
        ),
    ]


@hookimpl
def kdbench_suites() -> list[SuiteSpec]:
    return [
        SuiteSpec(
            name="paper-reference",
            target="kdbench_lee2021:suites/paper-reference.toml",
            summary="Table 1 (the authors' own results), Table 2 and Figs. 4, 5, 7 and 8 of LW",
            reference="LW",
        ),
        SuiteSpec(
            name="paper-embeddings",
            target="kdbench_lee2021:suites/paper-embeddings.toml",
            summary="Figs. 1 and 2 of LW: noise, and the test set under ivis and t-SNE",
            reference="LW section 3.2",
        ),
    ]
