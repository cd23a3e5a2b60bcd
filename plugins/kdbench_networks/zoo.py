"""What the networks of the libraries have in common: the upsampling in front, the weights, the taps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.api import IMAGENET, Normalization
from kdbench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdbench_networks.modules import Network

MODES = ("nearest", "bilinear", "bicubic")
MAX_SIZE = 2048


@dataclass(frozen=True)
class Trunk:
    """A network of a library before anything is put around it.

    Attributes:
        module: with its classifier for the wanted number of classes.
        classifier: path of the classifier.
        taps: candidates for taps, in the order of definition.
        unused: prefixes of names that this network leaves out.
        prefix: what stands before the library's names in this module's.
    """

    module: nn.Module
    classifier: str
    taps: tuple[str, ...]
    unused: tuple[str, ...] = ()
    prefix: str = ""


class Zoo(ABC):
    """What the networks of a library have in common: the front, the weights, the taps.

    Args:
        upsample: side in pixels to which images are resized before the network; None or 0: as they come.
        mode: "nearest", "bilinear" or "bicubic".
        antialias: smooth where the resizing makes images smaller (bilinear and bicubic).
        weights: None or "none" for random ones, the name of the library (see the class), or the path of a
            file: `.safetensors`, or what torch.save wrote. A classifier in the file with another number of
                classes is
            left out; anything else that does not fit is an error.

    Gray images: pretrained networks see them as three equal channels; others get a first convolution of one
    channel. Pretrained networks take one or three channels.

    Raises:
        ValueError: a parameter out of its range.
    """

    #: First words that name a hub in `weights`.
    hub = "timm"

    def __init__(
        self,
        *,
        upsample: int | None = 224,
        mode: str = "bilinear",
        antialias: bool = False,
        weights: str | None = None,
    ) -> None:
        if upsample is not None and not 0 <= upsample <= MAX_SIZE:
            raise ValueError(
                f"upsample={upsample}: must be a side in pixels up to {MAX_SIZE}, or 0 or None for none"
            )
        if mode not in MODES:
            raise ValueError(f"mode={mode!r}: must be one of {', '.join(MODES)}")
        if antialias and mode == "nearest":
            raise ValueError("antialias=True: mode='nearest' has none; use 'bilinear' or 'bicubic'")
        if weights == "":
            raise ValueError(f"weights='': must be 'none', {self.hub!r} or the path of a file")
        self.upsample = upsample
        self.mode = mode
        self.antialias = antialias
        self.weights = weights

    @property
    def pretrained(self) -> bool:
        """Whether weights are loaded, from wherever."""
        return self.weights not in (None, "none")

    @property
    def weights_file(self) -> Path | None:
        """The local file that `weights` names, or None."""
        if not self.pretrained or self._hub_tag() is not None:
            return None
        return Path(str(self.weights)).expanduser()

    def build(self, n_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        """See `kdbench.api.Architecture`.

        Raises:
            DataError: weights that are missing, damaged or do not fit, or no network to fetch them.
            UsageError: a network that can't take images of this size or number of channels.
        """
        from kdbench_networks import modules
        from kdbench_networks.weights import load_weights

        channels = input_shape[2]
        if self.pretrained and channels not in (1, 3):
            raise UsageError(
                f"weights={self.weights!r} are for colour images, these have {channels} channels",
                where=self._name,
                hint="set weights = 'none'",
            )
        state, where = self._state() if self.pretrained else (None, "")
        trunk = self._trunk(n_classes, 3 if self.pretrained else channels)
        if state is not None:
            own = library_names(state, trunk.classifier, trunk.prefix)
            load_weights(trunk.module, own, head=trunk.classifier, where=where, ignored=trunk.unused)
        gray = self.pretrained and channels == 1
        front = modules.make_front(self.upsample, self.mode, self.antialias, gray)
        network = modules.Network(front, trunk.module, trunk.classifier)
        network.tap_paths = self._taps(network, trunk.taps, input_shape)
        return network

    def taps(self, model: nn.Module) -> Mapping[str, str]:
        return dict(model.tap_paths)  # type: ignore[arg-type, call-overload]

    def head(self, model: nn.Module) -> str:
        return str(model.head_path)

    @property
    def normalization(self) -> Normalization | None:
        """ImageNet's for pretrained networks (a local file's too), None for the others."""
        return IMAGENET if self.pretrained else None

    @property
    @abstractmethod
    def _name(self) -> str:
        """The component, for errors."""

    @abstractmethod
    def _trunk(self, n_classes: int, channels: int) -> Trunk: ...

    @abstractmethod
    def _hub_state(self, tag: str) -> tuple[dict[str, Tensor], str]:
        """The hub's weights by the library's names, and where they come from. `tag` is "" for the default."""

    def _taps(
        self, network: Network, candidates: tuple[str, ...], input_shape: tuple[int, int, int]
    ) -> dict[str, str]:
        from kdbench_networks.modules import find_taps

        return find_taps(network, candidates, input_shape, self._name)

    def _hub_tag(self) -> str | None:
        """What follows the hub's name in `weights`; None when it names a file."""
        name, _, tag = str(self.weights).partition(":")
        return tag if name == self.hub else None

    def _state(self) -> tuple[dict[str, Tensor], str]:
        from kdbench_networks.weights import read_weights

        tag = self._hub_tag()
        if tag is not None:
            return self._hub_state(tag)
        return read_weights(str(self.weights)), str(self.weights)


def library_names(state: Mapping[str, Tensor], classifier: str, prefix: str = "") -> dict[str, Tensor]:
    """Names as a trunk has them before it is put into a `Network`.

    Args:
        state: from a file of the library, or of kdbench's own `Network` (all names begin with "trunk.").
        classifier: path of the classifier in the trunk.
        prefix: what stands before the library's names in the trunk's.
    """
    if not all(name.startswith("trunk.") for name in state):
        return {prefix + name: tensor for name, tensor in state.items()}
    renamed = {name.removeprefix("trunk."): tensor for name, tensor in state.items()}
    return {n.replace(f"{classifier}.linear.", f"{classifier}."): tensor for n, tensor in renamed.items()}
