"""SimCLR (Chen, Kornblith, Norouzi & Hinton, ICML 2020; arXiv 2002.05709): training without labels."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from kdbench.api import check_integer, check_number
from kdbench_schemes.contrastive import Views, nt_xent

if TYPE_CHECKING:
    from torch import nn

    from kdbench.api import SchemeRun, SchemeSetup
    from kdbench_schemes._common import Losses


class SimCLR:
    """Contrastive training: two random views of an image get similar embeddings; labels are not used.

    An epoch is one pass over the unlabelled images, then one over the labelled images without their labels. The last
    linear layer is not trained, so the scheme gives a network for fine-tuning, not a classifier.

    Parameters
    ----------
    temperature
        Temperature of the similarities, > 0; 0.5 for CIFAR-10 (appendix B.9).
    projection
        Outputs of the projection head, >= 1.
    layers
        Linear layers of the projection head, >= 1; 2 in the paper, 3 in SimCLRv2.
    strength
        Strength of the colour jitter, >= 0.
    smallest
        Smallest area of a crop as a fraction of the image, in (0, 1].
    """

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        projection: int = 128,
        layers: int = 2,
        strength: float = 0.5,
        smallest: float = 0.08,
    ) -> None:
        self.temperature = check_number("temperature", temperature, above=0)
        self.projection = check_integer("projection", projection, at_least=1)
        self.layers = check_integer("layers", layers, at_least=1)
        self.strength = check_number("strength", strength, at_least=0)
        if not 0 < smallest <= 1:
            raise ValueError(f"smallest={smallest!r}: a number above 0 and at most 1")
        self.smallest = smallest

    def modules(self, setup: SchemeSetup) -> nn.Module:
        """The projection head: linear layers with ReLU between them, after the input of the last linear layer."""
        from torch import nn

        width, layers = setup.student_width, []
        for _ in range(self.layers - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, self.projection))

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"nt_xent": loss} for every batch."""
        import torch

        head = run.modules
        assert head is not None
        views = Views(self.strength, self.smallest)
        pool = run.unlabelled() if run.n_unlabelled else ()
        for batch in chain(pool, run.labelled()):
            both = torch.cat([run.augmented(batch, views), run.augmented(batch, views)])
            features = run.forward(both.contiguous(memory_format=torch.channels_last)).penultimate
            one, other = head(features).chunk(2)
            yield {"nt_xent": nt_xent(one, other, temperature=self.temperature)}
