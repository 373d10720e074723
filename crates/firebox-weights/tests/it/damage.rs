//! Files that were damaged, or made to do damage.

use std::fs;
use std::path::Path;

use firebox_weights::StateDict;
use zip::ZipArchive;

use crate::common::{archive, fixture, memory};

/// The files that damage is done to.
const FILES: [&str; 11] = [
    "neg.pt",
    "foreign.pt",
    "extra.pt",
    "complex.pt",
    "f8.pt",
    "dp.pt",
    "wn.pt",
    "ckpt.pt",
    "kinds.pt",
    "legacy.pt",
    "shared.pt",
];

fn keys_of(name: &str) -> &'static [&'static str] {
    match name {
        "foreign.pt" => &["state_dict"],
        "ckpt.pt" => &["model"],
        _ => &[],
    }
}

#[test]
fn a_damaged_file_is_an_error_or_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt");
    for name in FILES {
        let whole = fs::read(fixture(name)).unwrap();
        let expected = StateDict::read_pytorch_at(fixture(name), keys_of(name)).ok();
        // Of the large one, what is not numbers.
        let step = whole.len().div_ceil(3000);
        for at in (0..whole.len()).step_by(step) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            let cut = at / 8 * 8;
            for damaged in [&flipped[..], &whole[..cut]].into_iter().take(1 + usize::from(at % 8 == 0)) {
                fs::write(&path, damaged).unwrap();
                if let Ok(dict) = StateDict::read_pytorch_at(&path, keys_of(name)) {
                    assert_eq!(Some(dict), expected, "{name}: damage at {at} changed numbers in silence");
                }
            }
        }
    }
}

#[test]
fn a_pickle_of_any_bytes_is_an_error_or_small() {
    let folder = tempfile::tempdir().unwrap();
    let mut loaded = 0;
    for name in FILES.into_iter().filter(|name| *name != "legacy.pt") {
        let mut zip = ZipArchive::new(fs::File::open(fixture(name)).unwrap()).unwrap();
        let entries: Vec<_> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut zip.by_name(entry).unwrap(), &mut bytes).unwrap();
                (entry.split_once('/').unwrap().1, bytes)
            })
            .collect();
        let whole = &entries.iter().find(|(name, _)| *name == "data.pkl").unwrap().1;
        // The sums of the archive are right, so that all of it reaches the pickle's reader.
        let check = |pickle: &[u8]| {
            let changed: Vec<_> = entries
                .iter()
                .map(|(name, bytes)| (*name, if *name == "data.pkl" { pickle } else { &bytes[..] }))
                .collect();
            let path = archive(folder.path(), &changed);
            let bound = 8 * fs::metadata(&path).unwrap().len() + (1 << 16);
            StateDict::read_pytorch_at(&path, keys_of(name)).is_ok_and(|dict| {
                assert!(memory(&dict) <= bound, "{name}");
                true
            })
        };
        assert!(check(whole));
        let step = whole.len().div_ceil(600);
        for at in (0..whole.len()).step_by(step) {
            // A bit, all of them, and an instruction that grows, ends, calls or remembers.
            for byte in [whole[at] ^ (1 << (at % 8)), !whole[at], b".(Rb0\x94huQ"[at % 9]] {
                let mut changed = whole.clone();
                changed[at] = byte;
                loaded += usize::from(check(&changed));
            }
            check(&whole[..at]);
            check(&[&whole[..at], &whole[(at + 1)..]].concat());
        }
    }
    assert!(loaded > 100, "most is not noticed as damage, and all of it is bounded: {loaded}");
}

#[test]
fn damaged_safetensors_are_an_error_or_small() {
    for name in ["f8.safetensors", "firebox_0_1.safetensors"] {
        let whole = fs::read(fixture(name)).unwrap();
        let check = |bytes: &[u8]| {
            if let Ok(dict) = StateDict::from_safetensors(bytes) {
                assert!(memory(&dict) <= bytes.len() as u64, "{name}");
            }
        };
        for at in 0..whole.len() {
            for byte in
                [whole[at] ^ (1 << (at % 8)), !whole[at], b'"', b'{', b'}', b'[', b',', b'\\', b'9', 0]
            {
                let mut changed = whole.clone();
                changed[at] = byte;
                check(&changed);
            }
            check(&whole[..at]);
            check(&[&whole[..at], &whole[at + 1..]].concat());
            check(&[&whole[..at], &whole[at..at + 1], &whole[at..]].concat());
        }
    }
}

fn views() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pt/views.pt")
}

#[test]
fn damage_is_an_error_or_harmless_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt");
    let whole = fs::read(views()).unwrap();
    let expected = StateDict::read_pytorch(views()).unwrap();
    let check = |bytes: &[u8], what: &str, at: usize| {
        fs::write(&path, bytes).unwrap();
        if let Ok(dict) = StateDict::read_pytorch(&path) {
            assert_eq!(dict, expected, "{what} at {at} changed numbers in silence");
        }
    };
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        check(&damaged, "a flipped bit", at);
    }
    for at in (0..whole.len()).step_by(16) {
        check(&whole[..at], "a cut", at);
    }
}
