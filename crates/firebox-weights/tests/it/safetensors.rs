//! Files of safetensors.
//!
//! `firebox_0_1.safetensors` was written by firebox before its files had metadata.

use std::fs;

use firebox_weights::{ErrorKind, RawTensor, StateDict};
use half::f16;

use crate::common::{fixture, floats, linear, tensor, unsupported};

#[test]
fn several_writers_of_one_file_leave_one_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    // What another program has left.
    fs::write(folder.path().join("model.safetensors.part"), "mine").unwrap();
    let dicts: Vec<_> = (0..4)
        .map(|i| {
            let mut dict = StateDict::default();
            dict.insert("w", tensor(&[i as f32; 100_000], &[100_000]));
            dict
        })
        .collect();
    let begin = std::sync::Barrier::new(dicts.len());
    std::thread::scope(|scope| {
        for dict in &dicts {
            scope.spawn(|| {
                begin.wait();
                for _ in 0..5 {
                    dict.write(&path).unwrap();
                    assert!(dicts.contains(&StateDict::read(&path).unwrap()), "torn");
                }
            });
        }
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(fs::read(folder.path().join("model.safetensors.part")).unwrap(), b"mine");
    for bad in ["/", "", folder.path().to_str().unwrap()] {
        let error = dicts[0].write(bad).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Io, "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn metadata_say_that_a_file_is_like_pytorchs() {
    let mut dict = linear();
    dict.insert("count", tensor(&[7i64], &[]));
    dict.insert("flag", RawTensor::from([true, false]));
    dict.insert("half", RawTensor::from([f16::from_f32(1.5)]));
    let bytes = dict.to_safetensors().unwrap();
    assert!(
        bytes[8..].starts_with(b"{\"__metadata__\":{\"format\":\"pt\"},"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    assert_eq!(StateDict::from_safetensors(&bytes).unwrap(), dict);
    assert_eq!(dict.clone().to_safetensors().unwrap(), bytes);
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(header % 8, 0);

    // As it was written before.
    let before = fs::read(fixture("firebox_0_1.safetensors")).unwrap();
    assert_eq!(StateDict::from_safetensors(&before).unwrap(), dict);
    let old_header = u64::from_le_bytes(before[..8].try_into().unwrap()) as usize;
    assert_eq!(before[8 + old_header..], bytes[8 + header..], "the same tensors in the same order");

    dict.insert("__metadata__", RawTensor::from([1f32]));
    let error = dict.to_safetensors().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Format);
    assert_eq!(error.to_string(), "__metadata__: no name for a tensor in safetensors");
    // No tensors are a file, too.
    let bytes = StateDict::default().to_safetensors().unwrap();
    assert_eq!(StateDict::from_safetensors(&bytes).unwrap(), StateDict::default());
}

fn safetensors(header: &str, data: &[u8]) -> Result<StateDict, String> {
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
    StateDict::from_safetensors(&bytes).map_err(|error| {
        assert_eq!(error.kind(), &ErrorKind::Format);
        error.to_string()
    })
}

#[test]
fn every_field_of_a_header_is_read_or_refused() {
    let tensor = |name: &str, dtype: &str, shape: &str, offsets: &str| {
        format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
    };
    let a = tensor("a", "F32", "[2]", "[0,8]");
    let eight = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40];
    for (header, names) in [
        (format!("{{{a}}}"), &["a"][..]),
        (format!("{{ {a} }} \n"), &["a"]),
        (format!("{{\"__metadata__\":{{}},{a}}}"), &["a"]),
        (format!("{{{a},\"__metadata__\":{{\"format\":\"np\",\"format \":\"\\u00e9\\n\"}}}}"), &["a"]),
        ("{\"a\":{\"data_offsets\" : [ 0 , 8 ] , \"shape\":[2],\"dtype\":\"F32\"}}".to_owned(), &["a"]),
        (format!("{{{}}}", tensor("\\u0061\\\"\\ud83d\\ude00/", "F32", "[1,2,1]", "[0,8]")), &["a\"😀/"]),
        (format!("{{{}}}", tensor("", "F64", "[]", "[0,8]")), &[""]),
        // In any order, and of no bytes.
        (
            format!("{{{},{},{a}}}", tensor("z", "I16", "[0,3]", "[8,8]"), tensor("y", "U8", "[0]", "[0,0]")),
            &["a", "y", "z"],
        ),
        // Other types, known and unknown, and of less than a byte.
        (format!("{{{a},{}}}", tensor("c", "C64", "[0]", "[8,8]")), &["a"]),
    ] {
        let dict = safetensors(&header, &eight).unwrap();
        assert_eq!(dict.iter().map(|(key, _)| key).collect::<Vec<_>>(), names, "{header}");
    }
    for (dtype, shape) in
        [("F4", "[4]"), ("F6_E2M3", "[4]"), ("F8_E5M2", "[2]"), ("C64", "[1]"), ("F3_NEW", "[17]")]
    {
        let end = match dtype {
            "F4" => 10,
            "F6_E2M3" => 11,
            "F8_E5M2" => 10,
            "C64" => 16,
            _ => 15,
        };
        let data = [&eight[..], &[0x38; 8]].concat();
        let header = format!("{{{a},{}}}", tensor("f", dtype, shape, &format!("[8,{end}]")));
        let dict = safetensors(&header, &data[..end]).unwrap();
        assert_eq!(floats(&dict, "a"), [1.0, 2.0]);
        assert_eq!(unsupported(&dict), [("f", &format!("a tensor of {dtype}")[..])]);
    }
    let most = usize::MAX;
    let chain: Vec<_> = (0..8u64)
        .map(|i| {
            let size = u64::MAX / 8;
            tensor(&format!("{i}"), "U8", &format!("[{size}]"), &format!("[{},{}]", i * size, (i + 1) * size))
        })
        .collect();
    for (header, error) in [
        ("", "expected a header that begins with {"),
        (" {}", "expected a header that begins with {"),
        ("{}", "expected 0 bytes of tensors, got 8"),
        ("{", "expected \" at byte 1 of the header"),
        ("{\"a\"", "expected : at byte 4 of the header"),
        ("{\"a", "expected more at byte 3 of the header"),
        ("{\"a\\q\":1}", "expected a character that may be escaped at byte 5 of the header"),
        ("{\"\\ud83d\":1}", "expected a character at byte 8 of the header"),
        ("{\"\\u00\":1}", "expected four hexadecimal digits at byte 4 of the header"),
        ("{\"a\":null}", "a: expected { at byte 5 of the header"),
        (&format!("{{{a}}}x"), "expected nothing after the last } at byte 54 of the header"),
        (&format!("{{{a},}}"), "expected \" at byte 54 of the header"),
        (&format!("{{{a},{a}}}"), "a is there twice"),
        (&format!("{{{a},{}}}", tensor("\\u0061", "F32", "[2]", "[0,8]")), "a is there twice"),
        (&format!("{{\"__metadata__\":{{}},\"__metadata__\":{{}},{a}}}"), "__metadata__ is there twice"),
        (&format!("{{\"__metadata__\":{{\"a\":1}},{a}}}"), "expected \" at byte 21 of the header"),
        ("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", "a: expected dtype, shape and two data_offsets"),
        (
            &format!("{{{}}}", tensor("a", "F32", "[2]", "[0]")),
            "a: expected dtype, shape and two data_offsets",
        ),
        ("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F64\"}}", "a: dtype is there twice"),
        ("{\"a\":{\"strides\":[1]}}", "a: \"strides\" is no field of the format"),
        (&format!("{{{}}}", tensor("a", "F32", "[2]", "[0,8.0]")), "a: expected ] at byte 51 of the header"),
        (
            &format!("{{{}}}", tensor("a", "F32", "[-2]", "[0,8]")),
            "a: expected a whole number at byte 29 of the header",
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", "[02]", "[0,8]")),
            "a: expected a whole number at byte 29 of the header",
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", &format!("[{most}0]"), "[0,8]")),
            "a: expected a whole number at byte 29 of the header",
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", &format!("[{most},{most}]"), "[0,8]")),
            &format!("a: expected the bytes of shape [{most}, {most}] of F32, got 8"),
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", "[3]", "[0,8]")),
            "a: expected the bytes of shape [3] of F32, got 8",
        ),
        (
            &format!("{{{}}}", tensor("a", "F4", "[15]", "[0,8]")),
            "a: expected the bytes of shape [15] of F4, got 8",
        ),
        (
            &format!("{{{}}}", tensor("a", "U8", "[4]", "[4,8]")),
            "a: expected data from byte 0 up to 8 at most, got 4..8",
        ),
        (
            &format!("{{{}}}", tensor("a", "U8", "[9]", "[0,9]")),
            "a: expected data from byte 0 up to 8 at most, got 0..9",
        ),
        (
            &format!("{{{}}}", tensor("a", "U8", "[4]", "[4,0]")),
            "a: expected data from byte 0 up to 8 at most, got 4..0",
        ),
        (
            &format!("{{{a},{}}}", tensor("b", "U8", "[4]", "[4,8]")),
            "b: expected data from byte 8 up to 8 at most, got 4..8",
        ),
        (
            &format!("{{{a},{}}}", tensor("b", "F32", "[2]", "[0,8]")),
            "b: expected data from byte 8 up to 8 at most, got 0..8",
        ),
        (&format!("{{{}}}", tensor("a", "U8", "[4]", "[0,4]")), "expected 4 bytes of tensors, got 8"),
        (
            &format!("{{{}}}", chain.join(",")),
            "0: expected data from byte 0 up to 8 at most, got 0..2305843009213693951",
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", &format!("[{}2]", "1,".repeat(64)), "[0,8]")),
            "a: expected at most 64 numbers at byte 157 of the header",
        ),
    ] {
        assert_eq!(
            safetensors(header, &eight).unwrap_err(),
            format!("not a safetensors file: {error}"),
            "{header}"
        );
    }
    let alone = format!("{{{}}}", tensor("f", "F8_E4M3", "[8]", "[0,8]"));
    assert_eq!(
        safetensors(&alone, &eight).unwrap_err(),
        "expected tensors that can be read, got f (a tensor of F8_E4M3)"
    );
    for (bytes, error) in [
        (&b""[..], "expected the header's length, got 0 bytes"),
        (b"\x02\0\0\0\0\0\0", "expected the header's length, got 7 bytes"),
        (b"\x03\0\0\0\0\0\0\0{}", "expected a header of at most 2 bytes, got 3"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
            "expected a header of at most 2 bytes, got 18446744073709551615",
        ),
        (b"\x02\0\0\0\0\0\0\0{\xff", "the header is not UTF-8"),
    ] {
        let got = StateDict::from_safetensors(bytes).unwrap_err().to_string();
        assert_eq!(got, format!("not a safetensors file: {error}"));
    }
}

#[test]
fn a_file_of_safetensors_with_broken_bools_is_refused() {
    let mut dict = StateDict::default();
    dict.insert("mask", RawTensor::from([true, false]));
    let mut bytes = dict.to_safetensors().unwrap();
    *bytes.last_mut().unwrap() = 2;
    let error = StateDict::from_safetensors(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "mask: expected bools of 0 or 1, got 2");
}
