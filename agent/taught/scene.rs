//! What the network has seen of a whole frame, kept with the frame's snapshot, so that an operator can teach any region of it
//! later, without the picture being sent back and looked at again.
//!
//! Guarantees: a scene comes back from its bytes with values within 0.4 % (bfloat16, which a mean over a region does not
//! notice), and what is no scene is refused. Layout, little-endian: columns, rows, channels, stride (u32), origin, scale, start
//! and end of the placement (f32), the lens where there is one, then the values of the coarsest feature map, channels first, upper
//! halves of float32. The stride's highest bit says that the input's rows are the frame's columns, the next one that there is a
//! lens: focal lengths, centre, eight coefficients, reach (f64).

use anyhow::{Context, Result, ensure};

use super::Look;
use crate::frame::view::lens::Optics;
use crate::model::FeatureMap;
use crate::model::preprocess::Placement;

const SWAP: u32 = 1 << 31;
const LENS: u32 = 1 << 30;
/// Numbers of a lens.
const NUMBERS: usize = 13;
const HEADER: usize = 4 * (4 + 8);
/// Values that a scene may have.
const MOST: usize = 1 << 24;

/// A frame as the network has seen it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene(Vec<u8>);

impl Scene {
    /// Of a frame's feature maps; `None` where there are none.
    #[must_use]
    pub fn of(maps: &[FeatureMap], placement: &Placement) -> Option<Self> {
        let map = maps.iter().max_by_key(|map| map.stride)?;
        let mut bytes = Vec::with_capacity(HEADER + 2 * map.data.len());
        for n in [map.width, map.height, map.channels] {
            bytes.extend(u32::try_from(n).ok()?.to_le_bytes());
        }
        let Placement { origin, scale, start, end, swap, optics, .. } = placement;
        let flags = if *swap { SWAP } else { 0 } | optics.map_or(0, |_| LENS);
        bytes.extend((u32::try_from(map.stride).ok().filter(|n| *n < LENS)? | flags).to_le_bytes());
        bytes.extend([origin, scale, start, end].into_iter().flatten().flat_map(|v| v.to_le_bytes()));
        if let Some(Optics { focal, centre, k, reach }) = optics {
            bytes.extend(focal.iter().chain(centre).chain(k).chain([reach]).flat_map(|v| v.to_le_bytes()));
        }
        // Half of the last place that stays is added, so that what is cut off rounds.
        bytes.extend(map.data.iter().flat_map(|v| ((v.to_bits().saturating_add(0x8000) >> 16) as u16).to_le_bytes()));
        Some(Self(bytes))
    }

    /// To be kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Out of what was kept.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What a region looks like that is given in pixels of the frame.
    ///
    /// # Errors
    /// The region lies outside of what was inspected, the network sees nothing there, or this is no scene.
    pub fn look(&self, bbox: [f32; 4]) -> Result<Look> {
        let (map, placement) = self.open().context("what was kept of this picture is damaged")?;
        let ([x0, y0], [x1, y1]) = (placement.start, placement.end);
        let proper = bbox[2] > bbox[0] && bbox[3] > bbox[1];
        let inside = bbox[0] < x1 && bbox[1] < y1 && bbox[2] > x0 && bbox[3] > y0;
        ensure!(
            proper && inside,
            "box: [x0, y0, x1, y1] in pixels of the frame as captured, x1 over x0 and y1 over y0, within what was inspected, {x0}, \
             {y0} to {x1}, {y1}"
        );
        Look::of(&[map], placement.to_input(bbox)).context("the network sees nothing there")
    }

    fn open(&self) -> Option<(FeatureMap, Placement)> {
        let (header, values) = self.0.split_at_checked(HEADER)?;
        let word = |n: usize| header.as_chunks::<4>().0.get(n).copied();
        let number = |n: usize| Some(u32::from_le_bytes(word(n)?));
        let whole = |n: usize| Some(number(n)? as usize);
        let pair = |n: usize| Some([f32::from_le_bytes(word(n)?), f32::from_le_bytes(word(n + 1)?)]);
        let (width, height, channels, last) = (whole(0)?, whole(1)?, whole(2)?, number(3)?);
        let (stride, swap) = ((last & !(SWAP | LENS)) as usize, last & SWAP != 0);
        let (optics, values) = if last & LENS == 0 { (None, values) } else { lens(values)? };
        let (origin, scale, start, end) = (pair(4)?, pair(6)?, pair(8)?, pair(10)?);
        let placement = Placement { origin, scale, start, end, swap, optics, area: None };
        let count = width.checked_mul(height)?.checked_mul(channels)?;
        if count > MOST || values.len() != 2 * count || width == 0 || height == 0 || stride == 0 {
            return None;
        }
        let value = |pair: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*pair)) << 16);
        let data = values.as_chunks::<2>().0.iter().map(value).collect();
        Some((FeatureMap { channels, height, width, stride, data }, placement))
    }
}

/// A lens, and what comes behind it.
fn lens(bytes: &[u8]) -> Option<(Option<Optics>, &[u8])> {
    let (lens, rest) = bytes.split_at_checked(8 * NUMBERS)?;
    let numbers: Vec<f64> = lens.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    let &[fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, k5, k6, reach] = numbers.as_slice() else { return None };
    let k = [k1, k2, p1, p2, k3, k4, k5, k6];
    Some((Some(Optics { focal: [fx, fy], centre: [cx, cy], k, reach }), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map() -> FeatureMap {
        let data = (0..5 * 12).map(|n| (n as f32 * 0.37).sin()).collect();
        FeatureMap { channels: 5, height: 3, width: 4, stride: 16, data }
    }

    /// An input of 64 x 48 over the part of a frame from 100,50 on, at half its size.
    fn placement() -> Placement {
        Placement {
            origin: [100.0, 50.0],
            scale: [2.0; 2],
            start: [100.0, 50.0],
            end: [228.0, 146.0],
            ..Placement::default()
        }
    }

    #[test]
    fn a_region_looks_as_it_did() {
        let k = [-0.2, 0.05, 0.001, 0.0, 0.0, 0.0, 0.0, 0.0];
        let optics = Optics { focal: [300.0; 2], centre: [160.0, 100.0], k, reach: 1.0 };
        let turned = Placement { origin: [228.0, 50.0], scale: [-2.0, 2.0], swap: true, ..placement() };
        for placement in [placement(), turned.clone(), Placement { optics: Some(optics), ..turned }] {
            let scene = Scene::from_bytes(Scene::of(&[map()], &placement).unwrap().bytes().to_vec());
            for bbox in [[100.0, 50.0, 228.0, 146.0], [140.0, 90.0, 150.0, 100.0], [0.0, 0.0, 5000.0, 5000.0]] {
                let direct = Look::of(&[map()], placement.to_input(bbox)).unwrap();
                let distance = scene.look(bbox).unwrap().distance(direct.values());
                assert!(distance < 1e-4, "{bbox:?}: {distance}");
            }
        }
        assert!(Scene::of(&[], &placement()).is_none());
    }

    #[test]
    fn a_region_elsewhere_is_refused() {
        let scene = Scene::of(&[map()], &placement()).unwrap();
        for bbox in [[0.0, 0.0, 99.0, 49.0], [150.0, 90.0, 140.0, 100.0], [230.0, 60.0, 240.0, 70.0], [f32::NAN; 4]] {
            assert!(scene.look(bbox).unwrap_err().to_string().contains("100, 50 to 228, 146"), "{bbox:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
            prop_assert!(Scene::from_bytes(bytes).look([0.0, 0.0, 1.0, 1.0]).is_err());
            let mut whole = Scene::of(&[map()], &placement()).unwrap().bytes().to_vec();
            whole.truncate(cut % whole.len());
            prop_assert!(Scene::from_bytes(whole).look([100.0, 50.0, 228.0, 146.0]).is_err());
        }
    }
}
