//! Image files, made by other encoders and by hand.

use std::io::Cursor;

use firebox_vision::{ColorMode, Image};
use image::{DynamicImage, ImageFormat};

/// An image in which no two pixels nearby are alike.
pub(crate) fn pattern(height: usize, width: usize, mode: ColorMode) -> Image {
    let channels = mode.channels();
    let byte = |at: usize| {
        let (row, column, channel) = (at / channels / width, at / channels % width, at % channels);
        (row * 37 + column * 11 + channel * 71 + row * column) as u8
    };
    let pixels = (0..height * width * channels).map(byte).collect();
    Image::new(height, width, mode, pixels).unwrap()
}

/// The same image as another crate has it.
pub(crate) fn dynamic(image: &Image) -> DynamicImage {
    let (width, height, pixels) = (image.width() as u32, image.height() as u32, image.pixels().to_vec());
    match image.mode() {
        ColorMode::Gray => image::GrayImage::from_raw(width, height, pixels).unwrap().into(),
        ColorMode::Rgb => image::RgbImage::from_raw(width, height, pixels).unwrap().into(),
    }
}

pub(crate) fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(crate) fn jpeg(height: usize, width: usize) -> Vec<u8> {
    encode(&dynamic(&pattern(height, width, ColorMode::Rgb)), ImageFormat::Jpeg)
}

/// A JPEG whose components each have one value: an identifier and a value for each.
///
/// `frame` is the marker of the frame: 0xc0 is a baseline file, 0xc2 a progressive one.
pub(crate) struct FlatJpeg<'a> {
    pub(crate) frame: u8,
    pub(crate) size: (u16, u16),
    pub(crate) components: &'a [(u8, u8)],
    pub(crate) adobe: Option<u8>,
    pub(crate) exif: Option<u16>,
    pub(crate) precision: u8,
}

impl Default for FlatJpeg<'_> {
    fn default() -> Self {
        let components = &[(1, 128), (2, 128), (3, 128)];
        FlatJpeg { frame: 0xc0, size: (8, 16), components, adobe: None, exif: None, precision: 8 }
    }
}

impl FlatJpeg<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8];
        let mut segment = |marker: u8, content: &[u8]| {
            bytes.extend([0xff, marker]);
            bytes.extend((content.len() as u16 + 2).to_be_bytes());
            bytes.extend(content);
        };
        if let Some(transform) = self.adobe {
            segment(0xee, &[b"Adobe", &[0, 100, 0, 0, 0, 0][..], &[transform]].concat());
        }
        if let Some(orientation) = self.exif {
            let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
            exif.extend(orientation.to_be_bytes());
            exif.extend([0; 6]);
            segment(0xe1, &exif);
        }
        segment(0xdb, &[&[0][..], &[1; 64]].concat());
        let count = self.components.len() as u8;
        let mut frame = vec![self.precision];
        frame.extend(self.size.0.to_be_bytes());
        frame.extend(self.size.1.to_be_bytes());
        frame.push(count);
        self.components.iter().for_each(|(id, _)| frame.extend([*id, 0x11, 0]));
        segment(self.frame, &frame);
        // Twelve categories of four bits each, and one symbol that ends a block, of one bit.
        segment(0xc4, &[&[0][..], &[0, 0, 0, 12], &[0; 12], &(0..12).collect::<Vec<u8>>()].concat());
        segment(0xc4, &[&[0x10][..], &[1], &[0; 15], &[0]].concat());
        let progressive = self.frame == 0xc2;
        let mut scan = vec![count];
        self.components.iter().for_each(|(id, _)| scan.extend([*id, 0]));
        scan.extend([0, if progressive { 0 } else { 63 }, 0]);
        segment(0xda, &scan);
        let blocks = self.size.0.div_ceil(8) as usize * self.size.1.div_ceil(8) as usize;
        let mut bits = Vec::new();
        for block in 0..blocks {
            for (_, value) in self.components {
                let mean = if block == 0 { 8 * (i32::from(*value) - 128) } else { 0 };
                let category = 32 - mean.unsigned_abs().leading_zeros();
                bits.extend((0..4).rev().map(|bit| category >> bit & 1));
                let coded = if mean < 0 { mean + (1 << category) - 1 } else { mean };
                bits.extend((0..category).rev().map(|bit| (coded >> bit & 1) as u32));
                if !progressive {
                    bits.push(0);
                }
            }
        }
        for chunk in bits.chunks(8) {
            let byte = (0..8).fold(0, |byte, at| byte << 1 | chunk.get(at).copied().unwrap_or(1)) as u8;
            bytes.push(byte);
            if byte == 0xff {
                bytes.push(0);
            }
        }
        bytes.extend([0xff, 0xd9]);
        bytes
    }
}

/// A PNG of these chunks after its header, its pixels stored without compression.
pub(crate) fn png(
    size: (u32, u32),
    depth: u8,
    color: u8,
    chunks: &[(&[u8; 4], &[u8])],
    rows: &[u8],
) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8; 4], content: &[u8]| {
        bytes.extend((content.len() as u32).to_be_bytes());
        let named = [name, content].concat();
        bytes.extend(&named);
        bytes.extend(crc32(&named).to_be_bytes());
    };
    let (height, width) = size;
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, 0]].concat());
    chunks.iter().for_each(|(name, content)| chunk(name, content));
    let length = rows.len() as u16;
    let (mut a, mut b) = (1u32, 0u32);
    for byte in rows {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    let stored = [&[0x78, 1, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), rows].concat();
    chunk(b"IDAT", &[&stored[..], &(b << 16 | a).to_be_bytes()].concat());
    chunk(b"IEND", &[]);
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
