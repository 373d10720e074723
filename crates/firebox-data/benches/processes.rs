//! Worker processes beside worker threads: `cargo bench -p firebox-data --bench processes [FOLDER OF
//! FASHION-MNIST]`.
//!
//! Medians of several turns, the two kinds taking turns.
#![allow(clippy::print_stdout, reason = "it prints what it measures")]

#[cfg(all(feature = "processes", target_os = "linux"))]
mod measured {
    use std::time::{Duration, Instant};

    use firebox_data::formats::fashion_mnist;
    use firebox_data::formats::idx::SealedImages;
    use firebox_data::{BoxError, Error, Loader, Recipe, Scalar, Stack};
    use firebox_workers::Pool;
    use serde::{Deserialize, Serialize};

    /// Samples of one shape that cost so much of a core.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Samples {
        shape: [usize; 3],
        cost: Duration,
        batches: usize,
        batch_size: usize,
        threads: usize,
    }

    impl Recipe for Samples {
        type Layout = Stack<f32, 3>;

        fn loader(&self) -> Result<Loader<Self::Layout>, Error> {
            let (cost, samples) = (self.cost, self.batches * self.batch_size);
            Loader::builder((0..samples as u32).collect::<Vec<_>>())
                .batch_size(self.batch_size)
                .workers(self.threads)
                .build(Stack::new(self.shape), move |number, _, slot: &mut [f32]| {
                    let begun = Instant::now();
                    slot[0] = number as f32;
                    while begun.elapsed() < cost {
                        std::hint::spin_loop();
                    }
                    Ok(())
                })
        }
    }

    /// Images that all processes have in memory.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Clothes(SealedImages);

    impl Recipe for Clothes {
        type Layout = (Stack<f32, 2>, Scalar<i64>);

        fn loader(&self) -> Result<Loader<Self::Layout>, Error> {
            Loader::builder(self.0.open()).batch_size(64).shuffle(true).workers(1).build(
                (Stack::new([28, 28]), Scalar::new()),
                |image, _, (pixels, label)| {
                    for (to, from) in std::iter::zip(pixels, &image.pixels) {
                        *to = f32::from(*from) / 255.0;
                    }
                    *label = i64::from(image.label);
                    Ok(())
                },
            )
        }
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// Batches a second after the first two, which make what is used again.
    fn rate(loader: &Loader<Stack<f32, 3>>) -> Result<f64, BoxError> {
        let mut epoch = loader.epoch(0);
        let mut count = 0;
        (0..2).try_for_each(|_| epoch.next().map_or(Ok(()), |batch| batch.map(drop)))?;
        let begun = Instant::now();
        for batch in epoch {
            batch?;
            count += 1;
        }
        Ok(f64::from(count) / begun.elapsed().as_secs_f64())
    }

    fn rates(what: &str, samples: &Samples, turns: usize) -> Result<(), BoxError> {
        let threads = Samples { threads: 2, ..samples.clone() }.loader()?;
        let processes = Samples { threads: 1, ..samples.clone() }.workers(Pool::processes(2)?)?;
        let (mut of_threads, mut of_processes) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            of_threads.push(rate(&threads)?);
            of_processes.push(rate(&processes)?);
        }
        let (threads, processes) = (median(of_threads), median(of_processes));
        println!(
            "{what}: 2 threads {threads:.1} batches/s, 2 processes {processes:.1}, ratio {:.2}",
            processes / threads
        );
        Ok(())
    }

    /// The time from the first process to the first batch, in milliseconds.
    fn first<R: Recipe + Clone>(recipe: &R, turns: usize) -> Result<f64, BoxError> {
        let mut times = Vec::new();
        for _ in 0..turns {
            let begun = Instant::now();
            let loader = recipe.clone().workers(Pool::processes(4)?)?;
            let first = loader.epoch(0).next();
            times.push(1e3 * begun.elapsed().as_secs_f64());
            first.map_or(Ok(()), |batch| batch.map(drop))?;
        }
        Ok(median(times))
    }

    pub(super) fn main() -> Result<(), BoxError> {
        firebox_workers::init();
        let picture = [3, 224, 224];
        let cost = Duration::from_millis(5);
        let slow = Samples { shape: picture, cost, batches: 10, batch_size: 64, threads: 1 };
        rates("64×3×224×224, samples of 5 ms", &slow, 3)?;
        let free = Samples { cost: Duration::ZERO, batches: 100, ..slow };
        rates("64×3×224×224 (600 KB a sample), samples that cost nothing", &free, 5)?;
        let small = Samples { shape: [1, 28, 28], batches: 1000, ..free.clone() };
        rates("64×1×28×28, samples that cost nothing", &small, 5)?;
        println!("first batch of 4 processes: {:.1} ms", first(&Samples { threads: 1, ..small }, 9)?);
        let folder = std::env::args().nth(1).filter(|argument| !argument.starts_with("--"));
        if let Some(folder) = folder {
            let begun = Instant::now();
            let images = fashion_mnist::train(folder)?.seal()?;
            println!("Fashion-MNIST read, hashed and sealed: {:.1} ms", 1e3 * begun.elapsed().as_secs_f64());
            println!("first batch of 4 processes over it: {:.1} ms", first(&Clothes(images), 9)?);
        }
        Ok(())
    }
}

#[cfg(all(feature = "processes", target_os = "linux"))]
fn main() -> Result<(), firebox_data::BoxError> {
    measured::main()
}

#[cfg(not(all(feature = "processes", target_os = "linux")))]
fn main() {}
