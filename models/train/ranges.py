"""Between which values the network's activations lie, for the agent's 8-bit extraction.

The graph that is measured is the one that the agent cuts (`inspectd extract --size NAME`), run here node by node over
training pictures of all sets. A value's range is the mean of the pictures' extremes and two deviations more, never
beyond what was seen: a single outlier would cost all others resolution.
"""

import subprocess
import tempfile
from pathlib import Path

import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional as F

import data
from evaluate import tensor

PICTURES = 16  # a set


def values(model, x):
    """Every value of a graph of the operators that graph.py writes, by name."""
    out = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    out[model.graph.input[0].name] = x
    for node in model.graph.node:
        a = {x.name: helper.get_attribute_value(x) for x in node.attribute}
        v = [out[name] if name else None for name in node.input]
        if node.op_type == "Conv":
            low, left, high, right = a["pads"]
            y = F.conv2d(F.pad(v[0], (left, right, low, high)), v[1], v[2] if len(v) > 2 else None, a["strides"], 0, 1, a["group"])
        elif node.op_type == "Clip":
            y = v[0].clamp(float(v[1]), float(v[2]))
        elif node.op_type == "Resize":
            y = F.interpolate(v[0], scale_factor=2.0, mode="nearest")
        else:
            y = {"Add": torch.add, "Identity": lambda x: x, "Sigmoid": torch.sigmoid, "Exp": torch.exp}[node.op_type](*v)
        out[node.output[0]] = y
    return {name: value for name, value in out.items() if value.ndim == 4 and value.shape[0] == 1}


def pictures(root, side):
    for name in data.SETS:
        images = data.annotations(root, name, False)
        for image in images[:: max(len(images) // PICTURES, 1)][:PICTURES]:
            yield tensor(data.placed(data.read(Path(root) / name / image["file"]), side))


@torch.no_grad()
def measure(network, root, side):
    """{value: [low, high]} of an extracted network."""
    model = onnx.load(network)
    weights = {t.name for t in model.graph.initializer}
    seen = {}
    for x in pictures(root, side):
        for name, value in values(model, x).items():
            if name not in weights:
                seen.setdefault(name, []).append((float(value.min()), float(value.max())))
    out = {}
    for name, extremes in seen.items():
        low, high = torch.tensor(extremes).T
        lowest = max(low.mean() - 2 * low.std(), low.min())
        highest = min(high.mean() + 2 * high.std(), high.max())
        out[name] = [round(float(lowest), 5), round(float(highest), 5)]
    return out


def measure_all(base, inspectd, root, described):
    """{size: {value: [low, high]}}, each at the input at which it is best."""
    out = {}
    for size in described["sizes"]:
        side = max(size["validation"], key=lambda v: v["map50"])["input"]
        with tempfile.TemporaryDirectory() as work:
            command = [inspectd, "extract", "--from", str(base), "--out", f"{work}/bundle", "--size", size["name"], "--input", str(side)]
            subprocess.run(command, check=True, capture_output=True)
            out[size["name"]] = measure(f"{work}/bundle/model.onnx", root, side)
    return out
