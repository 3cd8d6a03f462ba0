//! Two tensors with a query a row: class logits and boxes of the DETR family (Carion et al. 2020).

use anyhow::{Result, bail, ensure};

use super::Output;
use super::pick::{Candidates, top};

/// `softmax` with a last "no object", or a sigmoid per class.
pub(super) fn decode(
    logits: &Output,
    boxes: &Output,
    softmax: bool,
    thresholds: &[f32],
    [width, height]: [usize; 2],
    candidates: &mut Candidates,
) -> Result<()> {
    let (name, classes) = (&logits.spec.name, thresholds.len());
    let &[1, queries, channels] = logits.shape.as_slice() else {
        bail!("output {name} is {:?}, not (1, queries, classes)", logits.shape);
    };
    ensure!(
        channels == classes + 1 || (channels == classes && channels > 0 && !softmax),
        "output {name} is {:?}; {classes} classes need {} logits a query: is detector.format right, and are all classes \
         listed?",
        logits.shape,
        if softmax { format!("{} (the last is \"no object\")", classes + 1) } else { format!("{classes} or one more") }
    );
    ensure!(boxes.shape == [1, queries, 4], "output {} is {:?}, not (1, {queries}, 4)", boxes.spec.name, boxes.shape);
    ensure!(
        Some(logits.data.len()) == queries.checked_mul(channels) && boxes.data.len() == queries * 4,
        "output {name} or {} does not hold what its shape says",
        boxes.spec.name
    );
    let (boxes, _) = boxes.data.as_chunks::<4>();
    for (row, bbox) in logits.data.chunks_exact(channels).zip(boxes) {
        let best = if softmax {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = row.iter().map(|logit| (logit - most).exp()).sum();
            top(row[..classes].iter().map(|logit| (logit - most).exp() / sum), thresholds)
        } else {
            top(row[..classes].iter().map(|logit| 1.0 / (1.0 + (-logit).exp())), thresholds)
        };
        if let Some((class, score)) = best {
            let [x, y, w, h] = *bbox;
            let (width, height) = (width as f32, height as f32);
            candidates.offer_centred(class, score, [x * width, y * height, w * width, h * height]);
        }
    }
    Ok(())
}
