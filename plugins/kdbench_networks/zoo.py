"""Common base of the timm and torchvision networks: upsampling, weights and taps."""

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
    """A library's network without the upsampling.

    Attributes
    ----------
    module
        The network with a classifier for the required number of classes.
    classifier
        Path of the classifier.
    taps
        Paths of the candidate taps, in the order of definition.
    unused
        Prefixes of names in weights files that this network does not have.
    prefix
        Prefix of the library's names in this module.
    """

    module: nn.Module
    classifier: str
    taps: tuple[str, ...]
    unused: tuple[str, ...] = ()
    prefix: str = ""


class Zoo(ABC):
    """Base class of the library networks: upsampling, weights and taps.

    Pretrained networks accept one or three channels and get grey images as three equal channels. Other networks
    get a first convolution for the channels of the images.

    Parameters
    ----------
    upsample
        Side in pixels to which images are resized, 1..2048; None or 0 keeps their size.
    mode
        Interpolation: "nearest", "bilinear" or "bicubic".
    antialias
        Smooth when the resizing makes images smaller ("bilinear" and "bicubic" only).
    weights
        None or "none" (random), the name of the library (see the subclass), or the path of a file:
        `.safetensors` or a `torch.save` file. A classifier in the file for another number of classes is
        skipped; any other mismatch is an error.

    Attributes
    ----------
    hub
        Name of the hub in `weights`.

    Raises
    ------
    ValueError
        A parameter is out of range.
    """

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
                f"upsample={upsample}: must be a side in pixels up to {MAX_SIZE}, or 0 or None to keep the size"
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
        """Whether weights are loaded."""
        return self.weights not in (None, "none")

    @property
    def weights_file(self) -> Path | None:
        """The local file of `weights`, or None."""
        if not self.pretrained or self._hub_tag() is not None:
            return None
        return Path(str(self.weights)).expanduser()

    def build(self, n_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        """Build the network; see `kdbench.api.Architecture`.

        Parameters
        ----------
        n_classes
            Number of classes.
        input_shape
            (h, w, c) of the images.

        Returns
        -------
        nn.Module
            A `Network`.

        Raises
        ------
        DataError
            The weights are missing, damaged, do not fit or can't be downloaded.
        UsageError
            The network does not accept images of this size or number of channels.
        """
        from kdbench_networks import modules
        from kdbench_networks.weights import load_weights

        channels = input_shape[2]
        if self.pretrained and channels not in (1, 3):
            raise UsageError(
                f"weights={self.weights!r} are for colour images, but the images have {channels} channels",
                where=self._name,
                hint="set weights = 'none'",
            )
        state, where = self._state() if self.pretrained else (None, "")
        trunk = self._trunk(n_classes, 3 if self.pretrained else channels)
        if state is not None:
            tensors = library_names(state, trunk.classifier, trunk.prefix)
            load_weights(trunk.module, tensors, head=trunk.classifier, where=where, ignored=trunk.unused)
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
        """ImageNet's for pretrained networks (including local files), None for the others."""
        return IMAGENET if self.pretrained else None

    @property
    @abstractmethod
    def _name(self) -> str:
        """The component, for error messages."""

    @abstractmethod
    def _trunk(self, n_classes: int, channels: int) -> Trunk: ...

    @abstractmethod
    def _hub_state(self, tag: str) -> tuple[dict[str, Tensor], str]:
        """The hub's weights by the library's names, and their origin; `tag` is "" for the default."""

    def _taps(
        self, network: Network, candidates: tuple[str, ...], input_shape: tuple[int, int, int]
    ) -> dict[str, str]:
        from kdbench_networks.modules import find_taps

        return find_taps(network, candidates, input_shape, self._name)

    def _hub_tag(self) -> str | None:
        """Text after the hub's name in `weights`; None if `weights` is a file."""
        name, _, tag = str(self.weights).partition(":")
        return tag if name == self.hub else None

    def _state(self) -> tuple[dict[str, Tensor], str]:
        from kdbench_networks.weights import read_weights

        tag = self._hub_tag()
        if tag is not None:
            return self._hub_state(tag)
        return read_weights(str(self.weights)), str(self.weights)


def library_names(state: Mapping[str, Tensor], classifier: str, prefix: str = "") -> dict[str, Tensor]:
    """Rename the tensors of a file to the names in a trunk.

    Parameters
    ----------
    state
        Tensors of a file of the library, or of kdbench's `Network` (all names begin with "trunk.").
    classifier
        Path of the classifier in the trunk.
    prefix
        Prefix of the library's names in the trunk.

    Returns
    -------
    dict[str, Tensor]
        Tensors by the trunk's names.
    """
    if not all(name.startswith("trunk.") for name in state):
        return {prefix + name: tensor for name, tensor in state.items()}
    renamed = {name.removeprefix("trunk."): tensor for name, tensor in state.items()}
    return {n.replace(f"{classifier}.linear.", f"{classifier}."): tensor for n, tensor in renamed.items()}
