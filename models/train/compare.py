"""Two questions about the elastic model, answered with the same number of training steps each.

    python3 compare.py --data DIR --wheel WHEEL --run DIR --steps N [--scorer score.py] [--input PX] [--sizes large,tiny]

One against many: one network for all sets, against a network of the same size for each set. Each specialist gets the share
of the steps that the sampler gives its set, so that all of them together cost what the one does, and see the same pictures
as often. Each is scored on its own set.

Extracted against alone: sizes cut out of one elastic training, against the same sizes trained by themselves for as many
steps. All begin from the ImageNet weights. A run that was stopped goes on; RUN/figures.json and RUN/table.md hold the answer.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

import data
import evaluate
from network import NAMES


def trained(args, name, steps, *more):
    run = args.run / name
    if not (run / "weights.pt").exists():
        warm = str(min(200, max(steps // 10, 1)))
        command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("train.py")), "--data", args.data, "--wheel",
                   args.wheel, "--run", str(run), "--steps", str(steps), "--canvas", str(args.canvas), "--batch", str(args.batch),
                   "--warm", warm, *more]
        print(f"{name}: {steps} steps", flush=True)
        subprocess.run(command, check=True)
    return run / "weights.pt"


def scored(args, names, weights, size, sets=data.SETS):
    """{set: mAP50}"""
    net = evaluate.load(weights, len(names))
    setting = (size, args.input)
    return {name: found["map50"] for name, found in
            evaluate.validate(net, args.data, args.scorer, [setting], names, sets=sets)[setting].items()}


def row(title, figures):
    mean = sum(figures.values()) / len(figures)
    return f"| {title} | " + " | ".join(f"{100 * figures[name]:.1f}" for name in data.SETS) + f" | {100 * mean:.1f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True)
    add("--wheel", required=True)
    add("--run", required=True, type=Path)
    add("--scorer", help="the independent scorer; without it our own counts")
    add("--steps", type=int, required=True)
    add("--batch", type=int, default=16)
    add("--canvas", type=int, default=256)
    add("--input", type=int, default=256)
    add("--sizes", default="large,tiny", help="which to train alone as well")
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    names = data.classes(args.data)
    counts = {name: len(data.annotations(args.data, name, False)) for name in data.SETS}
    shares = data.shares(counts)

    one = trained(args, "one", args.steps, "--size", "0")
    elastic = trained(args, "elastic", args.steps)
    many = {}
    for name in data.SETS:
        weights = trained(args, f"only-{name}", max(round(args.steps * shares[name]), 1), "--size", "0", "--only", name)
        many.update(scored(args, names, weights, 0, (name,)))
    figures = {"one": scored(args, names, one, 0), "many": many, "elastic/full": scored(args, names, elastic, 0)}
    for name in args.sizes.split(","):
        size = NAMES.index(name)
        figures[f"elastic/{name}"] = scored(args, names, elastic, size)
        figures[f"alone/{name}"] = scored(args, names, trained(args, f"alone-{name}", args.steps, "--size", str(size)), size)
    (args.run / "figures.json").write_text(json.dumps({"steps": args.steps, "input": args.input, "shares": shares, **figures}, indent=1))
    lines = [f"| {args.steps} steps, mAP50 at {args.input} px | " + " | ".join(data.SETS) + " | mean |", "|---" * (len(data.SETS) + 2) + "|"]
    lines += [row(title.replace("/", ", "), values) for title, values in figures.items()]
    (args.run / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
