"""Ways to distil beside the paper's own, and the controls that say what a distillation scheme is worth.

Losses are pure functions in the files of their schemes, with their sources; `specs_logits` lists what learns from
outputs, `specs_features` what learns from activations.
"""

from __future__ import annotations

from kdbench.api import SchemeSpec, SuiteSpec, hookimpl
from kdbench_schemes.specs_features import FEATURE_SCHEMES
from kdbench_schemes.specs_logits import LOGIT_SCHEMES


@hookimpl
def kdbench_schemes() -> list[SchemeSpec]:
    return [*LOGIT_SCHEMES, *FEATURE_SCHEMES]


@hookimpl
def kdbench_suites() -> list[SuiteSpec]:
    return [
        SuiteSpec(
            name="schemes",
            target="kdbench_schemes:suites/schemes.toml",
            summary="Every registered scheme, one student and one teacher, equal steps",
        )
    ]
