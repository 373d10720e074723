//! Functions by their place in the program, for another process of the same program.
//!
//! Parent and worker run the same file, so a function lies equally far from another one in both, wherever the
//! system has put the program. A function is sent as its distance from [`ANCHOR`], and the receiver makes it
//! a function again. Both look whether it lies in the program's own code: one of a shared library doesn't,
//! and may be elsewhere in the other process.

use std::ops::Range;
use std::sync::OnceLock;

use super::call::Call;

/// A function that a worker can be asked to run.
pub(crate) type Entry = fn(&mut Call<'_, '_>);

/// The function that distances are counted from.
///
/// It is always taken from here: the compiler may make several copies of a function, each with an address of
/// its own, and two of them would not be equally far from anything.
static ANCHOR: Entry = anchor;

#[inline(never)]
fn anchor(_: &mut Call<'_, '_>) {}

fn address(entry: Entry) -> usize {
    entry as usize
}

/// Where the code of this program lies in memory, if that can be found out.
fn code() -> &'static Option<Range<usize>> {
    static CODE: OnceLock<Option<Range<usize>>> = OnceLock::new();
    CODE.get_or_init(|| code_around(address(ANCHOR), &std::fs::read_to_string("/proc/self/maps").ok()?))
}

/// The executable mappings around an address, those of the same file that follow on each other taken
/// together.
fn code_around(address: usize, maps: &str) -> Option<Range<usize>> {
    let mut found: Option<Range<usize>> = None;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (range, rights) = (words.next()?, words.next()?);
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        if !rights.contains('x') {
            continue;
        }
        found = match found {
            Some(code) if code.contains(&address) && code.end != start => return Some(code),
            Some(code) if code.end == start => Some(code.start..end),
            _ => Some(start..end),
        };
    }
    found.filter(|code| code.contains(&address))
}

fn check(address: usize) -> Result<(), String> {
    match code() {
        Some(code) if code.contains(&address) => Ok(()),
        Some(_) => {
            Err(format!("expected a function of the program itself, got one outside of it, at {address:#x}"))
        }
        None => Err("expected to find the program's code in /proc/self/maps, got no such line".to_owned()),
    }
}

/// The distance of a function from the anchor.
///
/// # Errors
/// A message, if the function isn't part of the program.
pub(crate) fn offset(entry: Entry) -> Result<i64, String> {
    check(address(entry))?;
    Ok((address(entry) as i64).wrapping_sub(address(ANCHOR) as i64))
}

/// The function at this distance from the anchor: [`offset`] of another process of this program.
///
/// # Errors
/// A message, if there is no code of the program.
#[allow(unsafe_code, reason = "a number becomes a function")]
pub(crate) fn at(offset: i64) -> Result<Entry, String> {
    let address = (address(ANCHOR) as i64).wrapping_add(offset) as usize;
    check(address)?;
    // SAFETY: only a worker calls this, with a number that came over the socket which its parent gave it. The
    // parent is a process of the same file (a worker is started as `/proc/self/exe`, which is the file
    // itself, also if its name means another one by now), and has made the number by `offset` from an
    // `Entry`. Code lies in the same distance in each process of one file. That the number is within the
    // program's code was checked.
    Ok(unsafe { std::mem::transmute::<usize, Entry>(address) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_again_by_its_offset() {
        fn other(_: &mut Call<'_, '_>) {
            std::hint::black_box(1);
        }
        for entry in [ANCHOR, other] {
            assert_eq!(address(at(offset(entry).unwrap()).unwrap()), address(entry));
        }
    }

    #[test]
    fn what_is_no_code_of_the_program_is_refused() {
        let outside = code().clone().unwrap();
        for offset in [
            i64::MAX,
            i64::MIN,
            outside.end as i64 - address(ANCHOR) as i64,
            outside.start as i64 - address(ANCHOR) as i64 - 1,
        ] {
            assert!(at(offset).unwrap_err().contains("of the program itself"));
        }
        // A function of the C library.
        let error = check(libc::getpid as *const () as usize).unwrap_err();
        assert!(error.contains("of the program itself"), "{error}");
    }

    #[test]
    fn code_is_found_among_the_mappings() {
        let maps = "\
1000-2000 r--p 0 fe:00 1 /bin/firebox
2000-3000 r-xp 0 fe:00 1 /bin/firebox
3000-3800 r-xp 0 fe:00 1 /bin/firebox
3800-4000 rw-p 0 fe:00 1 /bin/firebox
8000-9000 r-xp 0 fe:00 2 /lib/libc.so
";
        assert_eq!(code_around(0x2010, maps), Some(0x2000..0x3800));
        assert_eq!(code_around(0x8fff, maps), Some(0x8000..0x9000));
        for outside in [0x1000, 0x3800, 0x9000, 0] {
            assert_eq!(code_around(outside, maps), None);
        }
    }
}
