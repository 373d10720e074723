//! Images that are there once for all processes.

use std::path::Path;

use firebox_data::formats::idx::{LabelledImage, LabelledImages, SealedImages};
use firebox_data::{Collate, Error, Loader, Recipe, Scalar, Stack};
use firebox_workers::ProcessPool;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Images {
    sealed: SealedImages,
    /// A worker that can take away a file in there aborts.
    orders: std::path::PathBuf,
}

type Layout = (Stack<u8, 2>, Scalar<i64>);

/// With noise, and what `check` does for each image.
fn loader(images: LabelledImages, check: impl Fn() + Send + Sync + 'static) -> Result<Loader<Layout>, Error> {
    let [height, width] = images.size();
    Loader::builder(images).shuffle(true).seed(3).batch_size(5).build(
        (Stack::new([height, width]), Scalar::new()),
        move |LabelledImage { pixels, label }, rng, (slot, class): (&mut [u8], &mut i64)| {
            check();
            slot.iter_mut().zip(&*pixels).for_each(|(to, pixel)| *to = pixel ^ rng.below(4) as u8);
            *class = i64::from(label);
            Ok(())
        },
    )
}

impl Recipe for Images {
    type Layout = Layout;

    fn loader(&self) -> Result<Loader<Layout>, Error> {
        let orders = self.orders.clone();
        loader(self.sealed.open(), move || {
            for name in ["first", "second"] {
                if std::fs::remove_file(orders.join(name)).is_ok() {
                    std::process::abort();
                }
            }
        })
    }
}

fn write(path: &Path, shape: &[u32], values: &[u8]) {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    shape.iter().for_each(|dimension| file.extend(dimension.to_be_bytes()));
    file.extend(values);
    std::fs::write(path, file).unwrap();
}

#[test]
fn sealed_images_make_the_batches_of_their_files_which_no_worker_reads_again() {
    let folder = tempfile::tempdir().unwrap();
    let (images, labels) = (folder.path().join("images"), folder.path().join("labels"));
    let pixels: Vec<u8> = (0..64 * 6 * 7).map(|place| (place * 31 % 251) as u8).collect();
    write(&images, &[64, 6, 7], &pixels);
    write(&labels, &[64], &(0..64).map(|place| place % 10).collect::<Vec<u8>>());
    let from_files = LabelledImages::open(&images, &labels, 10).unwrap();
    let sealed = from_files.seal().unwrap();
    let of_files = loader(from_files, || ()).unwrap();
    let expected: Vec<<Layout as Collate>::Batch> =
        (0..2).flat_map(|epoch| of_files.epoch(epoch).map(Result::unwrap).collect::<Vec<_>>()).collect();
    let state = of_files.epoch(1).with_states().nth(3).unwrap().unwrap().1;
    drop(of_files);
    // Before there is a worker.
    std::fs::remove_file(&images).unwrap();
    std::fs::remove_file(&labels).unwrap();

    let orders = folder.path().join("orders");
    std::fs::create_dir(&orders).unwrap();
    let recipe = Images { sealed, orders: orders.clone() };
    let in_processes = recipe.workers(ProcessPool::builder(2).build().unwrap()).unwrap();
    std::fs::write(orders.join("first"), "").unwrap();
    std::fs::write(orders.join("second"), "").unwrap();
    let mut deaths = 0;
    let mut got = Vec::new();
    for epoch in 0..2 {
        let mut epoch = in_processes.epoch(epoch);
        got.extend(epoch.by_ref().map(Result::unwrap));
        deaths += epoch.report().deaths;
    }
    assert!(got == expected);
    assert_eq!(deaths, 2, "replacements have the images, too");
    // It is the same data set to a saved position.
    let rest: Vec<_> = in_processes.resume(&state).unwrap().map(Result::unwrap).collect();
    assert!(rest == expected[13 + 4..]);
}
