"""ResNet-18, and any timm classifier by name, after an upsampling layer."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from kdbench.api import IMAGENET, Normalization
from kdbench.errors import DataError, UsageError, did_you_mean
from kdbench_networks.zoo import Trunk, Zoo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdbench_networks.modules import Network

#: Meaning of `weights="timm"` for `resnet18`: the weights that torchvision first published.
RESNET18_WEIGHTS = "resnet18.tv_in1k"


def timm_trunk(model: str, n_classes: int, channels: int, who: str) -> Trunk:
    """Build a timm network with random weights; its taps are the modules of timm's `feature_info`.

    A network with several classifiers (distilled transformers) gets one linear layer on timm's pooled
    features instead.

    Parameters
    ----------
    model
        timm's name of the model.
    n_classes
        Number of classes.
    channels
        Channels of the images.
    who
        The architecture, for the error message.

    Returns
    -------
    Trunk
        The network, its classifier and its taps.

    Raises
    ------
    UsageError
        timm can't build the model for this number of channels.
    """
    import timm

    from kdbench_networks.modules import top_level_blocks

    try:
        module = timm.create_model(model, pretrained=False, num_classes=n_classes, in_chans=channels)
        classifier = _timm_classifier(module)
        if classifier is None:
            body = timm.create_model(model, pretrained=False, num_classes=0, in_chans=channels)
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"timm can't build it for {channels} channels and {n_classes} classes: {error}",
            where=who,
            hint="choose another model; some accept colour images only",
        ) from error
    if classifier is None:
        return _headless(body, n_classes)
    stages = _stages(module) or top_level_blocks(module, classifier)
    return Trunk(module, classifier, tuple(stages))


def _headless(body: nn.Module, n_classes: int) -> Trunk:
    from torch import nn

    from kdbench_networks.modules import top_level_blocks

    described: Any = body
    linear = nn.Linear(int(getattr(body, "head_hidden_size", 0) or described.num_features), n_classes)
    module = nn.Sequential(OrderedDict(body=body, classifier=linear))
    stages = _stages(body) or top_level_blocks(body, "")
    named = described.pretrained_cfg.get("classifier") or ()
    unused = tuple(f"body.{path}." for path in ((named,) if isinstance(named, str) else named))
    return Trunk(module, "classifier", tuple(f"body.{path}" for path in stages), unused, prefix="body.")


def _stages(module: nn.Module) -> list[str]:
    paths = {path for path, _ in module.named_modules() if path}
    info: Any = getattr(module, "feature_info", None) or []
    return [stage["module"] for stage in info if stage.get("module") in paths]


def _timm_classifier(module: nn.Module) -> str | None:
    """Path of the linear classifier in timm's configuration; None unless there is exactly one."""
    from torch import nn

    config: Any = getattr(module, "pretrained_cfg", None) or {}
    named = config.get("classifier")
    if not isinstance(named, str) or named not in dict(module.named_modules()):
        return None
    return named if isinstance(module.get_submodule(named), nn.Linear) else None


def timm_state(model: str, who: str) -> tuple[dict[str, Tensor], str]:
    """Load the pretrained weights of a timm model, with timm's current tensor names.

    Parameters
    ----------
    model
        "architecture.tag".
    who
        The architecture, for the error message.

    Returns
    -------
    tuple[dict[str, Tensor], str]
        Tensors by name; and the model and file, for messages.

    Raises
    ------
    DataError
        timm has no weights, they can't be downloaded, or they do not fit.
    """
    import timm
    import torch
    from timm.models import get_pretrained_cfg

    from kdbench_networks.pretrained import timm_file
    from kdbench_networks.weights import read_weights

    cfg: Any = get_pretrained_cfg(model)
    if cfg is None or not cfg.has_weights:
        raise DataError(f"timm has no weights for {model}", where=who, hint="set weights = 'none'")
    file = timm_file(cfg, who)
    overlay = {"state_dict": read_weights(file), "source": ""}
    try:
        # Some files have older names, which timm's builder translates. It must not advance the random state.
        with torch.random.fork_rng(devices=[]):
            network = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError) as error:
        raise DataError(
            f"not the weights of {model}: {error}", where=str(file), hint="delete the file and fetch it again"
        ) from error
    return dict(network.state_dict()), f"{model} ({file})"


class ResNet18(Zoo):
    """ResNet-18 (He et al. 2016) after an upsampling layer: the paper's teacher (LW section 4.1).

    LW starts from ImageNet weights (`weights="timm"`: timm's `resnet18.tv_in1k`, originally torchvision's) and
    does not report the size and mode of its upsampling (assumption LW-A3: bilinear to 224).

    Taps: A stem after its max-pooling, B layer1, C layer2, D layer3, E the global average of layer4's
    output (512), the classifier's input. Sizes at 224 pixels: 200,704; 200,704; 100,352; 50,176; 512.

    Parameters
    ----------
    upsample
        Side in pixels to which images are resized, 1..2048; None or 0 keeps their size.
    mode
        Interpolation: "nearest", "bilinear" or "bicubic".
    antialias
        Smooth when the resizing makes images smaller ("bilinear" and "bicubic" only).
    weights
        "none" or None (random), "timm" (= "timm:resnet18.tv_in1k"), "timm:resnet18.TAG", or the path of a
        file with the tensor names of timm or torchvision, which are equal.
    """

    _name = "architectures/resnet18"

    def __init__(
        self,
        *,
        upsample: int | None = 224,
        mode: str = "bilinear",
        antialias: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__(upsample=upsample, mode=mode, antialias=antialias, weights=weights)
        tag = self._hub_tag()
        if tag and tag.partition(".")[0] != "resnet18":
            raise ValueError(
                f"weights={weights!r}: must be weights of resnet18, like 'timm:{RESNET18_WEIGHTS}'"
            )

    def for_inference(self, model: nn.Module) -> nn.Module:
        """A frozen copy with batch normalisation folded into the convolutions, for faster inference.

        Same taps and, within rounding, the same outputs.
        """
        from kdbench_networks.folding import fold_batch_norm

        return fold_batch_norm(model)

    def _trunk(self, n_classes: int, channels: int) -> Trunk:
        return timm_trunk("resnet18", n_classes, channels, self._name)

    def _hub_state(self, tag: str) -> tuple[dict[str, Tensor], str]:
        return timm_state(tag or RESNET18_WEIGHTS, self._name)

    def _taps(
        self, network: Network, candidates: tuple[str, ...], input_shape: tuple[int, int, int]
    ) -> dict[str, str]:
        stages = {"A": "maxpool", "B": "layer1", "C": "layer2", "D": "layer3"}
        return {tap: f"trunk.{path}" for tap, path in stages.items()} | {"E": network.features_path}


class TimmModel(Zoo):
    """Any timm classifier, by timm's name after an upsampling layer.

    Examples: `timm/resnet34`, `timm/vit_tiny_patch16_224.augreg_in21k`.

    Taps: the modules of timm's `feature_info`, else the top-level blocks, named by module path in the order of
    the forward pass; then `penultimate`, the classifier's input.

    Parameters
    ----------
    model
        timm's name of the model, with or without a tag.
    upsample
        Side in pixels to which images are resized, 1..2048; None or 0 keeps their size.
    mode
        Interpolation: "nearest", "bilinear" or "bicubic".
    antialias
        Smooth when the resizing makes images smaller ("bilinear" and "bicubic" only).
    weights
        "none" or None (random), "timm" (the tag in `model`, else timm's default tag), "timm:TAG", or the path
        of a file.

    Raises
    ------
    ValueError
        A parameter is out of range, or timm does not have the model or weights.
    """

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
        import timm

        arch, _, tag = model.partition(".")
        if arch not in timm.list_models():
            raise ValueError(
                f"model={model!r}: timm has no such model; {did_you_mean(arch, timm.list_models())}"
            )
        hub_tag = (self._hub_tag() or "").removeprefix(f"{arch}.")
        for wanted, parameter in ((tag, f"model={model!r}"), (hub_tag, f"weights={weights!r}")):
            tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{arch}.*")]
            if wanted and wanted not in tags:
                raise ValueError(
                    f"{parameter}: timm has no such weights of {arch}; {did_you_mean(wanted, tags)}"
                )
        self.model = model

    @property
    def _name(self) -> str:
        return f"architectures/timm/{self.model}"

    def _trunk(self, n_classes: int, channels: int) -> Trunk:
        return timm_trunk(self.model, n_classes, channels, self._name)

    def _hub_state(self, tag: str) -> tuple[dict[str, Tensor], str]:
        arch = self.model.partition(".")[0]
        name = f"{arch}.{tag.removeprefix(f'{arch}.')}" if tag else self.model
        return timm_state(name, self._name)

    @property
    def normalization(self) -> Normalization | None:
        """The normalisation that timm lists for the weights; None for random weights."""
        if not self.pretrained:
            return None
        from timm.models import get_pretrained_cfg

        cfg: Any = get_pretrained_cfg(self.model)
        if cfg is None:
            return IMAGENET
        return Normalization(tuple(map(float, cfg.mean)), tuple(map(float, cfg.std)))
