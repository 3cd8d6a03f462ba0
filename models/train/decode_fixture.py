"""Writes what the training side decodes from fixed random maps, for the agent's test of its own decoding.

    python3 decode_fixture.py > ../../tests/fixtures/decode.json
"""

import json
import sys

import torch

from evaluate import FLOOR, decode
from network import STRIDES

HEIGHT, WIDTH, CLASSES = 64, 96, 3


def main():
    torch.manual_seed(20)
    logits, distances, maps = [], [], []
    for stride in STRIDES:
        shape = (HEIGHT // stride, WIDTH // stride)
        logits.append(torch.randn(1, CLASSES, *shape) * 2.5 - 3)
        distances.append(torch.randn(1, 4, *shape) * 0.6 + 0.3)
        maps.append({"stride": stride, "rows": shape[0], "columns": shape[1],
                     "scores": [round(v, 7) for v in logits[-1].sigmoid().flatten().tolist()],
                     "distances": [round(v, 6) for v in distances[-1].exp().flatten().tolist()]})
        # What stands in the file is what both sides decode.
        logits[-1] = torch.tensor(maps[-1]["scores"], dtype=torch.float64).logit().float().view(1, CLASSES, *shape)
        distances[-1] = torch.tensor(maps[-1]["distances"], dtype=torch.float64).log().float().view(1, 4, *shape)
    box, score, label = decode(logits, distances, HEIGHT, WIDTH)
    detections = [{"class": k, "score": s, "box": b} for k, s, b in zip(label.tolist(), score.tolist(), box.tolist())]
    json.dump({"classes": CLASSES, "floor": FLOOR, "maps": maps, "detections": detections}, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
