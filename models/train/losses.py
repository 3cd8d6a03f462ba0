"""Which cells answer for which box, and what a wrong answer costs."""

import torch
from torch.nn import functional as F

from network import boxes

TOP = 10  # cells that answer for a box
BOX_WEIGHT = 2.0


def iou_and_giou(a, b):
    """Of boxes x0, y0, x1, y1 whose shapes broadcast (GIoU: Rezatofighi et al. 2019)."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    area = lambda r: (r[..., 2:] - r[..., :2]).clamp(min=0).prod(-1)
    union = area(a) + area(b) - common + 1e-6
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1) + 1e-6
    iou = common / union
    return iou, iou - (hull - union) / hull


@torch.no_grad()
def assign(scores, predicted, centres, strides, truth, labels, valid):
    """Task-aligned assignment (TOOD, Feng et al. 2021) on a prior of centre and scale, which keeps targets nearly still
    from the first step on: alignment alone hardly learns in so few steps.

    scores (B, N, classes) 0 to 1, predicted (B, N, 4), truth (B, G, 4), labels (B, G), valid (B, G).
    Gives targets (B, N, classes), for each cell the number of its box (B, N) or -1, and its weight (B, N).
    """
    b, n, _ = scores.shape
    centre, extent = (truth[..., :2] + truth[..., 2:]) / 2, truth[..., 2:] - truth[..., :2]
    # Boxes smaller than a cell still own one.
    half = torch.maximum(extent[:, :, None] / 2, 0.75 * strides[None, None, :, None])
    relative = (centres[None, None] - centre[:, :, None]).abs() / half
    inside = (relative < 1).all(-1) & valid[..., None]
    iou, _ = iou_and_giou(predicted[:, None], truth[:, :, None])
    octaves = torch.log2(extent.prod(-1).sqrt().clamp(min=4)[..., None] / (4 * strides))
    prior = torch.exp(-2 * (relative**2).sum(-1) - octaves**2)
    score = scores.gather(2, labels[:, None].expand(b, n, -1)).transpose(1, 2)
    metric = (score.sqrt() * iou**2 + 0.02) * prior * inside
    value, index = metric.topk(min(TOP, n), -1)
    chosen = torch.zeros_like(inside).scatter_(2, index, value > 0)
    best, owner = (metric * chosen).max(1)
    owner = torch.where(best > 0, owner, -1)
    owned = F.one_hot(owner + 1, truth.shape[1] + 1)[..., 1:].transpose(1, 2).bool()
    # The best cell of a box is to say the box's overlap, the others in proportion (quality-aware score).
    most = (metric * owned).amax(-1).clamp(min=1e-12)
    quality = (iou * owned).amax(-1).clamp(min=0.1)
    weight = (metric / most[..., None] * quality[..., None] * owned).sum(1)
    label = labels.gather(1, owner.clamp(min=0))
    targets = torch.zeros_like(scores).scatter_(2, label[..., None], weight[..., None])
    return targets, owner, weight


def detection_loss(logits, log_distances, centres, strides, truth, labels, valid):
    """Class and box loss of a batch: cross-entropy on soft targets, negatives weighted by their score (varifocal, Zhang
    et al. 2021), and GIoU."""
    predicted = boxes(log_distances, centres, strides)
    probability = logits.detach().sigmoid()
    targets, owner, weight = assign(probability, predicted.detach(), centres, strides, truth, labels, valid)
    total = weight.sum().clamp(min=1.0)
    importance = torch.where(targets > 0, torch.ones_like(targets), 0.75 * probability**1.5)
    class_loss = (importance * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum() / total
    positive = owner >= 0
    own = truth.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, 4))
    _, giou = iou_and_giou(predicted[positive], own[positive])
    box_loss = ((1 - giou) * weight[positive]).sum() / total
    return class_loss, BOX_WEIGHT * box_loss


def imitation_loss(logits, teacher):
    """What a small size's class scores cost that are not the full size's on the same pictures (distillation in place, Yu and
    Huang 2019). Weighted as in `detection_loss`: by the teacher's score, and where the small size sees what is not there."""
    wanted, probability = teacher.sigmoid(), logits.detach().sigmoid()
    importance = torch.maximum(wanted, 0.75 * probability**1.5)
    loss = importance * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    # A score that says what it ought to costs its own entropy; nothing is learned from that part.
    entropy = importance * F.binary_cross_entropy(wanted, wanted, reduction="none")
    return (loss - entropy).sum() / (wanted**2).sum().clamp(min=1.0)
