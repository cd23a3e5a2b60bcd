"""Metrics that are not specific to one paper."""

from __future__ import annotations

from kdbench.api import MetricSpec, Resources, hookimpl

#: A second or less on one core; others can run at the same time.
_LIGHT = Resources(threads=False)


@hookimpl
def kdbench_metrics() -> list[MetricSpec]:
    return [*_of_networks(), *_of_layers(), *_of_embeddings()]


def _of_networks() -> list[MetricSpec]:
    return [
        MetricSpec(
            name="accuracy",
            target="kdbench_metrics.accuracy:Accuracy",
            version=3,
            summary="Top-1 and top-5 accuracy on the test set, with three rules for the reported epoch",
            reference="LW Table 1; Sohn et al. 2020 (FixMatch) section 4",
            needs=frozenset({"logits", "history"}),
            primary="accuracy",
            higher_is_better=True,
            bounds=(0.0, 1.0),
            resources=_LIGHT,
        ),
        MetricSpec(
            name="fidelity",
            target="kdbench_metrics.fidelity:Fidelity",
            summary="Agreement with the suite's teacher, and with an independent teacher as the control",
            reference="Stanton et al. 2021 (arXiv:2106.05945), equations 2 and 3",
            needs=frozenset({"logits", "teacher", "independent_teacher"}),
            primary="agreement",
            higher_is_better=True,
            bounds=(0.0, 1.0),
            resources=_LIGHT,
        ),
        MetricSpec(
            name="calibration",
            target="kdbench_metrics.calibration:Calibration",
            summary="Expected calibration error, negative log-likelihood and Brier score",
            reference="Guo et al. 2017 (arXiv:1706.04599), equations 3 and 4; Brier 1950",
            needs=frozenset({"logits"}),
            primary="ece",
            higher_is_better=False,
            bounds=(0.0, 1.0),
            resources=_LIGHT,
        ),
        MetricSpec(
            name="superclass-confusion",
            target="kdbench_metrics.superclass_confusion:SuperclassConfusion",
            summary="Fraction of errors within the true superclass, with the confusion matrix of superclasses",
            reference="Deng et al. 2010 (ECCV), on errors by their distance in a hierarchy",
            needs=frozenset({"logits", "superclasses"}),
            primary="within",
            higher_is_better=True,
            bounds=(0.0, 1.0),
            resources=_LIGHT,
        ),
    ]


def _of_layers() -> list[MetricSpec]:
    return [
        MetricSpec(
            name="knn-accuracy",
            target="kdbench_metrics.probes:KnnAccuracy",
            summary="Leave-one-out accuracy of exact nearest neighbours in a layer",
            reference="Cover & Hart 1967",
            needs=frozenset({"features", "neighbours"}),
            primary="accuracy",
            higher_is_better=True,
            bounds=(0.0, 1.0),
            resources=_LIGHT,
        ),
        MetricSpec(
            name="linear-probe",
            target="kdbench_metrics.probes:LinearProbe",
            summary="Cross-validated accuracy of a ridge classifier on a layer's activations",
            reference="Alain & Bengio 2016 (arXiv:1610.01644); Hoerl & Kennard 1970",
            needs=frozenset({"features"}),
            primary="accuracy",
            higher_is_better=True,
            bounds=(0.0, 1.0),
        ),
        MetricSpec(
            name="cka",
            target="kdbench_metrics.cka:Cka",
            summary="Unbiased linear CKA of a layer with every layer of the suite's teacher",
            reference="Kornblith et al. 2019 (arXiv:1905.00414); Nguyen et al. 2021 (arXiv:2010.15327), equation 3",
            needs=frozenset({"features", "teacher_features"}),
            primary="cka",
            bounds=(-1.0, 1.0),
        ),
        MetricSpec(
            name="effective-rank",
            target="kdbench_metrics.dimension:EffectiveRank",
            summary="Effective rank of a layer: exponential of the entropy of its singular values",
            reference="Roy & Vetterli 2007 (EUSIPCO)",
            needs=frozenset({"features"}),
            primary="effective_rank",
            bounds=(1.0, None),
        ),
        MetricSpec(
            name="intrinsic-dimension",
            target="kdbench_metrics.dimension:IntrinsicDimension",
            summary="Intrinsic dimension of a layer by two nearest neighbours (TwoNN)",
            reference="Facco et al. 2017 (doi:10.1038/s41598-017-11873-y)",
            needs=frozenset({"features", "neighbours"}),
            primary="linear",
            bounds=(0.0, None),
        ),
        MetricSpec(
            name="neural-collapse",
            target="kdbench_metrics.neural_collapse:NeuralCollapse",
            summary="Neural collapse NC1 to NC4 at the last layer",
            reference="Papyan, Han & Donoho 2020 (arXiv:2008.08186)",
            needs=frozenset({"features", "logits", "head"}),
            primary="nc1",
            bounds=(0.0, None),
        ),
    ]


def _of_embeddings() -> list[MetricSpec]:
    return [
        MetricSpec(
            name="silhouette",
            target="kdbench_metrics.embeddings:Silhouette",
            summary="Mean silhouette of the classes in an embedding",
            reference="Rousseeuw 1987",
            needs=frozenset({"embedding"}),
            primary="silhouette",
            higher_is_better=True,
            bounds=(-1.0, 1.0),
        ),
        MetricSpec(
            name="trustworthiness",
            target="kdbench_metrics.embeddings:Trustworthiness",
            summary="Whether neighbours in an embedding are also neighbours in its layer",
            reference="Venna & Kaski 2001 (ICANN)",
            needs=frozenset({"embedding", "features"}),
            primary="trustworthiness",
            higher_is_better=True,
            bounds=(0.0, 1.0),
        ),
        MetricSpec(
            name="continuity",
            target="kdbench_metrics.embeddings:Continuity",
            summary="Whether neighbours in a layer are also neighbours in its embedding",
            reference="Venna & Kaski 2001 (ICANN)",
            needs=frozenset({"embedding", "neighbours"}),
            primary="continuity",
            higher_is_better=True,
            bounds=(0.0, 1.0),
        ),
        MetricSpec(
            name="neighbourhood-hit",
            target="kdbench_metrics.embeddings:NeighbourhoodHit",
            summary="Fraction of nearest neighbours in an embedding that have the same class",
            reference="Paulovich et al. 2008 (doi:10.1109/TVCG.2008.443)",
            needs=frozenset({"embedding"}),
            primary="hit",
            higher_is_better=True,
            bounds=(0.0, 1.0),
            resources=_LIGHT,
        ),
    ]
