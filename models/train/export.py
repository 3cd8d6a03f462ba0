"""Writes models/base: the elastic network, what can be left out of it, its figures, golden vectors and card.

    python3 export.py --data DIR --weights FILE --inspectd BINARY --out models/base [--scorer score.py] [--version 1.2.3]

FILE is a run's weights.pt. The agent itself cuts every size and runs it over the validation split at every input, which
takes minutes; the figures are kept beside FILE, so that a second call is quick.
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
import figures
import graph
import lite0
import ranges
from network import NAMES, SIZES

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


def mean(row, key):
    return sum(answer[key] for answer in row["sets"].values()) / len(row["sets"])


def sizes(rows, names, goldens, inputs):
    """The entries of elastic.json; without rows, for the measuring itself, all figures are 0."""
    out = []
    for number, name in enumerate(NAMES):
        own = {row["input"]: row for row in rows if row["size"] == name and row["precision"] == "float32"}
        validation = []
        for side in sorted(inputs):
            row, classes = own.get(side), {}
            for answer in row["sets"].values() if row else ():
                classes |= {k: v["ap50"] for k, v in answer["classes"].items()}
            validation.append({"input": side, "map50": round(mean(row, "map50"), 4) if row else 0.0,
                               "map50_95": round(mean(row, "map50_95"), 4) if row else 0.0,
                               "classes": [round(classes.get(k) or 0.0, 4) for k in names]})
        best = max(own.values(), key=lambda row: mean(row, "map50"), default=None)
        small = next((row for row in rows if row["size"] == name and row["precision"] == "int8"), None)
        entry = {"name": name, "depths": graph.depths(number), "width": SIZES[number].width, "norm": f"@{number}",
                 "thresholds": best["thresholds"] if best else [0.5] * len(names), "golden": goldens[number],
                 "validation": validation}
        if small:
            entry["int8_cost"] = round(mean(own[small["input"]], "map50") - mean(small, "map50"), 4)
        out.append(entry)
    return out


def severity(name):
    return "info" if name in INFO else "critical" if name in CRITICAL else "minor" if name in MINOR else "major"


def bundle(args, names, described, listed, goldens):
    """Writes bundle.json over the files that are there."""
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
        "golden": {"tolerance": TOLERANCE, "input": {"file": "golden/image.f32", "shape": [1, 3, *GOLDEN]},
                   "outputs": goldens[0]},
        "elastic": "elastic.json",
        "files": {p.relative_to(args.out).as_posix(): {"bytes": p.stat().st_size,
                                                       "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files},
    }
    write(args.out / "bundle.json", json.dumps(manifest, indent=2) + "\n")


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else value.encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True)
    add("--scorer")
    add("--weights", required=True)
    add("--out", required=True, type=Path)
    add("--inspectd", required=True, help="the agent's binary, which cuts and measures")
    add("--version", default="1.0.0")
    add("--inputs", type=lambda text: [int(n) for n in text.split(",")], default=list(INPUTS))
    add("--limit", type=int, help="pictures a set, to try things out")
    add("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    names = data.classes(args.data)
    net = evaluate.load(args.weights, len(names))
    model, listed, description = graph.write(net)
    write(args.out / "model.onnx", model)
    picture = golden_picture()
    write(args.out / "golden/image.f32", picture.tobytes())
    goldens = []
    for number, name in enumerate(NAMES):
        specs = {}
        for output, value in outputs(net, picture, number).items():
            file = f"golden/{name}/{output}.f32"
            write(args.out / file, value.tobytes())
            specs[output] = {"file": file, "shape": list(value.shape)}
        goldens.append(specs)

    described = {"schema": "inspect.elastic/1", "depths": description.depths, "width": description.width,
                 "classes": description.classes, "norm": "@0", "sizes": sizes([], names, goldens, args.inputs)}

    def save():
        write(args.out / "elastic.json", json.dumps(described, indent=1) + "\n")
        bundle(args, names, described, listed, goldens)

    # What is measured is what the agent cuts, so that the bundle must be whole before its figures are known.
    write(args.out / "CARD.md", "")
    save()
    settings = [(name, side, "float32") for name in NAMES for side in args.inputs]
    rows = figures.measure(args.out, settings, names, args, Path(args.weights).with_suffix(".figures.json"))
    described["sizes"] = sizes(rows, names, goldens, args.inputs)
    save()
    limits = ranges.measure_all(args.out, args.inspectd, args.data, described)
    for entry in described["sizes"]:
        entry["ranges"] = limits[entry["name"]]
    save()
    best = lambda entry: max(entry["validation"], key=lambda v: v["map50"])["input"]
    settings += [(entry["name"], best(entry), "int8") for entry in described["sizes"]]
    rows = figures.measure(args.out, settings, names, args, Path(args.weights).with_suffix(".figures.json"))
    described["sizes"] = sizes(rows, names, goldens, args.inputs)
    for entry in described["sizes"]:
        if "int8_cost" in entry:
            entry["ranges"] = limits[entry["name"]]
    write(args.out / "CARD.md", card.text(args.data, names, described, rows, args.version))
    save()
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{args.out}: {size} bytes")


if __name__ == "__main__":
    main()
