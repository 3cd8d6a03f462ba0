"""The network as an elastic ONNX graph: one node a layer, names that the extraction on the gateway relies on.

The graph runs as it is, at the full size. Beside it stands the description of what can be left out (`Elastic`):
  depths   for each dimension its blocks in order; leaving a block out means that readers of `to` read `from` instead,
           and where `from` is none, sums lose that operand
  width    for each tensor the axes that follow the width: a smaller size takes the first channels
  classes  for each tensor the axis that follows the classes
  norms    batch norms of all sizes lie in the file: the graph reads those called `@0`, size k's are called `@k`
Initializers carry the names of the parameters, so that training can start from a base bundle (`weights`).
"""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from network import SIZES, STRIDES, WIDTH

OPSET, IR = 13, 8
NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass
class Elastic:
    depths: dict = field(default_factory=dict)
    width: dict = field(default_factory=dict)
    classes: dict = field(default_factory=dict)

    def skip(self, dimension, block, to, instead):
        blocks = self.depths.setdefault(dimension, [])
        while len(blocks) <= block:
            blocks.append([])
        blocks[block].append({"to": to, "from": instead})


class Writer:
    """Nodes in the order of calls. Every method gives the name of its output."""

    def __init__(self):
        self.nodes, self.tensors, self.elastic = [], {}, Elastic()

    def tensor(self, name, value, width=(), classes=None):
        if name not in self.tensors:
            self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(value.detach().float().numpy()), name)
            if width:
                self.elastic.width[name] = list(width)
            if classes is not None:
                self.elastic.classes[name] = classes
        return name

    def constant(self, name, value):
        self.tensors.setdefault(name, numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def relu6(self, x):
        return self.node("Clip", [x, self.constant("zero", 0.0), self.constant("six", 6.0)], f"{x}/relu6")

    def add(self, output, *inputs):
        first, *rest = inputs
        for n, other in enumerate(rest):
            first = self.node("Add", [first, other], output if n == len(rest) - 1 else f"{output}/{n}")
        return first

    def conv(self, output, x, weight, bias, kernel, stride, pads, groups):
        low, high = pads
        return self.node("Conv", [x, weight] + ([bias] if bias else []), output, kernel_shape=[kernel] * 2,
                         strides=[stride] * 2, pads=[low, low, high, high], group=groups)


class Emitter(Writer):
    """Writes a Detector. `name` is always the parameter's path in the state dict."""

    def plain(self, name, conv, x):
        """A convolution of the backbone, with bias."""
        return self.conv(name, x, self.tensor(f"{name}.weight", conv.weight), self.tensor(f"{name}.bias", conv.bias),
                         conv.weight.shape[-1], conv.stride, conv.pads, conv.groups)

    def inverted(self, name, block, x):
        y = self.relu6(self.plain(f"{name}.expand", block.expand, x)) if block.expand is not None else x
        y = self.plain(f"{name}.project", block.project, self.relu6(self.plain(f"{name}.depthwise", block.depthwise, y)))
        return self.add(f"{name}.sum", x, y) if block.skips else y

    def stage(self, net, number, x):
        for n, block in enumerate(net.backbone.stages[number]):
            before, x = x, self.inverted(f"backbone.stages.{number}.{n}", block, x)
            if number >= 3 and n > 0:
                self.elastic.skip(f"stage{number}", n, x, before)
        return x

    def layer(self, name, layer, x, level=0, at=""):
        """`at` tells the levels apart that share the layer, or that it has alone."""
        axes = ([0] if layer.sliced_out else []) + ([1] if layer.sliced_in and not layer.depthwise else [])
        weight = self.tensor(f"{name}.weight", layer.weight, axes)
        kernel, groups = layer.weight.shape[-1], layer.weight.shape[0] if layer.depthwise else 1
        y = self.conv(f"{name}{at}", x, weight, None, kernel, layer.stride, (layer.padding,) * 2, groups)
        for size in range(len(SIZES)):
            norm = layer.norm(size, level)
            names = [self.tensor(f"{name}.{level}@{size}.{part}", getattr(norm, part)) for part in NORM]
            if size == 0:
                full = names
        return self.node("BatchNormalization", [y, *full], f"{name}{at}.norm", epsilon=layer.norm(0).eps)

    def separable(self, name, block, x, level=0, at=""):
        y = self.relu6(self.layer(f"{name}.depthwise", block.depthwise, x, level, at))
        y = self.layer(f"{name}.pointwise", block.pointwise, y, level, at)
        return self.relu6(self.add(f"{name}{at}.sum", x, y) if block.residual else y)

    def detail(self, name, block, x):
        y = self.relu6(self.layer(f"{name}.expand", block.expand, x))
        y = self.relu6(self.layer(f"{name}.depthwise", block.depthwise, y))
        return self.add(f"{name}.sum", x, self.layer(f"{name}.project", block.project, y))

    def down(self, name, block, x):
        y = self.relu6(self.layer(f"{name}.depthwise", block.depthwise, x))
        return self.layer(f"{name}.pointwise", block.pointwise, y)

    def up(self, x):
        scales = self.constant("twice", [1, 1, 2, 2])
        return self.node("Resize", [x, "", scales], f"{x}/up", mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric")

    def blocks(self, dimension, name, blocks, x, level=0, at=""):
        for n, block in enumerate(blocks):
            before, x = x, self.separable(f"{name}.{n}", block, x, level, at)
            self.elastic.skip(dimension, n, x, before)
        return x

    def head(self, net, level, x):
        at = f"/{STRIDES[level]}"
        x = self.blocks("tower", "tower", net.tower, x, level, at)
        to_class = self.separable("to_class", net.to_class, x, level, at)
        to_box = self.separable("to_box", net.to_box, x, level, at)
        weight = self.tensor("class_weight", net.class_weight, [1], 0)
        logits = self.conv(f"logits{at}", to_class, weight, self.tensor("class_bias", net.class_bias, classes=0), 1, 1, (0, 0), 1)
        scale = net.box_scale[level]
        weight = self.tensor(f"box_weight.{level}", net.box_weight * scale, [1])
        y = self.conv(f"log_distances{at}", to_box, weight, self.tensor(f"box_bias.{level}", net.box_bias * scale), 1, 1, (0, 0), 1)
        y = self.node("Clip", [y, self.constant("least", -4.0), self.constant("most", 4.0)], f"log_distances{at}/clipped")
        stride = STRIDES[level]
        return self.node("Sigmoid", [logits], f"scores{stride}"), self.node("Exp", [y], f"distances{stride}")

    def detector(self, net):
        """Outputs: (name, kind, stride, channels)."""
        x = self.relu6(self.plain("backbone.stem", net.backbone.stem, "image"))
        x4 = self.stage(net, 1, self.stage(net, 0, x))
        x8 = self.stage(net, 2, x4)
        x16 = self.stage(net, 3, x8)
        stage4 = self.stage(net, 4, x16)
        outputs = [(self.node("Identity", [x8], "stage2"), "features", 8, 40),
                   (self.node("Identity", [stage4], "stage4"), "features", 16, 112)]
        for n, block in enumerate(net.detail):
            before, x8 = x8, self.detail(f"detail.{n}", block, x8)
            self.elastic.skip("detail", n, x8, before)
        p5 = self.layer("tap32", net.tap32, self.stage(net, 5, stage4))
        self.elastic.skip("stage5", 0, p5, None)
        p4 = self.relu6(self.add("p4", self.layer("tap16", net.tap16, x16), self.layer("tap16b", net.tap16b, stage4),
                                 self.up(self.relu6(p5))))
        p3 = self.relu6(self.add("p3", self.layer("tap8", net.tap8, x8), self.layer("tap4", net.tap4, x4), self.up(p4)))
        n3 = self.blocks("neck", "neck.0", net.neck[0], p3)
        n4 = self.relu6(self.add("n4", p4, self.down("down.0", net.down[0], n3)))
        n4 = self.blocks("neck", "neck.1", net.neck[1], n4)
        n5 = self.relu6(self.add("n5", p5, self.down("down.1", net.down[1], n4)))
        n5 = self.blocks("neck", "neck.2", net.neck[2], n5)
        for level, n in enumerate((n3, n4, n5)):
            scores, distances = self.head(net, level, n)
            outputs += [(scores, "scores", STRIDES[level], net.class_weight.shape[0]),
                        (distances, "distances", STRIDES[level], 4)]
        return outputs


def write(net):
    """The graph's bytes, its outputs, and the description of its elastic dimensions."""
    emitter = Emitter()
    outputs = emitter.detector(net)
    axes = lambda stride: [f"height_{stride}" if stride > 1 else "height", f"width_{stride}" if stride > 1 else "width"]
    value = lambda name, channels, stride: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, *axes(stride)])
    graph = helper.make_graph(emitter.nodes, "inspectd", [value("image", 3, 1)],
                              [value(name, channels, stride) for name, _, stride, channels in outputs],
                              list(emitter.tensors.values()))
    model = helper.make_model(graph, producer_name="inspectd", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True), outputs, emitter.elastic


def depths(size):
    """Of SIZES[size], by the names of `Elastic.depths`."""
    wanted = SIZES[size]
    return {"stage3": wanted.depth[0], "stage4": wanted.depth[1], "stage5": wanted.depth[2], "detail": wanted.detail,
            "neck": wanted.neck, "tower": wanted.tower}


def weights(path, net):
    """The parameters in a base bundle's graph, by their names in `net`."""
    import torch

    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in onnx.load(path).graph.initializer}
    state = net.state_dict()
    for key in state:
        name, _, part = key.rpartition(".")
        if ".norms." in key:
            layer, _, number = name.rpartition(".norms.")
            levels = net.get_submodule(layer).levels
            size, level = divmod(int(number), levels)
            key_there = f"{layer}.{level}@{size}.{part}"
            if part == "num_batches_tracked":
                continue
        elif key in ("box_weight", "box_bias"):
            key_there = f"{key}.0"
        elif key == "box_scale":
            # Only products of scale and weight are in the graph; level 0 is taken to have scale 1.
            base = tensors["box_weight.0"]
            scales = [(tensors[f"box_weight.{level}"] * base).sum() / (base * base).sum() for level in range(len(STRIDES))]
            state[key] = torch.stack(scales)
            continue
        else:
            key_there = key
        state[key] = tensors[key_there]
    return state


assert WIDTH == SIZES[0].width  # the graph as it stands is size 0
