"""Semi-supervised methods: those that LW compares with distillation in Table 1, and two later ones.

The parameter `variant` of each scheme selects the code of the published comparison
(github.com/google-research/fixmatch: Sohn et al., NeurIPS 2020, table 2) or the paper that introduced the method.
The recipe of that comparison is part of the suite: SGD with Nesterov's momentum 0.9, batches of 64 labelled images, a
learning rate of 0.03 that follows cos(7 pi k / 16 K) over K = 2^20 steps, weight decay of 0.0005 (0.001 for
CIFAR-100) on kernels only, flips and 4-pixel shifts with reflection.
"""

from __future__ import annotations

from kdbench.api import SchemeSpec, SuiteSpec, hookimpl

_POOL = frozenset({"unlabelled", "ema"})
_PAPER_FIRST = ("paper", "code")
_CODE_FIRST = ("code", "paper")


@hookimpl
def kdbench_schemes() -> list[SchemeSpec]:
    return [
        SchemeSpec(
            name="pi-model",
            target="kdbench_semisup.consistency:PiModel",
            summary="Cross-entropy, and squared difference between the predictions for two views",
            reference="Laine & Aila, Temporal Ensembling for Semi-Supervised Learning, ICLR 2017, section 2.1",
            needs=_POOL,
            variants=_CODE_FIRST,
        ),
        SchemeSpec(
            name="pseudo-label",
            target="kdbench_semisup.pseudo_label:PseudoLabel",
            summary="Cross-entropy with labels and with the student's confident predictions",
            reference="Lee, Pseudo-Label, ICML Workshop on Challenges in Representation Learning 2013, eq. (15)",
            needs=_POOL,
            variants=_CODE_FIRST,
        ),
        SchemeSpec(
            name="mean-teacher",
            target="kdbench_semisup.consistency:MeanTeacher",
            summary="Cross-entropy, and squared difference to the predictions of the averaged weights",
            reference="Tarvainen & Valpola, Mean teachers are better role models, NeurIPS 2017, section 2",
            needs=_POOL,
            variants=_CODE_FIRST,
        ),
        SchemeSpec(
            name="mixmatch",
            target="kdbench_semisup.mixmatch:MixMatch",
            summary="Mixtures of images with true labels and with sharpened predictions",
            reference="Berthelot et al., MixMatch, NeurIPS 2019, algorithm 1",
            needs=_POOL,
            variants=_CODE_FIRST,
        ),
        SchemeSpec(
            name="fixmatch",
            target="kdbench_semisup.fixmatch:FixMatch",
            summary="Confident predictions for weakly augmented images are labels of strongly augmented images",
            reference="Sohn et al., FixMatch, NeurIPS 2020, eqs. (3) and (4)",
            needs=_POOL,
            variants=_PAPER_FIRST,
        ),
        SchemeSpec(
            name="uda",
            target="kdbench_semisup.uda:UDA",
            summary="Sharpened predictions for weakly augmented images are targets of strongly augmented images",
            reference="Xie et al., Unsupervised Data Augmentation, NeurIPS 2020, eq. (1)",
            needs=_POOL,
            variants=_PAPER_FIRST,
        ),
        SchemeSpec(
            name="flexmatch",
            target="kdbench_semisup.flexmatch:FlexMatch",
            summary="FixMatch with lower thresholds for classes that are learned more slowly",
            reference="Zhang et al., FlexMatch, NeurIPS 2021, algorithm 1",
            needs=_POOL,
            variants=_PAPER_FIRST,
        ),
    ]


@hookimpl
def kdbench_suites() -> list[SuiteSpec]:
    return [
        SuiteSpec(
            name="fixmatch-comparison",
            target="kdbench_semisup:suites/fixmatch-comparison.toml",
            summary="Table 1 of Lee & Wallraven 2021: semi-supervised methods and distillation",
        )
    ]
