"""Writes a folder of sets as data.py reads them, with drawn pictures: enough to walk the whole way of training.

    python3 smoke_data.py DIR
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

import data

CLASSES = {
    "neu_det": ["steel/crazing", "steel/inclusion", "steel/patches", "steel/pitted_surface", "steel/rolled_in_scale", "steel/scratches"],
    "deeppcb": ["pcb/mouse_bite", "pcb/open", "pcb/pin_hole", "pcb/short", "pcb/spur", "pcb/spurious_copper"],
    "cplid": ["powerline/insulator", "powerline/insulator_defect"],
    "magnetic_tile": ["tile/blowhole", "tile/break", "tile/crack", "tile/fray", "tile/uneven"],
    "container": ["container/dent", "container/hole", "container/rusty"],
    "pennfudan": ["warehouse/person"],
}
TRAINED, KEPT = 8, 2
SIZES = [(200, 200), (240, 160)]


def picture(rng, width, height, count):
    """Noise with bright rectangles, and their boxes."""
    out = rng.normal(110, 45, (height, width, 3))
    boxes = []
    for _ in range(count):
        w, h = rng.integers(24, 70, 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        out[y : y + h, x : x + w] += rng.integers(40, 110)
        boxes.append([float(v) for v in (x, y, x + w, y + h)])
    return out.clip(0, 255).astype(np.uint8), boxes


def main(root):
    rng = np.random.default_rng(3)
    for name, classes in CLASSES.items():
        (root / name / "images").mkdir(parents=True, exist_ok=True)
        images, wanted, n = [], {False: TRAINED, True: KEPT}, 0
        while any(wanted.values()):
            file, n = f"images/{n}.png", n + 1
            held = data.held_back(name, file)
            if not wanted[held]:
                continue
            wanted[held] -= 1
            width, height = SIZES[len(images) % len(SIZES)]
            pixels, boxes = picture(rng, width, height, len(classes))
            cv2.imwrite(str(root / name / file), pixels)
            images.append({"file": file, "w": width, "h": height,
                           "boxes": [{"class": k, "xyxy": box} for k, box in zip(classes, boxes)]})
        (root / name / "annotations.json").write_text(json.dumps({"images": images}))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
