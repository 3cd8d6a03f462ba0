use proptest::prelude::*;

use super::*;

fn layout(name: &str) -> Layout {
    Layout::named(name).unwrap()
}

/// Puts samples of `bits` bits into memory as the format says, by the definition and not by the code under test.
fn write(layout: Layout, bits: u32, row: usize, padding: usize, values: &[u16]) -> Vec<u8> {
    let pack = |values: &[u16]| -> Vec<u8> {
        match layout.samples {
            Samples::Packed => values
                .chunks(2)
                .flat_map(|pair| {
                    let (a, b) = (pair[0], pair.get(1).copied().unwrap_or(0));
                    let low = bits - 8;
                    let mask = (1 << low) - 1;
                    [(a >> low) as u8, (a & mask) as u8 | ((b & mask) as u8) << 4, (b >> low) as u8]
                })
                .take((values.len() * 12).div_ceil(8))
                .collect(),
            Samples::Stream { stride, .. } => {
                let mut out = vec![0_u8; (values.len() * usize::from(stride)).div_ceil(8)];
                for (n, value) in values.iter().enumerate() {
                    for bit in 0..bits as usize {
                        let at = n * usize::from(stride) + bit;
                        out[at / 8] |= ((value >> bit & 1) as u8) << (at % 8);
                    }
                }
                out
            }
        }
    };
    if padding == 0 {
        return pack(values);
    }
    values.chunks(row).flat_map(|row| [pack(row), vec![0xEE; padding]].concat()).collect()
}

fn depth(name: &str) -> u32 {
    name.trim_start_matches(|c: char| !c.is_ascii_digit())
        .trim_end_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap()
}

proptest! {
    #[test]
    fn the_upper_bits_of_every_sample_survive(
        name in prop::sample::select(LAYOUTS.iter().filter(|l| l.colour == Colour::Mono).map(|l| l.name).collect::<Vec<_>>()),
        width in 1_u32..40,
        height in 1_u32..12,
        padding in 0_usize..5,
        seed in any::<u64>(),
    ) {
        let layout = layout(name);
        let bits = depth(name);
        let count = (width * height) as usize;
        let mut state = seed | 1;
        let values: Vec<u16> = (0..count).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as u16 & (((1_u32 << bits) - 1) as u16)
        }).collect();
        let data = write(layout, bits, width as usize, padding, &values);
        let image = layout.convert(width, height, padding, data).unwrap();
        let expected: Vec<u8> = values.iter().map(|v| (v >> (bits - 8)) as u8).collect();
        prop_assert_eq!(image.pixels, expected);
        prop_assert_eq!(image.format, PixelFormat::Mono8);
    }

    #[test]
    fn too_few_bytes_are_never_a_picture(
        n in 0..LAYOUTS.len(), width in 4_u32..20, height in 3_u32..20, padding in 0_usize..4, cut in 1_usize..64,
    ) {
        let layout = LAYOUTS[n];
        let width = width & !1;
        let row = layout.bits(width as usize * layout.colour.samples());
        let whole = if padding == 0 {
            (row * height as usize).div_ceil(8)
        } else {
            (row.div_ceil(8) + padding) * (height as usize - 1) + row.div_ceil(8)
        };
        let image = layout.convert(width, height, padding, vec![7; whole]).unwrap();
        prop_assert_eq!(image.pixels.len(), (width * height) as usize * image.format.channels());
        let short = layout.convert(width, height, padding, vec![7; whole.saturating_sub(cut)]);
        prop_assert!(short.unwrap_err().to_string().contains("bytes of a"));
    }
}

#[test]
fn a_mosaic_of_one_colour_becomes_that_colour() {
    let [red, green, blue] = [200_u8, 100, 30];
    for (name, tile) in [
        ("BayerRG8", [[red, green], [green, blue]]),
        ("BayerGR8", [[green, red], [blue, green]]),
        ("BayerGB8", [[green, blue], [red, green]]),
        ("BayerBG8", [[blue, green], [green, red]]),
    ] {
        let data = (0..64_usize).map(|n| tile[n / 8 % 2][n % 2]).collect();
        let image = layout(name).convert(8, 8, 0, data).unwrap();
        assert_eq!(image.format, PixelFormat::Rgb8);
        assert!(image.pixels.chunks(3).all(|p| p == [red, green, blue]), "{name}: {:?}", &image.pixels[..6]);
    }
    // The deeper ones are the same after their lower bits are gone.
    for (name, bits) in [("BayerRG10", 10), ("BayerRG10p", 10), ("BayerRG12Packed", 12), ("BayerRG12p", 12)] {
        let tile = [[red, green], [green, blue]];
        let values: Vec<u16> = (0..64).map(|n| u16::from(tile[n / 8 % 2][n % 2]) << (bits - 8)).collect();
        let data = write(layout(name), bits, 8, 0, &values);
        let image = layout(name).convert(8, 8, 0, data).unwrap();
        assert!(image.pixels.chunks(3).all(|p| p == [red, green, blue]), "{name}");
    }
}

#[test]
fn colours_keep_their_order_and_padding_goes() {
    let rgb = layout("RGB8").convert(2, 2, 1, vec![1, 2, 3, 4, 5, 6, 0, 7, 8, 9, 10, 11, 12, 0]).unwrap();
    assert_eq!((rgb.format, rgb.pixels), (PixelFormat::Rgb8, (1..=12).collect()));
    let bgr = layout("BGR8").convert(1, 1, 0, vec![1, 2, 3, 99]).unwrap();
    assert_eq!((bgr.format, bgr.pixels), (PixelFormat::Bgr8, vec![1, 2, 3]));
    let rgba = layout("RGBa8").convert(2, 1, 0, vec![1, 2, 3, 255, 4, 5, 6, 255]).unwrap();
    assert_eq!((rgba.format, rgba.pixels), (PixelFormat::Rgb8, vec![1, 2, 3, 4, 5, 6]));
    let grey = layout("YUV422_8").convert(2, 1, 0, vec![126, 128, 126, 128]).unwrap();
    assert!(grey.pixels.iter().all(|v| (127..=129).contains(v)), "{:?}", grey.pixels);
    let grey = layout("YUV422_8_UYVY").convert(2, 1, 0, vec![128, 126, 128, 126]).unwrap();
    assert!(grey.pixels.iter().all(|v| (127..=129).contains(v)), "{:?}", grey.pixels);
    assert!(layout("YUV422_8").convert(3, 1, 0, vec![0; 6]).is_err());
    assert!(layout("Mono8").convert(0, 5, 0, vec![0; 6]).is_err());
}

#[test]
fn codes_are_those_of_the_convention() {
    let mut codes: Vec<u32> = LAYOUTS.iter().map(|l| l.code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), LAYOUTS.len());
    for layout in LAYOUTS {
        // The third byte of a code is the number of bits a pixel.
        assert_eq!(layout.bits(layout.colour.samples()), (layout.code >> 16 & 0xFF) as usize, "{}", layout.name);
        assert_eq!(Layout::of(layout.code), Some(layout));
    }
    #[cfg(feature = "genicam")]
    for (name, format) in [
        ("Mono8", aravis::PixelFormat::MONO_8),
        ("Mono10Packed", aravis::PixelFormat::MONO_10_PACKED),
        ("Mono12", aravis::PixelFormat::MONO_12),
        ("Mono14", aravis::PixelFormat::MONO_14),
        ("BayerGR8", aravis::PixelFormat::BAYER_GR_8),
        ("BayerRG10p", aravis::PixelFormat::BAYER_RG_10P),
        ("BayerGB10Packed", aravis::PixelFormat::BAYER_GB_10_PACKED),
        ("BayerBG12", aravis::PixelFormat::BAYER_BG_12),
        ("BayerBG12p", aravis::PixelFormat::BAYER_BG_12P),
        ("BayerRG12Packed", aravis::PixelFormat::BAYER_RG_12_PACKED),
        ("BayerRG16", aravis::PixelFormat::BAYER_RG_16),
        ("RGB8", aravis::PixelFormat::RGB_8_PACKED),
        ("BGR8", aravis::PixelFormat::BGR_8_PACKED),
        ("RGBa8", aravis::PixelFormat::RGBA_8_PACKED),
        ("YUV422_8_UYVY", aravis::PixelFormat::YUV_422_PACKED),
        ("YUV422_8", aravis::PixelFormat::YUV_422_YUYV_PACKED),
    ] {
        assert_eq!(Layout::of(format.raw()).unwrap().name, name);
    }
}
