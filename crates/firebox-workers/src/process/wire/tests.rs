use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::*;
use crate::sync::memory::Memory;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    New(Box<Shape>),
    Tuple(u8, i64),
    Struct { name: String, of: Option<f32> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    numbers: (u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64),
    text: String,
    letter: char,
    flag: bool,
    none: Option<u8>,
    some: Option<Option<u8>>,
    unit: (),
    shapes: Vec<Shape>,
    map: BTreeMap<String, Vec<u32>>,
}

fn all() -> All {
    let deep = Shape::New(Box::new(Shape::New(Box::new(Shape::Unit))));
    let named = |of| Shape::Struct { name: "box".into(), of };
    All {
        numbers: (1, 2, 3, 4, 5, -1, -2, -3, -4, -5, f32::MIN_POSITIVE, -0.0),
        text: "fire — box".into(),
        letter: 'ß',
        flag: true,
        none: None,
        some: Some(None),
        unit: (),
        shapes: vec![Shape::Unit, deep, Shape::Tuple(7, i64::MIN), named(None), named(Some(1.5))],
        map: BTreeMap::from([(String::new(), vec![]), ("a".into(), vec![1, 2, 3])]),
    }
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    assert_eq!(&from_slice::<T>(&to_vec(value).unwrap()).unwrap(), value);
}

#[test]
fn values_come_back_as_they_were() {
    comes_back(&all());
    comes_back(&vec![(); 1000]);
    comes_back(&Ok::<_, String>(vec![Some(u64::MAX)]));
    assert!(from_slice::<f64>(&to_vec(&f64::NAN).unwrap()).unwrap().is_nan());
}

/// Elements of which nobody knows how many there are.
struct Uncounted(u32);

impl Serialize for Uncounted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.0).filter(|x| x % 2 == 0))
    }
}

#[test]
fn a_sequence_that_does_not_know_its_length_comes_back() {
    assert_eq!(from_slice::<Vec<u32>>(&to_vec(&Uncounted(9)).unwrap()).unwrap(), [0, 2, 4, 6, 8]);
    assert_eq!(from_slice::<Vec<u32>>(&to_vec(&Uncounted(0)).unwrap()).unwrap(), [0; 0]);
}

#[test]
fn bytes_that_are_cut_or_left_over_are_errors() {
    let bytes = to_vec(&all()).unwrap();
    for cut in 0..bytes.len() {
        assert!(from_slice::<All>(&bytes[..cut]).is_err(), "cut after {cut} bytes");
    }
    let error = from_slice::<All>(&[&bytes[..], &[0]].concat()).unwrap_err();
    assert_eq!(error.to_string(), "expected the end, got 1 bytes more");
}

#[test]
fn a_length_alone_allocates_nothing_and_ends() {
    let claim = u64::MAX / 2;
    assert!(from_slice::<Vec<u64>>(&claim.to_le_bytes()).is_err());
    assert!(from_slice::<String>(&claim.to_le_bytes()).is_err());
    let error = from_slice::<Vec<()>>(&claim.to_le_bytes()).unwrap_err();
    assert!(error.to_string().contains("without a byte"), "{error}");
    // A list of empty lists takes eight bytes for each.
    assert!(from_slice::<Vec<Vec<()>>>(&[1_u64.to_le_bytes(), claim.to_le_bytes()].concat()).is_err());
}

#[test]
fn empty_elements_are_bounded_in_all_sequences_together() {
    // Each list claims as many elements as there are bytes, none of which they take.
    let lists = 100_000_u64;
    let mut bytes = lists.to_le_bytes().to_vec();
    (0..lists).for_each(|list| bytes.extend(((lists - list - 1) * 8).to_le_bytes()));
    let begun = std::time::Instant::now();
    let error = from_slice::<Vec<Vec<()>>>(&bytes).unwrap_err();
    assert!(error.to_string().contains("without a byte"), "{error}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "it took {:?}", begun.elapsed());
    // A million of them are no such thing.
    comes_back(&vec![vec![(); 1000]; 1000]);
}

#[test]
fn nesting_is_bounded_on_both_sides() {
    let mut shape = Shape::Unit;
    for _ in 0..1000 {
        shape = Shape::New(Box::new(shape));
    }
    assert!(to_vec(&shape).unwrap_err().to_string().contains("128 deep"));
    let deep: Vec<u8> = std::iter::repeat_n(1_u32.to_le_bytes(), 1_000_000).flatten().collect();
    assert!(from_slice::<Shape>(&deep).unwrap_err().to_string().contains("128 deep"));
}

#[test]
fn no_bytes_make_a_value_that_its_type_does_not_have() {
    assert!(from_slice::<bool>(&[2]).is_err());
    assert!(from_slice::<char>(&0xD800_u32.to_le_bytes()).is_err());
    assert!(from_slice::<String>(&[&1_u64.to_le_bytes()[..], &[0xFF]].concat()).is_err());
    assert!(from_slice::<Shape>(&4_u32.to_le_bytes()).is_err());
}

#[test]
fn what_this_format_cannot_carry_is_an_error_that_says_so() {
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        A(u8),
    }
    let error = from_slice::<Untagged>(&to_vec(&Untagged::A(1)).unwrap()).err().unwrap();
    assert!(error.to_string().contains("untagged"), "{error}");
    #[derive(Serialize, Deserialize)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<u8>,
    }
    let error = to_vec(&Skips { field: None }).unwrap_err();
    assert!(error.to_string().contains("field: expected all fields"), "{error}");
}

/// Ten thousand mutations: each is read as the value it was or another, or is an error, and nothing else.
#[test]
fn mutated_bytes_are_read_or_refused() {
    let good = to_vec(&all()).unwrap();
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..10_000 {
        let mut bytes = good.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        bytes.truncate(bytes.len() - random(3));
        let _ = from_slice::<All>(&bytes);
    }
}

#[test]
fn what_does_not_fit_goes_to_shared_memory_whole() {
    let values: Vec<(u8, u32, String)> =
        (0..3000).map(|x| (x as u8, x, "x".repeat(x as usize % 300))).collect();
    let expected = to_vec(&values).unwrap();
    for limit in [0, 1, 7, 100, 4096, expected.len() - 1] {
        let memory = Memory::new("test", expected.len()).unwrap();
        let mut bytes = b"before".to_vec();
        let mut writer = Writer::new(&mut bytes, limit, Some(&memory));
        write(&values, &mut writer).unwrap();
        assert_eq!(writer.finish(), Written::Shared(expected.len()), "a limit of {limit}");
        assert_eq!(bytes, b"before");
        let mut reader = Reader::shared(&memory, expected.len() as u64).unwrap();
        assert_eq!(read::<Vec<(u8, u32, String)>>(&mut reader).unwrap(), values);
        reader.end().unwrap();
        // Too little, or none.
        for memory in [Some(Memory::new("test", expected.len() - 1).unwrap()), None] {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes, limit, memory.as_ref());
            write(&values, &mut writer).unwrap();
            assert_eq!(writer.finish(), Written::Needs(expected.len()));
        }
    }
    let mut bytes = b"before".to_vec();
    let mut writer = Writer::new(&mut bytes, expected.len(), None);
    write(&values, &mut writer).unwrap();
    assert_eq!((writer.finish(), &bytes[..6], &bytes[6..]), (Written::Inline, &b"before"[..], &expected[..]));
}

#[test]
fn shared_memory_is_read_to_its_length_and_no_further() {
    let values: Vec<(String, u64)> = (0..2000).map(|x| ("y".repeat(x % 50), x as u64)).collect();
    let bytes = to_vec(&values).unwrap();
    let memory = Memory::new("test", bytes.len()).unwrap();
    memory.write(0, &bytes);
    for cut in (0..bytes.len()).step_by(997) {
        let mut reader = Reader::shared(&memory, cut as u64).unwrap();
        assert!(read::<Vec<(String, u64)>>(&mut reader).is_err(), "cut after {cut} bytes");
    }
    for length in [bytes.len() as u64 + 1, u64::MAX] {
        assert!(Reader::shared(&memory, length).is_err());
    }
}
