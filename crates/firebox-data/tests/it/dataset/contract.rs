//! The contract of `Dataset`: what wrappers forward, and what a request for many items answers.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use firebox_data::dataset::{
    Cache, Concat, Described, Filter, Fingerprint, Lineage, Location, Map, Mix, Subset, Windows, from_fn,
    random_split,
};
use firebox_data::formats::{Lines, idx::LabelledImages};
use firebox_data::{BoxError, Dataset, Error, ErrorKind, Loader, Scalar, Shards};

/// The method that was called, and for which row.
type Item = (&'static str, usize);

/// A data set each of whose methods says something that no provided one would.
#[derive(Clone)]
struct Probe {
    len: usize,
    lineage: Lineage,
    reads_many: bool,
    contents: &'static str,
    requests: Arc<Mutex<Vec<Vec<usize>>>>,
}

impl Probe {
    fn new(len: usize) -> Self {
        // Rows of a whole that begins a hundred earlier.
        let lineage = Lineage::whole().part(move |index| (index < len).then_some(index + 100));
        Probe { len, lineage, reads_many: true, contents: "probe", requests: Arc::default() }
    }

    fn answer(&self, method: &'static str, index: usize) -> Result<Item, BoxError> {
        match index < self.len {
            true => Ok((method, index)),
            false => Err(format!("expected an index below {}, got {index}", self.len).into()),
        }
    }
}

impl Dataset for Probe {
    type Item = Item;

    fn len(&self) -> usize {
        self.len
    }

    /// Not what the length says.
    fn is_empty(&self) -> bool {
        true
    }

    fn get(&self, index: usize) -> Result<Item, BoxError> {
        self.answer("get", index)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<Item, BoxError>> {
        self.requests.lock().unwrap().push(indices.to_vec());
        indices.iter().map(|index| self.answer("get_many", *index)).collect()
    }

    fn reads_many(&self) -> bool {
        self.reads_many
    }

    fn locate(&self, index: usize) -> Option<Location> {
        (index < self.len).then(|| Location::file("probe").at_offset(index as u64))
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self.len, "probe").with_contents(self.contents)
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }
}

/// A wrapper of a probe, and the row of the probe that each of its items should be.
struct Case {
    name: &'static str,
    wrapped: Box<dyn Dataset<Item = Item>>,
    rows: Vec<usize>,
    /// True if its items are all of the probe's, so that it is empty if the probe says so.
    whole: bool,
}

fn cases(probe: &Probe) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let (all, len): (Vec<usize>, usize) = ((0..probe.len).collect(), probe.len);
    let mut whole = |name, wrapped| cases.push(Case { name, wrapped, rows: all.clone(), whole: true });
    whole("box", Box::new(probe.clone()));
    whole("box of box", Box::new(Box::new(probe.clone())));
    whole("arc", Box::new(Arc::new(probe.clone())));
    whole("arc dyn", Box::new(Arc::new(probe.clone()) as Arc<dyn Dataset<Item = Item>>));
    whole("box dyn", Box::new(Box::new(probe.clone()) as Box<dyn Dataset<Item = Item>>));
    whole("described", Box::new(Described::new(probe.clone(), probe.fingerprint().within(len, "described"))));
    whole("map", Box::new(Map::new(probe.clone(), |item: Item| item)));
    whole("cache", Box::new(Cache::new(probe.clone(), 0, |_: &Item| 1)));
    let mut part = |name, wrapped, rows| cases.push(Case { name, wrapped, rows, whole: false });
    part("subset of all", Box::new(Subset::all(probe.clone())), all.clone());
    part("first", Box::new(Subset::first(probe.clone(), 4)), vec![0, 1, 2, 3]);
    part("subset", Box::new(Subset::new(probe.clone(), [5, 0, 5, 2]).unwrap()), vec![5, 0, 5, 2]);
    let (rest, random) = random_split(probe.clone(), 3, 7).unwrap();
    let rows =
        |part: &Subset<Probe>| (0..part.len()).map(|index| part.index_in_whole(index)).collect::<Vec<_>>();
    let (rest_rows, random_rows) = (rows(&rest), rows(&random));
    part("rest", Box::new(rest), rest_rows);
    part("random part", Box::new(random), random_rows);
    part("filter", Box::new(Filter::new(probe.clone(), |item| item.1 % 2 == 1).unwrap()), vec![1, 3, 5]);
    let twice = [all.clone(), all.clone()].concat();
    part("concat", Box::new(Concat::new(vec![probe.clone(), probe.clone()]).unwrap()), twice);
    let mix = Mix::new(vec![(probe.clone(), 2), (probe.clone(), 1)], 6).unwrap();
    part("mix", Box::new(mix), vec![0, 0, 1, 2, 1, 3]);
    cases
}

#[test]
fn every_wrapper_forwards_every_method() {
    let probe = Probe::new(6);
    for Case { name, wrapped, rows, whole } in cases(&probe) {
        probe.requests.lock().unwrap().clear();
        assert_eq!((wrapped.len(), wrapped.is_empty()), (rows.len(), whole), "{name}");
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(wrapped.get(index).unwrap(), ("get", *row), "{name}");
            let location = Location::file("probe").at_offset(*row as u64);
            assert_eq!(wrapped.locate(index), Some(location), "{name}");
        }
        assert!(wrapped.reads_many(), "{name}");
        assert_eq!(wrapped.locate(rows.len()), None, "{name}");
        let error = wrapped.get(rows.len()).unwrap_err().to_string();
        assert_eq!(error, format!("expected an index below {0}, got {0}", rows.len()), "{name}");
        // One request for the rows of each part, whatever is asked for in between that isn't there.
        let asked = [2, 0, rows.len(), 2, rows.len() - 1];
        let answers = wrapped.get_many(&asked);
        assert_eq!(answers.len(), asked.len(), "{name}");
        for (index, answer) in asked.iter().zip(answers) {
            match rows[..].get(*index) {
                Some(row) => assert_eq!(answer.unwrap(), ("get_many", *row), "{name}"),
                None => assert_eq!(answer.unwrap_err().to_string(), error, "{name}"),
            }
        }
        let parts = if matches!(name, "concat" | "mix") { 2 } else { 1 };
        let requests = probe.requests.lock().unwrap().len();
        assert!((1..=parts).contains(&requests), "{name}: {requests} requests");
    }
    let one_by_one = Probe { reads_many: false, ..probe };
    for Case { name, wrapped, .. } in cases(&one_by_one) {
        assert!(!wrapped.reads_many(), "{name}");
    }
}

#[test]
fn every_wrapper_tells_what_its_items_were_cut_from() {
    let probe = Probe::new(6);
    for Case { name, wrapped, rows, .. } in cases(&probe) {
        let lineage = wrapped.lineage();
        for (index, row) in rows.iter().enumerate() {
            match name {
                "concat" | "mix" => {
                    let description = lineage.describe(index).unwrap();
                    let expected = format!(": row {} of the whole data set", row + 100);
                    assert!(description.ends_with(&expected), "{name}: {description}");
                }
                _ => assert_eq!(lineage.row(index), Some(row + 100), "{name}"),
            }
        }
        let is_joined = matches!(name, "concat" | "mix");
        assert_eq!(lineage.is_shared_with(&probe.lineage), !is_joined, "{name}");
        assert!(is_joined || lineage.row(rows.len()).is_none(), "{name}");
    }
}

#[test]
fn every_wrapper_tells_contents_that_changed() {
    let (probe, longer) = (Probe::new(6), Probe::new(7));
    let changed = Probe { contents: "prone", ..probe.clone() };
    let mut told = HashSet::new();
    for (own, (contents, length)) in
        cases(&probe).into_iter().zip(cases(&changed).into_iter().zip(cases(&longer)))
    {
        let (name, fingerprint) = (own.name, own.wrapped.fingerprint());
        assert_eq!(fingerprint.difference(&own.wrapped.fingerprint()), None, "{name}");
        for other in [contents, length] {
            let other = other.wrapped.fingerprint();
            assert_ne!(fingerprint, other, "{name}");
            let text = format!("data: saved {fingerprint}, here {other}");
            assert_eq!(fingerprint.difference(&other), Some(text), "{name}");
        }
        let same_items =
            ["box", "box of box", "arc", "arc dyn", "box dyn", "cache", "subset of all"].contains(&name);
        assert_eq!(fingerprint == probe.fingerprint(), same_items, "{name}: {fingerprint}");
        assert!(same_items || told.insert(fingerprint.clone()), "{name}: {fingerprint}");
    }
}

#[test]
fn settings_of_a_wrapper_are_told_apart() {
    let numbers = || (0..100).collect::<Vec<i64>>();
    let subset = |rows: &[usize]| Subset::new(numbers(), rows).unwrap().fingerprint();
    assert_ne!(subset(&[1, 2, 3]), subset(&[1, 3, 2]));
    assert_ne!(subset(&[1, 2]), subset(&[1, 2, 3]));
    let filter = |divisor| Filter::new(numbers(), |number| number % divisor == 0).unwrap().fingerprint();
    assert_ne!(filter(51), filter(53), "both keep two");
    let split = |second, seed| {
        let (rest, part) = random_split(numbers(), second, seed).unwrap();
        [rest.fingerprint(), part.fingerprint()]
    };
    assert_eq!(split(50, 1), split(50, 1));
    assert_ne!(split(50, 1)[0], split(50, 1)[1]);
    assert_ne!(split(50, 1)[0], split(50, 2)[0]);
    assert_ne!(split(50, 1)[1], split(50, 2)[1]);
    let concat = |first: usize, second: usize| {
        let part = |len| (0..len).collect::<Vec<_>>();
        Concat::new(vec![part(first), part(second)]).unwrap().fingerprint()
    };
    assert_ne!(concat(3, 7), concat(7, 3));
    let mix = |weights: [usize; 2]| {
        Mix::new(weights.map(|weight| (numbers(), weight)).to_vec(), 30).unwrap().fingerprint()
    };
    assert_ne!(mix([1, 2]), mix([2, 1]));
    // What is the same data in other clothes is the same.
    let slice: Arc<[i64]> = numbers().into();
    assert_eq!(slice.fingerprint(), numbers().fingerprint());
    assert_eq!(numbers().fingerprint().to_string(), "100 × [i64]");
    let windows = |rows, window| Windows::new(numbers(), rows, window).unwrap().fingerprint();
    assert_eq!(windows(2, 3), windows(5, 7), "how a text is cut is a setting");
}

#[test]
fn items_in_memory_and_functions_of_the_index_are_data_sets() {
    let numbers: Vec<i64> = (0..10).map(|number| number * number).collect();
    let slice: Arc<[i64]> = numbers.clone().into();
    let boxed: Box<[i64]> = numbers.clone().into();
    let function = from_fn(10, |index| Ok((index * index) as i64));
    let datasets: [Box<dyn Dataset<Item = i64>>; 4] =
        [Box::new(numbers.clone()), Box::new(slice), Box::new(boxed), Box::new(function)];
    for (place, dataset) in datasets.into_iter().enumerate() {
        assert_eq!((dataset.len(), dataset.is_empty(), dataset.reads_many()), (10, false, false));
        assert_eq!(dataset.locate(0), None);
        let error = dataset.get(10).unwrap_err();
        assert_eq!(error.to_string(), "expected an index below 10, got 10", "{place}");
        let many: Vec<_> = dataset.get_many(&[3, 10, 0]).into_iter().map(Result::ok).collect();
        assert_eq!(many, [Some(9), None, Some(0)], "{place}");
        let loader = Loader::builder(dataset).batch_size(4).workers(2);
        let loader = loader.build(Scalar::<i64>::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        });
        let delivered: Vec<i64> = loader.unwrap().epoch(0).flat_map(Result::unwrap).collect();
        assert_eq!(delivered, numbers, "{place}");
    }
    assert!(Dataset::is_empty(&Vec::<u8>::new()) && from_fn(0, |_| Ok(())).is_empty());
    let failing = from_fn(1, |_| -> Result<u8, BoxError> { Err(Error::new(ErrorKind::Io, "gone").into()) });
    assert_eq!(failing.get(0).unwrap_err().to_string(), "gone");
}

/// Answers to the requests for many items that are wrong by so many.
struct Miscounting(isize);

impl Dataset for Miscounting {
    type Item = usize;

    fn len(&self) -> usize {
        10
    }

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        Ok(index)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<usize, BoxError>> {
        (0..indices.len().saturating_add_signed(self.0)).map(Ok).collect()
    }
}

#[test]
fn answers_that_are_not_as_many_as_the_indices_are_an_error_of_each() {
    for wrong in [-1, 1] {
        let dataset = || Miscounting(wrong);
        let datasets: [Box<dyn Dataset<Item = usize>>; 4] = [
            Box::new(Subset::all(dataset())),
            Box::new(Filter::new(dataset(), |_| true).unwrap()),
            Box::new(Concat::new(vec![dataset()]).unwrap()),
            Box::new(Cache::new(dataset(), 0, |_: &usize| 1)),
        ];
        for dataset in datasets {
            let answers = dataset.get_many(&[4, 5, 6]);
            assert_eq!(answers.len(), 3);
            for answer in answers {
                let expected = format!("get_many: expected 3 answers for as many indices, got {}", 3 + wrong);
                assert_eq!(answer.unwrap_err().to_string(), expected);
            }
        }
    }
}

#[test]
fn a_cache_asks_for_many_items_only_what_it_has_not() {
    let probe = Probe::new(6);
    let cache = Cache::new(probe.clone(), 3, |_: &Item| 1);
    assert_eq!(cache.get(4).unwrap(), ("get", 4));
    let methods =
        |answers: Vec<Result<Item, BoxError>>| answers.into_iter().map(|item| item.ok()).collect::<Vec<_>>();
    let first = methods(cache.get_many(&[1, 4, 9, 1, 5]));
    let many = |row| Some(("get_many", row));
    assert_eq!(first, [many(1), Some(("get", 4)), None, many(1), many(5)]);
    assert_eq!(cache.kept(), (3, 3), "an item that came twice is kept and counted once");
    assert_eq!(methods(cache.get_many(&[5, 4, 1])), [many(5), Some(("get", 4)), many(1)]);
    assert_eq!(*probe.requests.lock().unwrap(), [vec![1, 9, 1, 5]], "and nothing for the second time");
}

#[test]
fn a_filter_names_the_item_that_it_could_not_read() {
    let reads = AtomicUsize::new(0);
    let numbers = from_fn(9, move |index| match reads.fetch_add(1, Ordering::SeqCst) {
        5 => Err(Error::new(ErrorKind::Io, "cut off").at_path("a.png").into()),
        _ => Ok(index),
    });
    let error = Filter::new(Subset::new(numbers, [8, 7, 6, 5, 4, 3, 2]).unwrap(), |_| true).err().unwrap();
    assert_eq!((error.index(), error.row(), error.path()), (Some(5), Some(3), Some("a.png".as_ref())));
    let text = "sample 5 (row 3 of the whole data set): filter: the data set failed: a.png: cut off";
    assert_eq!(error.to_string(), text);
}

#[test]
fn files_are_told_by_their_contents_and_not_by_their_place() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let write = |folder: usize, name: &str, bytes: &[u8]| {
        let path = folders[folder].path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let images = |folder, pixel, label| {
        let images =
            write(folder, "images", &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, pixel]);
        let labels = write(folder, "labels", &[0, 0, 8, 1, 0, 0, 0, 2, 0, label]);
        LabelledImages::open(images, labels, 10).unwrap().fingerprint()
    };
    let saved = images(0, 4, 1);
    assert_eq!(saved, images(1, 4, 1), "a copy");
    assert_ne!(saved, images(0, 5, 1), "another pixel");
    assert_ne!(saved, images(0, 4, 2), "another label");
    assert!(saved.to_string().starts_with("2 × labelled images of 1×2 ("), "{saved}");

    let lines = |folder, name, text: &[u8]| Lines::new([write(folder, name, text)]).fingerprint();
    let saved = lines(0, "a.txt", b"one\ntwo\n");
    assert_eq!(saved, lines(1, "a.txt", b"one\ntwo\n"), "a copy");
    assert_ne!(saved, lines(0, "b.txt", b"one\ntwo\n"), "another name");
    assert_ne!(saved, lines(0, "a.txt", b"one\ntwo\nthree\n"), "it has grown");
    assert!(saved.to_string().starts_with("lines, 1 file of 8 bytes ("), "{saved}");
}

/// Files, of which each has two items, and nothing but that said of them.
struct Halves(Vec<std::path::PathBuf>);

impl Dataset for Halves {
    type Item = u8;

    fn len(&self) -> usize {
        2 * self.0.len()
    }

    fn get(&self, index: usize) -> Result<u8, BoxError> {
        Ok(std::fs::read(&self.0[index / 2])?[index % 2])
    }

    fn locate(&self, index: usize) -> Option<Location> {
        Some(Location::file(&self.0[index / 2]))
    }
}

#[test]
fn files_where_items_lie_tell_a_data_set_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, files: &[(&str, usize)]| {
        let root = folder.path().join(name);
        let write = |(file, bytes): &(&str, usize)| {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, vec![0; *bytes]).unwrap();
            path
        };
        Halves(files.iter().map(write).collect()).fingerprint()
    };
    let saved = make("a", &[("cat/1", 10), ("dog/1", 20)]);
    assert_eq!(saved.to_string().split(" (").next(), Some("4 × Halves, 2 files of 30 bytes"));
    assert_eq!(make("elsewhere/b", &[("cat/1", 10), ("dog/1", 20)]), saved, "data may move");
    let others = [
        &[("cat/1", 10), ("dog/1", 21)][..],
        &[("cat/1", 10), ("dog/2", 20)],
        &[("cat/1", 10), ("cow/1", 20)],
        &[("cat/1", 20), ("dog/1", 10)],
        &[("dog/1", 20), ("cat/1", 10)],
    ];
    for (place, other) in others.iter().enumerate() {
        let other = make(&place.to_string(), other);
        assert!(saved.difference(&other).is_some(), "{place}: {other}");
    }
    // Wherever they are, and if there are none.
    assert_eq!(Halves(vec![]).fingerprint(), Fingerprint::new(0, "Halves"));
    let apart = Halves(vec!["/no/such/file".into(), "nor this".into()]);
    assert_eq!(apart.fingerprint(), Halves(vec!["/no/such/file".into(), "nor this".into()]).fingerprint());
    // Of many items the first and the last are always looked at, and few others.
    let many = |last: &str| {
        let mut files: Vec<std::path::PathBuf> =
            (0..100_000).map(|file| format!("none/{file}").into()).collect();
        *files.last_mut().unwrap() = format!("none/{last}").into();
        Halves(files).fingerprint()
    };
    assert!(many("x").difference(&many("y")).is_some());
    assert!(many("x").to_string().starts_with("200000 × Halves, 256 files of 0 bytes"), "{}", many("x"));
}
