"""The elastic detector: a frozen ImageNet backbone, a trained neck and head, six sizes in one set of weights.

Way of a picture (strides in brackets): stem to stage 4 of EfficientNet-Lite0 stay as ImageNet left them, because the
anomaly check reads stage 4 [16] and loses up to 11 points of AUROC when detection bends it. Trained are stage 5 [32], the
detail blocks beside stage 2 [8], a feature pyramid that runs down and up again (FPN, Lin et al. 2017; PANet, Liu et al.
2018) and one anchor-free head for all levels and classes (FCOS, Tian et al. 2019).

A size says how many blocks of each stage run and how many channels neck and head have. Smaller sizes take the first
blocks and the first channels of the same weights; every size and level has a batch norm of its own, since statistics do
not carry over (slimmable networks, Yu et al. 2019).
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

import lite0
from lite0 import relu6

STRIDES = (8, 16, 32)
DETAIL = 160  # channels inside a detail block


@dataclass(frozen=True)
class Size:
    """What of the network runs."""

    depth: tuple  # blocks of stages 3, 4 and 5; 0 of stage 5 leaves it out
    detail: int  # blocks beside stage 2
    neck: int  # blocks a level of the pyramid
    tower: int  # blocks of the head before class and box part
    width: int  # channels of neck and head


SIZES = (
    Size((3, 3, 4), 2, 2, 2, 96),
    Size((3, 3, 3), 2, 2, 2, 64),
    Size((3, 3, 2), 1, 1, 2, 64),
    Size((3, 2, 1), 1, 1, 1, 64),
    Size((2, 1, 1), 1, 1, 1, 48),
    Size((1, 1, 0), 0, 1, 1, 48),
)
NAMES = ("full", "large", "medium", "small", "tiny", "micro")
WIDTH = max(size.width for size in SIZES)


class Layer(nn.Module):
    """Convolution whose channels can be sliced, then the batch norm of this size and level.

    `sliced_in`, `sliced_out`: that side follows the size's width; the other keeps its own."""

    def __init__(self, cin, cout, kernel=1, groups=1, stride=1, levels=1, sliced_in=True, sliced_out=True, zero=False):
        super().__init__()
        fan = (1 if groups > 1 else cin) * kernel * kernel
        self.weight = nn.Parameter(torch.randn(cout, 1 if groups > 1 else cin, kernel, kernel) * (2 / fan) ** 0.5)
        self.depthwise, self.stride, self.levels = groups > 1, stride, levels
        self.padding = 0 if kernel == stride else kernel // 2
        self.sliced_in, self.sliced_out = sliced_in, sliced_out
        channels = [size.width if sliced_out else cout for size in SIZES for _ in range(levels)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, momentum=0.05) for c in channels)
        if zero:
            for norm in self.norms:
                nn.init.zeros_(norm.weight)

    def sliced(self, size):
        """The weight at this size."""
        width = SIZES[size].width
        weight = self.weight[:width] if self.sliced_out else self.weight
        return weight[:, :width] if self.sliced_in and not self.depthwise else weight

    def norm(self, size, level=0):
        return self.norms[size * self.levels + level]

    def forward(self, x, size, level=0):
        weight, norm = self.sliced(size).to(x.dtype), self.norm(size, level)
        groups = weight.shape[0] if self.depthwise else 1
        y = F.conv2d(x, weight, None, self.stride, self.padding, 1, groups)
        return norm(y)


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise; `residual` adds the input, so that the block can be left out."""

    def __init__(self, channels, levels=1, residual=False):
        super().__init__()
        self.depthwise = Layer(channels, channels, 3, groups=channels, levels=levels)
        self.pointwise = Layer(channels, channels, levels=levels)
        self.residual = residual

    def forward(self, x, size, level=0):
        y = self.pointwise(relu6(self.depthwise(x, size, level)), size, level)
        return relu6(x + y if self.residual else y)


class Detail(nn.Module):
    """Inverted residual beside stage 2, for what is too small to survive stride 16. Starts as identity."""

    def __init__(self, channels, mid):
        super().__init__()
        self.expand = Layer(channels, mid, sliced_in=False, sliced_out=False)
        self.depthwise = Layer(mid, mid, 3, groups=mid, sliced_in=False, sliced_out=False)
        self.project = Layer(mid, channels, sliced_in=False, sliced_out=False, zero=True)

    def forward(self, x, size):
        y = relu6(self.expand(x, size))
        return x + self.project(relu6(self.depthwise(y, size)), size)


class Down(nn.Module):
    """Halves a level on the way up the pyramid."""

    def __init__(self, channels):
        super().__init__()
        self.depthwise = Layer(channels, channels, 3, groups=channels, stride=2)
        self.pointwise = Layer(channels, channels)

    def forward(self, x, size):
        return self.pointwise(relu6(self.depthwise(x, size)), size)


class Detector(nn.Module):
    """forward(x (N, 3, H, W), size) -> class logits and log distances, a pair of maps a level, and stage 4's features.

    Distances are those from a cell's centre to the box's left, upper, right and lower side, in strides, as logarithms."""

    def __init__(self, classes):
        super().__init__()
        self.backbone = lite0.Lite0()
        c = WIDTH
        self.detail = nn.ModuleList(Detail(40, DETAIL) for _ in range(2))
        self.tap4 = Layer(24, c, 2, stride=2, sliced_in=False)
        self.tap8 = Layer(40, c, sliced_in=False)
        self.tap16 = Layer(80, c, sliced_in=False)
        self.tap16b = Layer(112, c, sliced_in=False)
        self.tap32 = Layer(192, c, sliced_in=False)
        self.down = nn.ModuleList(Down(c) for _ in range(2))
        self.neck = nn.ModuleList(nn.ModuleList(Separable(c, residual=True) for _ in range(2)) for _ in STRIDES)
        self.tower = nn.ModuleList(Separable(c, levels=3) for _ in range(2))
        self.to_class, self.to_box = Separable(c, levels=3), Separable(c, levels=3)
        self.class_weight = nn.Parameter(torch.randn(classes, c, 1, 1) * 0.01)
        self.class_bias = nn.Parameter(torch.full((classes,), -4.0))
        self.box_weight = nn.Parameter(torch.randn(4, c, 1, 1) * 0.01)
        self.box_bias = nn.Parameter(torch.full((4,), 0.7))
        self.box_scale = nn.Parameter(torch.ones(len(STRIDES)))
        self.freeze()

    def freeze(self):
        """Of the backbone only stage 5 is trained, without its depthwise weights (see FixedDepthwise)."""
        for parameter in self.backbone.parameters():
            parameter.requires_grad_(False)
        for block in self.backbone.stages[5]:
            for parameter in (*block.expand.parameters(), *block.project.parameters(), block.depthwise.bias):
                parameter.requires_grad_(True)

    def frozen(self, x, depth):
        """Maps of stages 1 to 4 at strides 4, 8, 16 and 16."""
        return self.deeper(*self.shared(x), depth)

    def shared(self, x):
        """Maps of stages 1 and 2, which are the same for all sizes."""
        net = self.backbone
        x4 = net.stage(1, net.stage(0, relu6(net.stem(x))))
        return x4, net.stage(2, x4)

    def deeper(self, x4, x8, depth):
        x16 = self.backbone.stage(3, x8, depth[0])
        return x4, x8, x16, self.backbone.stage(4, x16, depth[1])

    def forward(self, x, size=0):
        wanted = SIZES[size]
        with torch.no_grad():
            maps = self.frozen(x, wanted.depth)
        return self.heads(maps, size) + (maps[3],)

    def heads(self, maps, size):
        """Neck and head over the maps of `frozen`."""
        x4, x8, x16, stage4 = maps
        wanted = SIZES[size]
        for block in list(self.detail)[: wanted.detail]:
            x8 = block(x8, size)
        p4 = self.tap16(x16, size) + self.tap16b(stage4, size)
        up = lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest")
        p5 = None
        if wanted.depth[2]:
            p5 = self.tap32(self.backbone.stage(5, stage4, wanted.depth[2]), size)
            p4 = p4 + up(relu6(p5))
        p4 = relu6(p4)
        p3 = relu6(self.tap8(x8, size) + self.tap4(x4, size) + up(p4))
        n3 = self.blocks(0, p3, size)
        n4 = self.blocks(1, relu6(p4 + self.down[0](n3, size)), size)
        n5 = self.down[1](n4, size)
        n5 = self.blocks(2, relu6(n5 if p5 is None else p5 + n5), size)
        levels = [self.head(level, x, size) for level, x in enumerate((n3, n4, n5))]
        return [logits for logits, _ in levels], [distances for _, distances in levels]

    def blocks(self, level, x, size):
        for block in list(self.neck[level])[: SIZES[size].neck]:
            x = block(x, size)
        return x

    def head(self, level, x, size):
        width = SIZES[size].width
        for block in list(self.tower)[: SIZES[size].tower]:
            x = block(x, size, level)
        to_class, to_box = self.to_class(x, size, level), self.to_box(x, size, level)
        scale = self.box_scale[level]
        weight = (self.box_weight[:, :width] * scale).to(x.dtype)
        logits = F.conv2d(to_class, self.class_weight[:, :width].to(x.dtype), self.class_bias.to(x.dtype))
        return logits.float(), F.conv2d(to_box, weight, (self.box_bias * scale).to(x.dtype)).float().clamp(-4, 4)

    def adopt(self, state):
        """Takes over another Detector's parameters, also where sizes have become wider since: such a size's norms begin as
        the first channels of the next larger size's."""
        taken = {}
        for key, value in self.state_dict().items():
            there = state[key]
            if ".norms." in key and there.shape != value.shape:
                layer, rest = key.split(".norms.")
                number, part = rest.split(".")
                levels = self.get_submodule(layer).levels
                larger = (state[f"{layer}.norms.{n}.{part}"] for n in range(int(number) - levels, -1, -levels))
                there = next(norm for norm in larger if len(norm) >= len(value))[: len(value)].clone()
            taken[key] = there
        self.load_state_dict(taken)

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self


def cells(height, width):
    """Centres (N, 2) and strides (N) of all cells of all levels, in input pixels, row by row."""
    centres, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        centre = (torch.stack([x.flatten(), y.flatten()], 1).float() + 0.5) * stride
        centres.append(centre)
        strides.append(torch.full((len(centre),), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def flatten(levels):
    """Maps (N, C, h, w) of all levels as (N, cells, C)."""
    return torch.cat([x.flatten(2).transpose(1, 2) for x in levels], 1)


def boxes(log_distances, centres, strides):
    """(N, cells, 4) of `flatten` to x0, y0, x1, y1 in input pixels."""
    d = log_distances.exp() * strides[:, None]
    return torch.cat([centres - d[..., :2], centres + d[..., 2:]], -1)
