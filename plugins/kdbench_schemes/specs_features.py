"""Specs of the schemes that distil activations."""

from __future__ import annotations

from kdbench.api import SchemeSpec

FEATURES = frozenset({"unlabelled_if_any", "teacher_features"})

FEATURE_SCHEMES: tuple[SchemeSpec, ...] = (
    SchemeSpec(
        name="fitnets",
        target="kdbench_schemes.fitnets:FitNets",
        summary="Predict the teacher's middle layer first, then learn from its soft targets",
        reference="Romero et al. 2015, arXiv 1412.6550, eq. (3) and section 2",
        needs=FEATURES | {"teacher_logits"},
        variants=("paper", "code"),
    ),
    SchemeSpec(
        name="attention-transfer",
        target="kdbench_schemes.attention_transfer:AttentionTransfer",
        summary="Attention maps: energy of the activations per pixel, at the end of each stage",
        reference="Zagoruyko & Komodakis 2017, arXiv 1612.03928, eq. (2)",
        needs=FEATURES,
        variants=("code", "paper"),
    ),
    SchemeSpec(
        name="similarity",
        target="kdbench_schemes.similarity:Similarity",
        summary="Similarities of the images in a batch: Gram matrices",
        reference="Tung & Mori 2019, arXiv 1907.09682, eqs. (1)-(4)",
        needs=FEATURES,
    ),
    SchemeSpec(
        name="rkd",
        target="kdbench_schemes.rkd:RKD",
        summary="Distances between pairs of images and angles between triplets",
        reference="Park et al. 2019, arXiv 1904.05068, eqs. (4)-(8)",
        needs=FEATURES,
    ),
    SchemeSpec(
        name="pkt",
        target="kdbench_schemes.pkt:PKT",
        summary="Cosine similarities in a batch as neighbourhood probabilities",
        reference="Passalis & Tefas 2018, arXiv 1803.10837, section 3",
        needs=FEATURES,
    ),
    SchemeSpec(
        name="vid",
        target="kdbench_schemes.vid:VID",
        summary="Likelihood of the teacher's layers under a Gaussian regressed from the student's",
        reference="Ahn et al. 2019, arXiv 1904.05835, eqs. (3)-(5)",
        needs=FEATURES,
    ),
    SchemeSpec(
        name="crd",
        target="kdbench_schemes.crd:CRD",
        summary="Contrast the embeddings of an image by both networks with those of other images",
        reference="Tian, Krishnan & Isola 2020, arXiv 1910.10699, eqs. (10)-(19)",
        needs=FEATURES,
        variants=("code", "paper"),
    ),
    SchemeSpec(
        name="reviewkd",
        target="kdbench_schemes.reviewkd:ReviewKD",
        summary="Each layer of the teacher supervises the student's layer at its depth and all deeper ones",
        reference="Chen et al. 2021, arXiv 2104.09044, section 3",
        needs=FEATURES,
    ),
    SchemeSpec(
        name="amtml",
        target="kdbench_schemes.amtml:AMTML",
        summary="Several teachers with weights per image, relations between images, and hints",
        reference="Liu, Zhang & Wang 2020, arXiv 2103.04062",
        needs=FEATURES | {"several_teachers"},
    ),
)
