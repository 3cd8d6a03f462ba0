"""Pictures and boxes: reading, the validation split, sampling and augmentation.

A set is a folder with annotations.json: {"images": [{"file", "w", "h", "boxes": [{"class", "xyxy"}]}]}.
"""

import json
import random
from pathlib import Path

import cv2
import numpy as np

import lite0
from split import SETS, held_back

cv2.setNumThreads(1)

# Where up and down carry no meaning, all eight symmetries; elsewhere left and right.
ANY_WAY_UP = {"neu_det", "deeppcb", "magnetic_tile"}
LARGEST = 512  # px, longer side in memory
MOST_UPSCALED = 1.6  # a picture is never brought in larger than that: there is no more to be seen in it
BACKGROUND = 127


def annotations(root, name, validation):
    return [image for image in listed(root, name) if held_back(name, image["file"]) == validation]


def listed(root, name):
    path = Path(root) / name / "annotations.json"
    if not path.is_file():
        raise SystemExit(f"{path} is missing; --data must name the folder that holds {', '.join(SETS)}")
    return json.loads(path.read_text())["images"]


def classes(root):
    return sorted({box["class"] for name in SETS for image in listed(root, name) for box in image["boxes"]})


def read(path):
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} is no picture")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def lively(picture):
    """Raises a dull picture's contrast, exactly as the agent's preprocessing does (`input.contrast`)."""
    mean, deviation = float(picture.mean()), max(float(picture.std()), 1e-3)
    gain = min(max((lite0.CONTRAST / deviation) ** 0.5, 1.0), 2.0)
    if gain == 1.0:
        return picture
    table = np.clip((np.arange(256) - mean) * gain + mean, 0, 255)
    return cv2.LUT(picture, np.round(table).astype(np.uint8))


def load(root, names, limit=None):
    """The training pictures: {set: [(picture, boxes (n, 4), labels (n))]}."""
    out = {}
    for name in SETS:
        out[name] = []
        for image in annotations(root, name, False)[:limit]:
            picture = read(Path(root) / name / image["file"])
            height, width = picture.shape[:2]
            shrink = min(1.0, LARGEST / max(height, width))
            if shrink < 1:
                picture = cv2.resize(picture, (round(width * shrink), round(height * shrink)), interpolation=cv2.INTER_AREA)
            box = np.array([b["xyxy"] for b in image["boxes"]], np.float32).reshape(-1, 4)
            box[:, 0::2] *= picture.shape[1] / width
            box[:, 1::2] *= picture.shape[0] / height
            labels = np.array([names.index(b["class"]) for b in image["boxes"]], np.int64)
            out[name].append((lively(picture), box, labels))
    return out


def placed(picture, size, multiple=32):
    """A picture as the agent brings it in: the area of size x size in the picture's own shape."""
    height, width = picture.shape[:2]
    scale = min(size / (height * width) ** 0.5, MOST_UPSCALED)
    side = lambda n: max(round(n * scale / multiple), 1) * multiple
    rows, columns = side(height), side(width)
    method = cv2.INTER_AREA if columns <= width and rows <= height else cv2.INTER_LINEAR
    return lively(cv2.resize(picture, (columns, rows), interpolation=method))


def shares(counts):
    """Of each set among the pictures that are seen. Small sets are seen more often than their share: in proportion to the
    root of their size."""
    weights = {name: count**0.5 for name, count in counts.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


class Sampler:
    """An endless stream of augmented training pictures; the same seed gives the same stream."""

    def __init__(self, pictures, seed):
        self.pictures, self.random = pictures, random.Random(seed)
        self.share = shares({name: len(pictures[name]) for name in SETS})
        self.credit = dict.fromkeys(SETS, 0.0)
        self.queue = {name: [] for name in SETS}

    def pick(self):
        for name in SETS:
            self.credit[name] += self.share[name]
        name = max(SETS, key=self.credit.get)
        self.credit[name] -= 1
        if not self.queue[name]:
            # A picture with a defect twice for each one without.
            queue = [n for n, (_, box, _) in enumerate(self.pictures[name]) for _ in range(2 if len(box) else 1)]
            self.random.shuffle(queue)
            self.queue[name] = queue
        return name, self.pictures[name][self.queue[name].pop()]

    def augmented(self, name, entry, canvas, reach):
        """One picture on a canvas of canvas x canvas, at a scale as if brought in at a size out of `reach`."""
        picture, box, labels = entry
        rng = self.random
        height, width = picture.shape[:2]
        scale = min(rng.uniform(*reach) / (height * width) ** 0.5, MOST_UPSCALED) * rng.uniform(0.85, 1.15)
        ax, ay = scale * rng.uniform(0.92, 1.08), scale * rng.uniform(0.92, 1.08)
        x = self.offset(width * ax, canvas, box[:, 0::2] * ax)
        y = self.offset(height * ay, canvas, box[:, 1::2] * ay)
        matrix = np.array([[ax, 0, x + ax / 2 - 0.5], [0, ay, y + ay / 2 - 0.5]], np.float32)
        if scale < 0.6:  # bilinear sampling would alias
            k = int(1 / scale)
            small = cv2.resize(picture, (width // k, height // k), interpolation=cv2.INTER_AREA)
            fx, fy = width / small.shape[1], height / small.shape[0]
            matrix = np.array([[ax * fx, 0, x + ax * fx / 2 - 0.5], [0, ay * fy, y + ay * fy / 2 - 0.5]], np.float32)
            picture = small
        out = cv2.warpAffine(picture, matrix, (canvas, canvas), flags=cv2.INTER_LINEAR, borderValue=(BACKGROUND,) * 3)
        box = box * np.array([ax, ay, ax, ay], np.float32) + np.array([x, y, x, y], np.float32)
        area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
        whole, box = area(box), box.clip(0, canvas)
        seen = (area(box) > 0.35 * whole) & (box[:, 2] - box[:, 0] > 2) & (box[:, 3] - box[:, 1] > 2)
        box, labels = box[seen], labels[seen]
        if rng.random() < 0.5:
            out, box = out[:, ::-1], np.stack([canvas - box[:, 2], box[:, 1], canvas - box[:, 0], box[:, 3]], 1)
        if name in ANY_WAY_UP:
            if rng.random() < 0.5:
                out, box = out[::-1], np.stack([box[:, 0], canvas - box[:, 3], box[:, 2], canvas - box[:, 1]], 1)
            if rng.random() < 0.5:
                out, box = out.transpose(1, 0, 2), box[:, [1, 0, 3, 2]]
        return self.lit(np.ascontiguousarray(out)), box, labels

    def offset(self, length, canvas, sides):
        """Where the picture lies along an axis: anywhere when it fits, else mostly so that some box is in sight."""
        rng = self.random
        if length <= canvas:
            return rng.uniform(0, canvas - length)
        if len(sides) and rng.random() < 0.7:
            low, high = sides[rng.randrange(len(sides))]
            centre = (low + high) / 2 + rng.uniform(-0.35, 0.35) * canvas
            return min(max(canvas / 2 - centre, canvas - length), 0)
        return rng.uniform(canvas - length, 0)

    def lit(self, picture):
        """Other light, other white balance, now and then out of focus or noisy."""
        rng = self.random
        if rng.random() < 0.8:
            gain, shift = rng.uniform(0.75, 1.3), rng.uniform(-25, 25)
            ramp = (np.arange(256, dtype=np.float32) - 127) * gain + 127 + shift
            table = np.stack([np.clip(ramp * rng.uniform(0.9, 1.1), 0, 255) for _ in range(3)], 1).astype(np.uint8)
            picture = cv2.LUT(picture, table[None])
        if rng.random() < 0.3:  # paler or stronger colours; a grey picture stays one
            grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            strength = rng.uniform(0.0, 1.5)
            picture = cv2.addWeighted(picture, strength, grey, 1 - strength, 0)
        if rng.random() < 0.1:
            picture = cv2.GaussianBlur(picture, (3, 3), rng.uniform(0.4, 1.0))
        if rng.random() < 0.1:
            noise = np.random.Generator(np.random.PCG64(rng.getrandbits(32))).standard_normal(picture.shape[:2], np.float32)
            picture = np.clip(picture + noise[..., None] * rng.uniform(2, 8), 0, 255).astype(np.uint8)
        return picture

    def batch(self, count, canvas, reach):
        """Pictures (count, canvas, canvas, 3) uint8, boxes (count, G, 4), labels (count, G), valid (count, G)."""
        entries = [self.augmented(*self.pick(), canvas, reach) for _ in range(count)]
        most = max(1, max(len(box) for _, box, _ in entries))
        truth, labels = np.zeros((count, most, 4), np.float32), np.zeros((count, most), np.int64)
        truth[..., 2:] = 1  # an area, so that no logarithm of nothing comes about
        valid = np.zeros((count, most), bool)
        for n, (_, box, label) in enumerate(entries):
            truth[n, : len(box)], labels[n, : len(box)], valid[n, : len(box)] = box, label, True
        return np.stack([picture for picture, _, _ in entries]), truth, labels, valid
