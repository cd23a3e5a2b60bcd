"""Any torchvision classifier by name, after an upsampling layer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kdbench.errors import UsageError, did_you_mean
from kdbench_networks.zoo import Trunk, Zoo

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Tensor name prefixes of the auxiliary classifiers, which are not built.
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


class TorchvisionModel(Zoo):
    """Any torchvision classifier, by torchvision's name after an upsampling layer: `torchvision/resnet50`.

    Taps: the top-level blocks (those inside `features` if a network has it), named by module path in the order
    of the forward pass; then `penultimate`, the classifier's input. Auxiliary classifiers (googlenet,
    inception_v3) are not built. squeezenet's classifier is a 1x1 convolution, so it has no linear head.

    Parameters
    ----------
    model
        torchvision's name of the model.
    upsample
        Side in pixels to which images are resized, 1..2048; None or 0 keeps their size.
    mode
        Interpolation: "nearest", "bilinear" or "bicubic".
    antialias
        Smooth when the resizing makes images smaller ("bilinear" and "bicubic" only).
    weights
        "none" or None (random), "torchvision" (its default weights), "torchvision:TAG" such as
        "torchvision:IMAGENET1K_V1", or the path of a file.

    Attributes
    ----------
    hub
        Name of the hub in `weights`.

    Raises
    ------
    ValueError
        A parameter is out of range, or torchvision does not have the model or weights.
    """

    hub = "torchvision"

    def __init__(
        self,
        *,
        model: str,
        upsample: int | None = 224,
        mode: str = "bilinear",
        antialias: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__(upsample=upsample, mode=mode, antialias=antialias, weights=weights)
        from torchvision import models

        names = models.list_models(module=models)
        if model not in names:
            raise ValueError(
                f"model={model!r}: torchvision has no such classifier; {did_you_mean(model, names)}"
            )
        tag = self._hub_tag()
        tags = list(models.get_model_weights(model).__members__)
        if tag and tag not in tags:
            raise ValueError(
                f"weights={weights!r}: torchvision has no such weights of {model}; {did_you_mean(tag, tags)}"
            )
        self.model = model

    @property
    def _name(self) -> str:
        return f"architectures/torchvision/{self.model}"

    def _trunk(self, n_classes: int, channels: int) -> Trunk:
        from torchvision import models

        from kdbench_networks.modules import last_layer, top_level_blocks

        extra: dict[str, Any] = {}
        if self.model in _AUXILIARY:
            # Its published weights use another normalisation than ImageNet's; transform_input converts.
            extra = {"aux_logits": False, "init_weights": True, "transform_input": self.pretrained}
        module = models.get_model(self.model, weights=None, num_classes=n_classes, **extra)
        if channels != 3:
            _take_channels(module, channels, self._name)
        classifier = last_layer(module)
        return Trunk(
            module, classifier, tuple(top_level_blocks(module, classifier)), _AUXILIARY.get(self.model, ())
        )

    def _hub_state(self, tag: str) -> tuple[dict[str, Tensor], str]:
        from torchvision import models

        from kdbench_networks.pretrained import url_file
        from kdbench_networks.weights import read_weights

        choice: Any = models.get_model_weights(self.model)[tag or "DEFAULT"]
        file = url_file(str(choice.url), self._name)
        return self._rename(read_weights(file)), f"{self.model}.{choice.name} ({file})"

    def _state(self) -> tuple[dict[str, Tensor], str]:
        state, where = super()._state()
        return self._rename(state), where

    def _rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename "norm.1" to "norm1" in the files of densenet."""
        if not self.model.startswith("densenet"):
            return state
        old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
        return {old.sub(r"\1\2.", name): tensor for name, tensor in state.items()}


def _take_channels(module: nn.Module, channels: int, who: str) -> None:
    """Replace the first convolution by one for `channels`, with PyTorch's default initialisation."""
    from torch import nn

    for path, conv in module.named_modules():
        if isinstance(conv, nn.Conv2d):
            if conv.in_channels != 3 or conv.groups != 1:
                break
            new = nn.Conv2d(
                channels,
                conv.out_channels,
                conv.kernel_size,  # type: ignore[arg-type]
                conv.stride,  # type: ignore[arg-type]
                conv.padding,  # type: ignore[arg-type]
                conv.dilation,  # type: ignore[arg-type]
                bias=conv.bias is not None,
            )
            parent, _, name = path.rpartition(".")
            module.get_submodule(parent).register_module(name, new)
            return
    raise UsageError(f"its first layer can't be replaced by one for {channels} channels", where=who)
