"""What the sizes are worth: every size at every input, cut by the agent, run by the agent over the validation pictures.

So the figures are those of the whole way of a frame, not of the training side's copy of it.
"""

import hashlib
import json
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

import precision
from evaluate import judged, table
from split import SETS, held_back


def prepare(root, work, limit):
    """The validation part of each set as a set of its own: {set: images}."""
    out = {}
    for name in SETS:
        source = (Path(root) / name).resolve()
        images = json.loads((source / "annotations.json").read_text())["images"]
        out[name] = [image for image in images if held_back(name, image["file"])][:limit]
        (work / name).mkdir()
        for entry in source.iterdir():
            if entry.name != "annotations.json":
                (work / name / entry.name).symlink_to(entry)
        (work / name / "annotations.json").write_text(json.dumps({"images": out[name]}))
    return out


def found(line, names):
    """A line of `inspectd eval` as boxes (n, 4), scores (n), labels (n)."""
    detections = json.loads(line)["detections"]
    return (torch.tensor([d["box"] for d in detections]).reshape(-1, 4), torch.tensor([d["score"] for d in detections]),
            torch.tensor([names.index(d["class"]) for d in detections], dtype=torch.long))


def row(base, inspectd, scorer, sets, names, work, size, side, precision_name="float32"):
    """Figures of one size at one input; none where 8 bits change too much for its golden vectors to hold."""
    place = work / f"{size}-{side}-{precision_name}"

    def run(*args):
        done = subprocess.run([inspectd, *map(str, args)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, args))}: {done.stderr.strip()}")

    try:
        run("extract", "--from", base, "--out", place / "bundle", "--size", size, "--input", side, "--precision", precision_name)
    except RuntimeError as error:
        if precision_name != "int8":
            raise
        print(f"{size} cannot be had in 8 bits: {error}", flush=True)
        return None
    answers, hits, objects = {}, [[] for _ in names], [0] * len(names)
    for name, images in sets.items():
        run("eval", "--bundle", place / "bundle", "--data", work / name, "--out", place / "p.jsonl")
        detections = [found(line, names) for line in (place / "p.jsonl").read_text().splitlines()]
        answers[name] = judged(images, detections, names, scorer) if scorer else precision.score(images, detections, names)
        for image, (box, score, label) in zip(images, detections):
            for b in image["boxes"]:
                objects[names.index(b["class"])] += 1
            for k in set(label.tolist()):
                truth = torch.tensor([b["xyxy"] for b in image["boxes"] if names.index(b["class"]) == k])
                hits[k] += zip(score[label == k].tolist(), precision.matched(truth, box[label == k], 0.5))
    return {"size": size, "input": side, "precision": precision_name, "sets": answers,
            "thresholds": [threshold(h, n) for h, n in zip(hits, objects)]}


def threshold(hits, objects, low=0.2, high=0.55):
    """The score from which on a detection counts: where F0.5 is largest, within what an operator would expect. A false alarm
    weighs twice as much as a missed defect, since the defect is seen again in the next frames. No higher than 0.55, though: on
    pictures that are like the training's the best is often 0.7, and on others scores are lower (drawn circuit boards)."""
    best, found, right = (0.0, 0.5), 0, 0
    for score, hit in sorted(hits, reverse=True):
        found, right = found + 1, right + hit
        best = max(best, (1.25 * right / (found + 0.25 * objects), score))
    return round(min(max(best[1] - 0.01, low), high), 2)


def measure(base, settings, names, args, keep):
    """[row] of all (size, input, precision), two at a time; what `keep` has of the same weights is not measured again."""
    stamp = hashlib.sha256(Path(args.weights).read_bytes()).hexdigest()
    known = json.loads(keep.read_text()) if keep.exists() else {}
    if (known.get("weights"), known.get("limit")) != (stamp, args.limit):
        known = {"weights": stamp, "limit": args.limit, "rows": []}
    key = lambda r: (r["size"], r["input"], r["precision"])
    there = {key(r) for r in known["rows"]}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.threads) as pool:
        work = Path(folder)
        sets = prepare(args.data, work, args.limit)
        todo = [s for s in settings if s not in there]
        for r in pool.map(lambda s: row(base, args.inspectd, args.scorer, sets, names, work, *s), todo):
            if r is None:
                continue
            known["rows"].append(r)
            keep.write_text(json.dumps(known))
            print(table({(r["size"], f"{r['input']} {r['precision']}"): r["sets"]}), flush=True)
    return [r for r in known["rows"] if key(r) in settings]
