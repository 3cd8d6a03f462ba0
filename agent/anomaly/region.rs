//! From a heat map to boxes: cells that stand out, joined where they touch.

use super::HeatMap;

/// Boxes a frame.
const MAX_REGIONS: usize = 8;
/// An anomalous region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// x0, y0, x1, y1 in network input pixels.
    pub bbox: [f32; 4],
    /// How sure, 0 to 1.
    pub score: f32,
}

/// Regions whose strongest cell is over `threshold`, strongest first. Each reaches, over its 8-connected cells, down to
/// half its height above the map's median (its full width at half maximum), so that a strong region does not draw in
/// its whole surroundings; what is left around it is its shoulder and no region of its own. When no single cell is over
/// the threshold, the strongest cell's region stands for the frame.
pub fn find(map: &HeatMap, threshold: f32, probability: impl Fn(f32) -> f32) -> Vec<Region> {
    let mut order: Vec<usize> = (0..map.data.len()).collect();
    order.sort_by(|&a, &b| map.data[b].total_cmp(&map.data[a]));
    let Some(&strongest) = order.first() else { return Vec::new() };
    let median = map.data[order[order.len() / 2]];
    let least = threshold.min(map.data[strongest]);
    let mut owners = vec![None; map.data.len()];
    let mut found = Vec::new();
    for start in order {
        let peak = map.data[start];
        if peak < least || found.len() == MAX_REGIONS {
            break;
        }
        if owners[start].is_none() {
            let (bounds, shoulder) = grow(map, start, median + (peak - median) / 2.0, &mut owners);
            if !shoulder {
                let bbox = std::array::from_fn(|k| bounds[k] as f32 * map.cell[k % 2]);
                found.push(Region { bbox, score: probability(peak) });
            }
        }
    }
    found
}

/// Takes the cells around `start` of at least `low` that are joined to it and belong to nobody: their bounds, and
/// whether they touch those of a stronger start.
fn grow(map: &HeatMap, start: usize, low: f32, owners: &mut [Option<usize>]) -> ([usize; 4], bool) {
    let (mut bounds, mut touches) = ([usize::MAX, usize::MAX, 0, 0], false);
    let mut stack = vec![start];
    owners[start] = Some(start);
    while let Some(cell) = stack.pop() {
        let (x, y) = (cell % map.width, cell / map.width);
        bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x + 1), bounds[3].max(y + 1)];
        for ny in y.saturating_sub(1)..(y + 2).min(map.height) {
            for nx in x.saturating_sub(1)..(x + 2).min(map.width) {
                let next = ny * map.width + nx;
                match owners[next] {
                    None if map.data[next] >= low => {
                        owners[next] = Some(start);
                        stack.push(next);
                    }
                    None => {}
                    Some(owner) => touches |= owner != start,
                }
            }
        }
    }
    (bounds, touches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[&[f32]]) -> HeatMap {
        HeatMap { width: rows[0].len(), height: rows.len(), cell: [8.0; 2], data: rows.concat() }
    }

    #[test]
    fn touching_cells_are_one_region_strongest_first() {
        let map = map(&[
            &[0.0, 0.9, 0.1, 0.0, 0.0],
            &[0.0, 0.1, 0.8, 0.0, 0.0],
            &[0.0, 0.0, 0.0, 0.0, 1.2],
            &[0.6, 0.0, 0.0, 0.0, 0.0],
        ]);
        let regions = find(&map, 0.8, |s| s / 2.0);
        assert_eq!(
            regions,
            [
                Region { bbox: [32.0, 16.0, 40.0, 24.0], score: 0.6 },
                Region { bbox: [8.0, 0.0, 24.0, 16.0], score: 0.45 },
            ]
        );
    }

    #[test]
    fn the_shoulder_of_a_peak_is_no_region() {
        let map = map(&[&[0.0, 0.9, 0.9, 0.0, 0.0], &[0.9, 0.9, 3.0, 0.9, 0.0], &[0.0, 0.0, 0.9, 0.0, 0.0], &[0.0; 5]]);
        assert_eq!(find(&map, 0.8, |s| s).len(), 1);
    }

    #[test]
    fn a_frame_over_the_threshold_always_has_a_region() {
        let weak = map(&[&[0.1, 0.2], &[0.1, 0.1]]);
        assert_eq!(find(&weak, 0.5, |s| s).len(), 1);
    }
}
