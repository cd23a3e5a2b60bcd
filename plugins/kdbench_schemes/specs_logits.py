"""Specs of the schemes that distil outputs, and of the controls."""

from __future__ import annotations

from kdbench.api import SchemeSpec

TEACHER = frozenset({"unlabelled_if_any", "teacher_logits"})
POOL = frozenset({"unlabelled_if_any"})

LOGIT_SCHEMES: tuple[SchemeSpec, ...] = (
    SchemeSpec(
        name="hinton",
        target="kdbench_schemes.hinton:Hinton",
        summary="Cross-entropy and T² KL to the teacher's soft targets in every step",
        reference="Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2",
        needs=TEACHER,
    ),
    SchemeSpec(
        name="logits-mse",
        target="kdbench_schemes.logits_mse:LogitsMSE",
        summary="Regression on the teacher's logits",
        reference="Ba & Caruana 2014, arXiv 1312.6184, eq. (1)",
        needs=TEACHER,
        variants=("code", "paper"),
    ),
    SchemeSpec(
        name="dkd",
        target="kdbench_schemes.dkd:DKD",
        summary="Decoupled KL: target class against the rest, and distribution over the other classes",
        reference="Zhao et al. 2022, arXiv 2203.08679, eq. (7)",
        needs=TEACHER,
    ),
    SchemeSpec(
        name="dist",
        target="kdbench_schemes.dist:DIST",
        summary="Correlation with the teacher's outputs over classes and over images",
        reference="Huang et al. 2022, arXiv 2205.10536, eq. (10)",
        needs=TEACHER,
    ),
    SchemeSpec(
        name="logit-standardization",
        target="kdbench_schemes.logit_standardization:LogitStandardization",
        summary="KL between logits standardised to zero mean and unit standard deviation",
        reference="Sun et al. 2024, arXiv 2403.01427, Algorithm 1",
        needs=TEACHER,
    ),
    SchemeSpec(
        name="multi-teacher",
        target="kdbench_schemes.multi_teacher:MultiTeacher",
        summary="KL to the average of several teachers' probabilities or logits",
        reference="Hinton, Vinyals & Dean 2015, section 3; You et al. 2017, KDD",
        needs=frozenset({"unlabelled_if_any", "several_teachers"}),
    ),
    SchemeSpec(
        name="quantized",
        target="kdbench_schemes.quantized:Quantized",
        summary="A student with quantised weights: quantized distillation, differentiable quantization",
        reference="Polino, Pascanu & Alistarh 2018, arXiv 1802.05668, sections 3 and 4",
        needs=TEACHER,
    ),
    SchemeSpec(
        name="simclr",
        target="kdbench_schemes.simclr:SimCLR",
        summary="Contrastive training without labels; the pretraining of simclr2's teacher",
        reference="Chen et al. 2020, arXiv 2002.05709, Algorithm 1",
        needs=POOL,
    ),
    SchemeSpec(
        name="simclr2",
        target="kdbench_schemes.simclr2:SimCLR2",
        summary="Distillation without labels from a teacher that was pretrained without labels",
        reference="Chen et al. 2020, arXiv 2006.10029, eqs. (2) and (3)",
        needs=TEACHER,
        pretraining="simclr",
    ),
    SchemeSpec(
        name="simclr2-self",
        target="kdbench_schemes.simclr2:SimCLR2",
        summary="simclr2 with a teacher of the student's architecture",
        reference="Chen et al. 2020, arXiv 2006.10029, section 2",
        needs=TEACHER,
        teacher="own",
        pretraining="simclr",
    ),
    SchemeSpec(
        name="born-again",
        target="kdbench_schemes.born_again:BornAgain",
        summary="Generations of one architecture, each with the previous one as teacher",
        reference="Furlanello et al. 2018, arXiv 1805.04770, section 3",
        needs=TEACHER,
        teacher="own",
    ),
    SchemeSpec(
        name="mutual",
        target="kdbench_schemes.mutual:Mutual",
        summary="Networks trained together on the labels and on each other's outputs",
        reference="Zhang et al. 2018, arXiv 1706.00384, eqs. (4) to (7)",
        needs=POOL,
    ),
    SchemeSpec(
        name="label-smoothing",
        target="kdbench_schemes.controls:LabelSmoothing",
        summary="Cross-entropy against smoothed labels: soft targets without a teacher",
        reference="Szegedy et al. 2016, arXiv 1512.00567, section 7",
        control="negative",
    ),
    SchemeSpec(
        name="tf-kd",
        target="kdbench_schemes.controls:TfKD",
        summary="A hand-designed teacher that depends on the label only",
        reference="Yuan et al. 2020, arXiv 1909.11723, section 5 (Tf-KD_reg)",
        control="negative",
        variants=("code", "paper"),
    ),
    SchemeSpec(
        name="random-teacher",
        target="kdbench_schemes.hinton:Hinton",
        summary="hinton with an untrained teacher",
        reference="Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2",
        needs=TEACHER,
        teacher="untrained",
        control="negative",
    ),
    SchemeSpec(
        name="shuffled-teacher",
        target="kdbench_schemes.controls:ShuffledTeacher",
        summary="hinton with the teacher's non-maximal classes permuted for each image (DKPP)",
        reference="Furlanello et al. 2018, arXiv 1805.04770, section 4.3",
        needs=TEACHER,
        control="negative",
    ),
    SchemeSpec(
        name="teacher-copy",
        target="kdbench_schemes.controls:TeacherCopy",
        summary="The student is a copy of its teacher: the upper bound of fidelity",
        reference="Stanton et al. 2021, arXiv 2106.05945",
        needs=frozenset({"teacher_features"}),
        teacher="own",
        control="positive",
    ),
)
