//! The course of a number, in memory that doesn't grow with the run.

/// Points in the order in which they came: each of them while there are few, means of as many neighbors as it
/// takes after that.
///
/// Its points are a function of the points alone, so that a run that was stopped and goes on has the curve
/// of one that was not, and whoever reads its records in pieces has the curve of who reads them at once.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    /// Means of `stride` neighbors each; the last one of `last`.
    points: Vec<(f64, f64)>,
    /// A power of 2.
    stride: u64,
    last: u64,
}

/// An even number.
pub(crate) const MOST: usize = 4096;

impl Default for Curve {
    fn default() -> Self {
        Curve { points: Vec::new(), stride: 1, last: 0 }
    }
}

impl Curve {
    /// Adds a point. One with a coordinate that is not finite has no place.
    pub(crate) fn push(&mut self, (x, y): (f64, f64)) {
        if !(x.is_finite() && y.is_finite()) {
            return;
        }
        match self.points.last_mut() {
            Some(mean) if self.last < self.stride => {
                self.last += 1;
                let weight = 1.0 / self.last as f64;
                *mean = (mix(mean.0, x, weight), mix(mean.1, y, weight));
            }
            _ => {
                if self.points.len() == MOST {
                    self.halve();
                }
                self.points.push((x, y));
                self.last = 1;
            }
        }
    }

    /// Every two neighbors become one. All have the same weight: the last one is complete.
    fn halve(&mut self) {
        for place in 0..MOST / 2 {
            let ((x, y), (next_x, next_y)) = (self.points[2 * place], self.points[2 * place + 1]);
            self.points[place] = (mix(x, next_x, 0.5), mix(y, next_y, 0.5));
        }
        self.points.truncate(MOST / 2);
        self.stride *= 2;
    }

    pub(crate) fn points(&self) -> Vec<(f64, f64)> {
        self.points.clone()
    }
}

/// A mean that no sum of large numbers is needed for.
fn mix(mean: f64, new: f64, weight: f64) -> f64 {
    mean * (1.0 - weight) + new * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: usize, y: impl Fn(usize) -> f64) -> Curve {
        let mut curve = Curve::default();
        (0..count).for_each(|step| curve.push((step as f64, y(step))));
        curve
    }

    #[test]
    fn few_points_are_themselves_and_many_are_means_of_neighbors() {
        for count in [0, 1, 2, MOST - 1, MOST] {
            let points = of(count, |step| (step * step) as f64).points();
            assert_eq!(points.len(), count);
            assert!(
                points.iter().enumerate().all(|(step, &point)| point == (step as f64, (step * step) as f64))
            );
        }
        for count in [MOST + 1, 3 * MOST, 4 * MOST + 1, 100_003] {
            let curve = of(count, |step| 2.0 * step as f64);
            let points = curve.points();
            assert!((MOST / 2..=MOST).contains(&points.len()), "{count}: {}", points.len());
            let stride = curve.stride as usize;
            assert_eq!(points.len(), count.div_ceil(stride), "{count}");
            for (place, &(x, y)) in points.iter().enumerate() {
                let (from, to) = (place * stride, ((place + 1) * stride).min(count));
                let mean = (from + to - 1) as f64 / 2.0;
                assert!(
                    (x - mean).abs() < 1e-6 && (y - 2.0 * mean).abs() < 1e-6,
                    "{count}, {place}: {x}, {y}"
                );
            }
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_points() {
        let [short, long] = [30_000, 300_000].map(|count| of(count, |step| step as f64));
        assert!(short.points.len() <= MOST && long.points.len() <= MOST);
        assert!(long.points.capacity() <= short.points.capacity(), "{}", long.points.capacity());
    }

    #[test]
    fn huge_numbers_have_a_mean_and_those_that_are_none_are_left_out() {
        let curve = of(3 * MOST, |step| match step % 3 {
            0 => f64::MAX,
            1 => -f64::MAX,
            _ => f64::NAN,
        });
        assert!(curve.points.iter().all(|(_, y)| y.is_finite()));
        assert_eq!(curve.points.len(), MOST);
    }
}
