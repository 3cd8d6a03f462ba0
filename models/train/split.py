"""Which pictures are kept from training. Needs nothing but Python, so that `scripts/validate` can use it anywhere.

    python3 split.py DATA SET > annotations.json    the annotations of the pictures that are kept
"""

import hashlib
import json
import re
import sys
from pathlib import Path

SETS = ("neu_det", "deeppcb", "cplid", "magnetic_tile", "container", "pennfudan")
VALIDATION = 0.12  # share of the pictures that are never trained on


def held_back(name, file):
    """Whether a picture belongs to the validation split. Pictures of one and the same tile stay together."""
    tile = re.search(r"num_(\d+)", file)
    key = f"{name}/{tile.group(1) if tile else Path(file).name}"
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) < VALIDATION * 2**32


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    root, name = sys.argv[1:]
    images = json.loads((Path(root) / name / "annotations.json").read_text())["images"]
    json.dump({"images": [image for image in images if held_back(name, image["file"])]}, sys.stdout)
