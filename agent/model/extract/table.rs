//! What can be extracted: every size at every input size that was measured, what it costs and what to expect of it.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::elastic::Size;
use super::{Base, Precision, Setting, cost};

/// The mAP50 that 8 bits may cost where the precision is left open.
const MOST_LOST: f32 = 0.01;
/// Time of an 8-bit network as a share of the same in float32, where it was measured; only the order of measuring and the
/// front of what is not measured follow from it.
const INT8_TIME: f64 = 0.6;

/// One row.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The size's name.
    pub size: String,
    /// Side of the input in pixels.
    pub input: u32,
    /// In which numbers it computes.
    pub precision: Precision,
    /// Multiply-accumulates of a square frame.
    pub macs: u64,
    /// Parameters.
    pub params: u64,
    /// mAP50 to expect of the wanted classes, 0 to 1: from the pictures kept from training.
    pub expected_map50: f32,
    /// Whether no other row is better at no more cost.
    pub front: bool,
    /// Median milliseconds a frame on this machine, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// How to get it.
    #[serde(skip)]
    pub setting: Setting,
}

/// All rows for some classes, most costly first; in one precision, at one input size, and of one size alone if wanted.
/// Where the precision is left open, 8 bits are there for sizes that lose no more than [`MOST_LOST`] by them.
///
/// # Errors
/// An input size that cannot be had, or a size that there is not.
pub fn rows(
    base: &Base,
    classes: &[usize],
    precision: Option<Precision>,
    input: Option<u32>,
    size: Option<&str>,
) -> Result<Vec<Row>> {
    let names: Vec<_> = base.sizes().iter().map(|s| s.name.as_str()).collect();
    ensure!(
        size.is_none_or(|s| names.contains(&s)),
        "no size is called {}; there are {}",
        size.unwrap_or_default(),
        names.join(", ")
    );
    let multiple = base.manifest().input.multiple_of;
    if let Some(px) = input {
        let low = base.sizes().iter().filter_map(|s| s.validation.first()).map(|v| v.input).min().unwrap_or_default();
        let high = base.sizes().iter().filter_map(|s| s.validation.last()).map(|v| v.input).max().unwrap_or_default();
        ensure!(
            (low..=high).contains(&px) && px.is_multiple_of(multiple),
            "--input {px}: it must be a multiple of {multiple} from {low} to {high}, the range in which this model was measured"
        );
    }
    let mut rows = Vec::new();
    for (number, it) in base.sizes().iter().enumerate().filter(|(_, s)| size.is_none_or(|name| s.name == name)) {
        let network = base.network(number, classes)?;
        let inputs: Vec<u32> = input.map_or_else(|| it.validation.iter().map(|v| v.input).collect(), |px| vec![px]);
        for px in inputs {
            let Some(expected) = it.expected(px, classes, &base.manifest().classes) else { continue };
            let cost = cost::cost(&network, u64::from(px), u64::from(px))?;
            for precision in precisions(it, precision) {
                let lost = if precision == Precision::Int8 { it.int8_cost.max(0.0) } else { 0.0 };
                rows.push(Row {
                    size: it.name.clone(),
                    input: px,
                    precision,
                    macs: cost.macs,
                    params: cost.parameters,
                    expected_map50: (expected - lost).max(0.0),
                    front: false,
                    ms: None,
                    setting: Setting { size: number, input: px, classes: classes.to_vec(), precision },
                });
            }
        }
    }
    ensure!(!rows.is_empty(), "no size was measured that way; leave out --input, --size or --precision");
    rows.sort_by(|a, b| b.cost().total_cmp(&a.cost()).then(a.expected_map50.total_cmp(&b.expected_map50)));
    mark(&mut rows);
    Ok(rows)
}

fn precisions(size: &Size, wanted: Option<Precision>) -> Vec<Precision> {
    let good = size.ranges.is_some() && size.int8_cost <= MOST_LOST;
    match wanted {
        Some(Precision::Int8) if size.ranges.is_none() => Vec::new(),
        Some(precision) => vec![precision],
        None if good => vec![Precision::Float32, Precision::Int8],
        None => vec![Precision::Float32],
    }
}

impl Row {
    /// What time it takes, in multiply-accumulates of float32.
    fn cost(&self) -> f64 {
        self.macs as f64 * if self.precision == Precision::Int8 { INT8_TIME } else { 1.0 }
    }
}

/// Marks the rows that no other beats (Pareto front); rows come most costly first.
fn mark(rows: &mut [Row]) {
    let mut best = f32::NEG_INFINITY;
    for row in rows.iter_mut().rev() {
        row.front = row.expected_map50 > best;
        best = best.max(row.expected_map50);
    }
}

/// The most accurate row of at most this many MACs.
///
/// # Errors
/// Even the smallest takes more.
pub fn within(rows: &[Row], macs: u64) -> Result<&Row> {
    let found = rows.iter().filter(|row| row.macs <= macs).max_by(|a, b| a.expected_map50.total_cmp(&b.expected_map50));
    let least = rows.iter().map(|row| row.macs).min().unwrap_or_default();
    found.ok_or_else(|| {
        anyhow::anyhow!(
            "nothing fits into {:.1} M multiply-accumulates; the smallest takes {:.1} M: allow that much, or fewer pixels \
             (--input)",
            macs as f64 / 1e6,
            least as f64 / 1e6
        )
    })
}

/// Finds the most accurate row of the front whose measured time is within a budget, measuring few: the front is ordered by
/// both cost and accuracy, so that halving finds the place. Rows that were measured keep their time.
///
/// # Errors
/// `measure` fails.
pub fn search(rows: &mut [Row], budget_ms: f64, mut measure: impl FnMut(&Row) -> Result<f64>) -> Result<Option<usize>> {
    let front: Vec<usize> = (0..rows.len()).filter(|&n| rows[n].front).collect();
    // Everything before `low` is too slow, everything from `high` on fits.
    let (mut low, mut high) = (0, front.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let at = front[middle];
        let ms = measure(&rows[at])?;
        rows[at].ms = Some(ms);
        if ms <= budget_ms { high = middle } else { low = middle + 1 }
    }
    // Times are not quite in the order of cost: the neighbour above may fit all the same.
    let mut found = front.get(high).copied();
    if let Some(above) = high.checked_sub(2).map(|n| front[n]).filter(|&n| rows[n].ms.is_none()) {
        let ms = measure(&rows[above])?;
        rows[above].ms = Some(ms);
        if ms <= budget_ms {
            found = Some(above);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(macs: u64, expected_map50: f32) -> Row {
        let setting = Setting { size: 0, input: 320, classes: vec![], precision: Precision::Float32 };
        Row {
            size: "s".into(),
            input: 320,
            precision: setting.precision,
            macs,
            params: 0,
            expected_map50,
            front: false,
            ms: None,
            setting,
        }
    }

    #[test]
    fn the_front_leaves_out_what_another_beats() {
        let mut rows = vec![row(900, 0.8), row(700, 0.6), row(500, 0.7), row(100, 0.7), row(50, 0.3)];
        mark(&mut rows);
        assert_eq!(rows.iter().map(|r| r.front).collect::<Vec<_>>(), [true, false, false, true, true]);
        assert_eq!(within(&rows, 600).unwrap().macs, 100);
        assert!(within(&rows, 49).unwrap_err().to_string().contains("0.0 M"));
    }

    proptest! {
        #[test]
        fn the_search_finds_the_most_accurate_that_fits(
            mut costs in prop::collection::vec(1_u64..10_000, 1..40),
            budget in 0.0_f64..11_000.0,
        ) {
            costs.sort_unstable_by(|a, b| b.cmp(a));
            costs.dedup();
            let mut rows: Vec<_> = costs.iter().map(|&macs| row(macs, macs as f32)).collect();
            mark(&mut rows);
            let mut measured = 0;
            let found = search(&mut rows, budget, |row| { measured += 1; Ok(row.macs as f64) }).unwrap();
            prop_assert_eq!(found, rows.iter().position(|r| r.macs as f64 <= budget));
            prop_assert!(measured <= 8);
        }
    }
}
