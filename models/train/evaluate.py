"""Scores weights on the validation split with score.py: mAP50 and mAP50:95 a set.

    python3 evaluate.py --data DIR --weights FILE [--scorer score.py] [--sizes 0,3] [--inputs 416,256] [--out FILE.json]

Pictures go in one at a time, as the agent brings them in. Use two threads or more: on one, torch takes a convolution that
is twenty times as slow for single pictures.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torchvision.ops import batched_nms

import data
import lite0
import precision
from network import Detector, boxes, cells, flatten

CANDIDATES, DETECTIONS, OVERLAP, FLOOR = 1000, 100, 0.6, 0.01


def load(weights, classes):
    net = Detector(classes)
    state = torch.load(weights, map_location="cpu")
    net.load_state_dict(state.get("average", state))
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net.eval().to(memory_format=torch.channels_last)


def tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float().sub_(lite0.MEAN).div_(lite0.STD).contiguous(
        memory_format=torch.channels_last)


def decode(logits, distances, height, width):
    """The detections of one picture: boxes (n, 4) in input pixels, scores (n), labels (n), best first."""
    centres, strides = cells(height, width)
    score = flatten(logits)[0].sigmoid()
    box = boxes(flatten(distances), centres, strides)[0]
    value, index = score.flatten().topk(min(CANDIDATES, score.numel()))
    value, index = value[value > FLOOR], index[value > FLOOR]
    label = index % score.shape[1]
    box = box[torch.div(index, score.shape[1], rounding_mode="floor")]
    box[:, 0::2], box[:, 1::2] = box[:, 0::2].clamp(0, width), box[:, 1::2].clamp(0, height)
    some = ((box[:, 2] - box[:, 0]) > 0) & ((box[:, 3] - box[:, 1]) > 0)
    box, value, label = box[some], value[some], label[some]
    keep = batched_nms(box, value, label, OVERLAP)[:DETECTIONS]
    return box[keep], value[keep], label[keep]


@torch.no_grad()
def validate(net, root, scorer, settings, names, limit=None, sets=data.SETS):
    """{(size, input): {set: score.py's answer}}"""
    out = {setting: {} for setting in settings}
    for name in sets:
        images = data.annotations(root, name, True)[:limit]
        pictures = [data.read(Path(root) / name / image["file"]) for image in images]
        for size, side in settings:
            found = []
            for image, picture in zip(images, pictures):
                x = tensor(data.placed(picture, side))
                logits, distances, _ = net(x, size)
                height, width = x.shape[2:]
                box, score, label = decode(logits, distances, height, width)
                found.append((box * torch.tensor([image["w"] / width, image["h"] / height] * 2), score, label))
            judge = judged if scorer else precision.score
            out[size, side][name] = judge(images, found, names, *([scorer] if scorer else []))
    return out


def judged(images, found, names, scorer):
    """What the independent scorer says."""
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "annotations.json").write_text(json.dumps({"images": images}))
        lines = [json.dumps({"file": image["file"], "detections": [
            {"class": names[k], "score": s, "box": b}
            for k, s, b in zip(label.tolist(), score.tolist(), box.tolist())]}) for image, (box, score, label) in zip(images, found)]
        predictions = Path(work) / "predictions.jsonl"
        predictions.write_text("\n".join(lines) + "\n")
        answer = subprocess.run([sys.executable, scorer, "detections", work, predictions, "--json"],
                                check=True, capture_output=True, text=True).stdout
    return json.loads(answer)


def table(results):
    lines = []
    for (size, side), sets in results.items():
        means = [sum(s[key] for s in sets.values()) / len(sets) for key in ("map50", "map50_95", "foreign_per_image")]
        each = "  ".join(f"{name} {100 * s['map50']:.1f}" for name, s in sets.items())
        lines.append(f"size {size} at {side}: mean {100 * means[0]:.1f} ({100 * means[1]:.1f})  {each}  foreign {means[2]:.3f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True)
    add("--scorer", help="the independent scorer; without it our own counts")
    add("--weights", required=True)
    add("--sizes", default="0")
    add("--inputs", default="416")
    add("--out")
    add("--threads", type=int, default=2)
    add("--limit", type=int)
    add("--classes", action="store_true", help="figures a class")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    names = data.classes(args.data)
    settings = [(int(size), int(side)) for size in args.sizes.split(",") for side in args.inputs.split(",")]
    results = validate(load(args.weights, len(names)), args.data, args.scorer, settings, names, args.limit)
    print(table(results))
    if args.classes:
        for setting, sets in results.items():
            for score in sets.values():
                print(setting, {k: round(100 * v["ap50"], 1) for k, v in score["classes"].items()})
    if args.out:
        Path(args.out).write_text(json.dumps([{"size": s, "input": i, "sets": r} for (s, i), r in results.items()]))


if __name__ == "__main__":
    main()
