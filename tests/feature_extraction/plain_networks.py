"""For tests: published networks written down plainly, layer after layer; their weights appear as they are asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

S3D_MIXED = {
    "5": ((64,), (96, 128), (16, 32), (32,)),
    "6": ((128,), (128, 192), (32, 96), (64,)),
    "8": ((192,), (96, 208), (16, 48), (64,)),
    "9": ((160,), (112, 224), (24, 64), (64,)),
    "10": ((128,), (128, 256), (24, 64), (64,)),
    "11": ((112,), (144, 288), (32, 64), (64,)),
    "12": ((256,), (160, 320), (32, 128), (128,)),
    "14": ((256,), (160, 320), (32, 128), (128,)),
    "15": ((384,), (192, 384), (48, 128), (128,)),
}


class Weights:
    """Random tensors by name, made in the shape that the first layer to ask needs."""

    def __init__(self, counters: bool = True) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._counters = counters
        self._random = torch.Generator().manual_seed(0)

    def parameters(self) -> int:
        """Return how many numbers are learnt."""
        learnt = [v for k, v in self.tensors.items() if not k.endswith(("running_mean", "running_var", "_tracked"))]
        return sum(value.numel() for value in learnt)

    def get(self, name: str, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        if name not in self.tensors:
            self.tensors[name] = torch.rand(shape, generator=self._random) * (high - low) + low
        assert self.tensors[name].shape == shape
        return self.tensors[name]

    def conv(
        self, x: Tensor, name: str, out: int, kernel: tuple[int, ...], bias: bool = False, **how: object
    ) -> Tensor:
        fan = x.shape[1] * int(torch.tensor(kernel).prod())
        spread = (6 / fan) ** 0.5
        weight = self.get(f"{name}.weight", out, x.shape[1], *kernel, low=-spread, high=spread)
        offset = self.get(f"{name}.bias", out, low=-0.1, high=0.1) if bias else None
        return (functional.conv2d if len(kernel) == 2 else functional.conv3d)(x, weight, offset, **how)

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        width = x.shape[1]
        scale = self.get(f"{name}.weight", width, low=0.8, high=1.2)
        offset = self.get(f"{name}.bias", width, low=-0.2, high=0.2)
        mean = self.get(f"{name}.running_mean", width, low=-0.2, high=0.2)
        variance = self.get(f"{name}.running_var", width, low=0.8, high=1.2)
        if self._counters:
            self.tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)
        shape = (1, width, *[1] * (x.ndim - 2))
        scale, offset, mean, variance = (value.view(shape) for value in (scale, offset, mean, variance))
        return (x - mean) / (variance + eps).sqrt() * scale + offset

    def linear(self, x: Tensor, name: str, out: int) -> Tensor:
        spread = (6 / x.shape[1]) ** 0.5
        weight = self.get(f"{name}.weight", out, x.shape[1], low=-spread, high=spread)
        return x @ weight.T + self.get(f"{name}.bias", out, low=-0.1, high=0.1)


@torch.inference_mode()
def plain_s3d(weights: Weights, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Return (features, logits) of clips [n, 3, T, H, W], as github.com/kylemin/S3D computes the logits."""

    def point(x: Tensor, name: str, out: int) -> Tensor:
        return weights.norm(weights.conv(x, f"{name}.conv", out, (1, 1, 1)), f"{name}.bn", 1e-3).relu()

    def separable(x: Tensor, name: str, out: int, size: int, stride: int = 1) -> Tensor:
        pad = size // 2
        space = {"stride": (1, stride, stride), "padding": (0, pad, pad)}
        x = weights.norm(weights.conv(x, f"{name}.conv_s", out, (1, size, size), **space), f"{name}.bn_s", 1e-3).relu()
        time = {"stride": (stride, 1, 1), "padding": (pad, 0, 0)}
        return weights.norm(weights.conv(x, f"{name}.conv_t", out, (size, 1, 1), **time), f"{name}.bn_t", 1e-3).relu()

    def mixed(x: Tensor, place: str) -> Tensor:
        base = f"base.{place}.branch"
        first, second, third, fourth = S3D_MIXED[place]
        pooled = functional.max_pool3d(x, 3, 1, 1)
        parts = [point(x, f"{base}0.0", first[0])]
        parts.append(separable(point(x, f"{base}1.0", second[0]), f"{base}1.1", second[1], 3))
        parts.append(separable(point(x, f"{base}2.0", third[0]), f"{base}2.1", third[1], 3))
        parts.append(point(pooled, f"{base}3.1", fourth[0]))
        return torch.cat(parts, 1)

    x = separable(clips, "base.0", 64, 7, 2)
    x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    x = separable(point(x, "base.2", 64), "base.3", 192, 3)
    x = mixed(mixed(functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1)), "5"), "6")
    x = functional.max_pool3d(x, 3, 2, 1)
    for place in ("8", "9", "10", "11", "12"):
        x = mixed(x, place)
    x = mixed(mixed(functional.max_pool3d(x, 2, 2), "14"), "15")
    x = functional.avg_pool3d(x, (2, x.shape[3], x.shape[4]), stride=1)
    logits = weights.conv(x, "fc.0", 400, (1, 1, 1), bias=True)
    return x.mean((2, 3, 4)), logits.mean((2, 3, 4))


@torch.inference_mode()
def plain_densenet(weights: Weights, pictures: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return (features, logits) of pictures [n, 3, H, W]: DenseNet-161 of table 1 of Huang et al. (2017), growth 48."""

    def step(x: Tensor, norm: str, conv: str, out: int, size: int) -> Tensor:
        x = weights.norm(x, f"features.{norm}", 1e-5).relu()
        return weights.conv(x, f"features.{conv}", out, (size, size), padding=size // 2)

    x = weights.conv(pictures, "features.conv0", 96, (7, 7), stride=2, padding=3)
    x = functional.max_pool2d(weights.norm(x, "features.norm0", 1e-5).relu(), 3, 2, 1)
    for block, layers in (("1", 6), ("2", 12), ("3", 36), ("4", 24)):
        for layer in range(1, layers + 1):
            name = f"denseblock{block}.denselayer{layer}"
            narrow = step(x, f"{name}.norm1", f"{name}.conv1", 192, 1)
            x = torch.cat((x, step(narrow, f"{name}.norm2", f"{name}.conv2", 48, 3)), 1)
        if block != "4":
            x = step(x, f"transition{block}.norm", f"transition{block}.conv", x.shape[1] // 2, 1)
            x = functional.avg_pool2d(x, 2, 2)
    pooled = weights.norm(x, "features.norm5", 1e-5).relu().mean((2, 3))
    return pooled, weights.linear(pooled, "classifier", classes)


@torch.inference_mode()
def plain_vggish(weights: Weights, patches: Tensor) -> Tensor:
    """Return embeddings [n, 128] of patches [n, 96, 64]: VGG's configuration A without its last convolutions."""
    x = patches[:, None]
    for names in (("0",), ("3",), ("6", "8"), ("11", "13")):
        width = {"0": 64, "3": 128, "6": 256, "11": 512}[names[0]]
        for name in names:
            x = weights.conv(x, f"features.{name}", width, (3, 3), bias=True, padding=1).relu()
        x = functional.max_pool2d(x, 2)
    rows = torch.stack([x[:, :, time, band] for time in range(6) for band in range(4)], 1)  # TensorFlow's order
    x = rows.reshape(len(x), -1)
    for name, width in (("0", 4096), ("2", 4096), ("4", 128)):
        x = weights.linear(x, f"embeddings.{name}", width).relu()
    return x
