"""Average precision, for where no scorer is at hand: all-point interpolation, as COCO counts overlaps 0.50 to 0.95.

The figures of the card come from the independent scorer (`--scorer`); the two agree within a point.
"""

import torch
from torchvision.ops import box_iou

OVERLAPS = [0.5 + 0.05 * n for n in range(10)]


def matched(truth, boxes, overlap):
    """For each box, best first, whether it is the first to overlap one of `truth` that much."""
    if not len(truth) or not len(boxes):
        return [False] * len(boxes)
    free, right = set(range(len(truth))), []
    for row in box_iou(boxes, truth).tolist():
        best = max(((row[n], n) for n in free), default=(0.0, None))
        right.append(best[0] >= overlap)
        if right[-1]:
            free.remove(best[1])
    return right


def average_precision(hits, objects):
    """Of [(score, right)] with so many objects."""
    if not objects:
        return None
    curve, found, right = [], 0, 0
    for _, hit in sorted(hits, reverse=True):
        found, right = found + 1, right + hit
        curve.append((right / objects, right / found))
    area, best, last = 0.0, 0.0, None
    for recall, precision in reversed(curve):
        if last is not None:
            area += (last - recall) * best
        best, last = max(best, precision), recall
    return area + (last or 0.0) * best


def score(images, detections, names):
    """As score.py answers. `detections` a picture: boxes (n, 4), scores (n), labels (n), best first."""
    of = lambda image: torch.tensor([names.index(b["class"]) for b in image["boxes"]])
    boxes = lambda image: torch.tensor([b["xyxy"] for b in image["boxes"]]).reshape(-1, 4).float()
    present = sorted({b["class"] for image in images for b in image["boxes"]})
    classes = {}
    for name in present:
        k, aps = names.index(name), []
        objects = sum(b["class"] == name for image in images for b in image["boxes"])
        for overlap in OVERLAPS:
            hits = []
            for image, (box, value, label) in zip(images, detections):
                truth = boxes(image)[of(image) == k] if len(image["boxes"]) else boxes(image)
                right = matched(truth, box[label == k], overlap)
                hits += zip(value[label == k].tolist(), right)
            aps.append(average_precision(hits, objects))
        classes[name] = {"ap50": aps[0], "ap50_95": sum(aps) / len(aps)}
    domains = {name.split("/")[0] for name in present}
    foreign = sum(v >= 0.5 and names[k].split("/")[0] not in domains
                  for _, value, label in detections for v, k in zip(value.tolist(), label.tolist()))
    mean = lambda key: sum(c[key] for c in classes.values()) / max(len(classes), 1)
    return {"map50": mean("ap50"), "map50_95": mean("ap50_95"), "foreign_per_image": foreign / max(len(images), 1),
            "classes": classes}
