"""Writes models/base: the elastic network, what can be left out of it, its figures, golden vectors and card.

    python3 export.py --data DIR --scorer score.py --weights FILE --out models/base [--version 1.2.3]

FILE is a run's weights.pt. Figures are measured on the validation split at every size and input, which takes minutes and
is kept beside FILE, so that a second call is quick.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

import card
import data
import evaluate
import graph
import lite0
from network import SIZES

NAMES = ("full", "large", "medium", "small", "tiny", "micro")
INPUTS = (416, 352, 320, 256, 192, 160, 128)
GOLDEN = (64, 96)  # rows, columns; not square, so that an exchange of the two shows
TOLERANCE = 1e-3  # of the largest absolute value of an output
# What is no defect but an object that a line may want to see.
INFO = {"powerline/insulator", "warehouse/person"}
CRITICAL = {"powerline/insulator_defect", "container/hole"}
MINOR = {"container/rusty", "tile/uneven"}


def golden_picture():
    """A fixed picture with edges, gradients and noise, (1, 3, rows, columns) float32, already normalised."""
    rows, columns = GOLDEN
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    noise = np.random.Generator(np.random.PCG64(7)).integers(0, 64, (3, rows, columns)).astype(np.float32)
    base = np.stack([x * 255 / columns, y * 255 / rows, 127 + 90 * np.sign(np.sin(x / 5) * np.sin(y / 7))])
    rgb = np.clip(np.round(0.75 * base + noise), 0, 255)
    return ((rgb - lite0.MEAN) / lite0.STD)[None].astype("<f4")


@torch.no_grad()
def outputs(net, picture, size):
    """The network's outputs at a size, by the names of the graph."""
    x = torch.from_numpy(picture)
    maps = net.frozen(x, SIZES[size].depth)
    logits, distances = net.heads(maps, size)
    out = {"stage2": maps[1], "stage4": maps[3]}
    for stride, l, d in zip((8, 16, 32), logits, distances):
        out[f"scores{stride}"], out[f"distances{stride}"] = l.sigmoid(), d.exp()
    return {name: value.contiguous().numpy().astype("<f4") for name, value in out.items()}


def figures(net, names, args):
    """[{size, input, sets, thresholds}], measured once for one and the same weights."""
    stamp = hashlib.sha256(Path(args.weights).read_bytes()).hexdigest()
    kept = Path(args.weights).with_suffix(".figures.json")
    known = json.loads(kept.read_text()) if kept.exists() else {}
    if known.get("weights") != stamp or known.get("limit") != args.limit:
        known = {"weights": stamp, "limit": args.limit, "rows": []}
    for size in range(len(SIZES)):
        for side in args.inputs:
            if any((row["size"], row["input"]) == (size, side) for row in known["rows"]):
                continue
            results, hits, objects = evaluate.validate(net, args.data, args.scorer, [(size, side)], names, args.limit)
            print(evaluate.table(results), flush=True)
            known["rows"].append({
                "size": size, "input": side, "sets": results[size, side],
                "thresholds": [evaluate.threshold(h, n) for h, n in zip(hits[size, side], objects)]})
            kept.write_text(json.dumps(known))
    return known["rows"]


def elastic(description, rows, names, goldens):
    sizes = []
    for size, name in enumerate(NAMES):
        own = sorted((row for row in rows if row["size"] == size), key=lambda row: row["input"])
        validation = []
        for row in own:
            classes = {}
            for answer in row["sets"].values():
                classes |= {k: v["ap50"] for k, v in answer["classes"].items()}
            mean = lambda key: sum(s[key] for s in row["sets"].values()) / len(row["sets"])
            validation.append({"input": row["input"], "map50": round(mean("map50"), 4), "map50_95": round(mean("map50_95"), 4),
                               "classes": [round(classes.get(k) or 0.0, 4) for k in names]})
        # Thresholds of the input at which the size is best.
        best = max(own, key=lambda row: sum(s["map50"] for s in row["sets"].values()))
        sizes.append({"name": name, "depths": graph.depths(size), "width": SIZES[size].width, "norm": f"@{size}",
                      "thresholds": best["thresholds"], "golden": goldens[size], "validation": validation})
    return {"schema": "inspect.elastic/1", "depths": description.depths, "width": description.width,
            "classes": description.classes, "norm": "@0", "sizes": sizes}


def severity(name):
    return "info" if name in INFO else "critical" if name in CRITICAL else "minor" if name in MINOR else "major"


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else value.encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True)
    add("--scorer", required=True)
    add("--weights", required=True)
    add("--out", required=True, type=Path)
    add("--version", default="1.0.0")
    add("--inputs", type=lambda text: [int(n) for n in text.split(",")], default=list(INPUTS))
    add("--limit", type=int, help="pictures a set, to try things out")
    add("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    names = data.classes(args.data)
    net = evaluate.load(args.weights, len(names))
    rows = figures(net, names, args)

    model, listed, description = graph.write(net)
    write(args.out / "model.onnx", model)
    picture = golden_picture()
    write(args.out / "golden/image.f32", picture.tobytes())
    goldens = []
    torch.set_num_threads(1)
    for size, name in enumerate(NAMES):
        specs = {}
        for output, value in outputs(net, picture, size).items():
            file = f"golden/{name}/{output}.f32"
            write(args.out / file, value.tobytes())
            specs[output] = {"file": file, "shape": list(value.shape)}
        goldens.append(specs)
    described = elastic(description, rows, names, goldens)
    write(args.out / "elastic.json", json.dumps(described, indent=1) + "\n")
    write(args.out / "CARD.md", card.text(args.data, names, described, rows, args.version))

    full = described["sizes"][0]
    files = sorted(p for p in args.out.rglob("*") if p.is_file() and p.name != "bundle.json")
    manifest = {
        "schema": "inspect.bundle/1",
        "name": "inspectd-base",
        "version": args.version,
        "model": "model.onnx",
        "input": {
            "name": "image",
            "size": max(full["validation"], key=lambda v: v["map50"])["input"],
            "multiple_of": 32,
            "fit": "aspect",
            "mean": [lite0.MEAN] * 3,
            "std": [lite0.STD] * 3,
            "contrast": lite0.CONTRAST,
            "upscale": data.MOST_UPSCALED,
        },
        "outputs": [{"name": n, "kind": kind, "stride": stride, "channels": c} for n, kind, stride, c in listed],
        "classes": [{"name": n, "severity": severity(n), "threshold": t} for n, t in zip(names, full["thresholds"])],
        "golden": {"tolerance": TOLERANCE, "input": {"file": "golden/image.f32", "shape": list(picture.shape)},
                   "outputs": goldens[0]},
        "elastic": "elastic.json",
        "files": {p.relative_to(args.out).as_posix(): {"bytes": p.stat().st_size,
                                                       "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files},
    }
    write(args.out / "bundle.json", json.dumps(manifest, indent=2) + "\n")
    print(f"{args.out}: {sum(p.stat().st_size for p in files)} bytes in {len(files)} files")


if __name__ == "__main__":
    main()
