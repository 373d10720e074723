//! Functions that the compiler can make vectors of, unlike those of the standard library. They are within a
//! few units in the last place, give the same on every CPU, and NaN stays NaN.

/// eˣ: to within 2 units in the last place; 0 below −103.9, infinite above 88.8.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts: n times the first one is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking it away rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-104.0, 89.0);
    let shifted = clamped * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let rest = clamped - n * LN2_HIGH - n * LN2_LOW;
    // Cephes' polynomial for e^r, |r| ≤ ln 2 / 2.
    let mut series = 1.987_569_1e-4;
    series = series * rest + 1.398_2e-3;
    series = series * rest + 8.333_452e-3;
    series = series * rest + 4.166_579_6e-2;
    series = series * rest + 1.666_666_5e-1;
    series = series * rest + 5e-1;
    let value = series * rest * rest + rest + 1.0;
    // 2ⁿ in two factors: it may be too large or too small for one.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    value * power(half) * power(n.wrapping_sub(half))
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    // Near 0 the other formula loses digits: Cephes' polynomial.
    let square = x * x;
    let mut series = -5.704_988_6e-3;
    series = series * square + 2.063_909e-2;
    series = series * square - 5.373_971_6e-2;
    series = series * square + 1.333_144_2e-1;
    series = series * square - 3.333_328e-1;
    let near = series * square * x + x;
    let far = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { near } else { far }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 997th number of 32 bits, and the special ones.
    fn all() -> impl Iterator<Item = f32> {
        let special =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.625, -0.625, 88.72, 88.73, -103.97];
        (0..u32::MAX).step_by(997).map(f32::from_bits).chain(special)
    }

    fn check(name: &str, ours: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, units: f64, tiny: f32) {
        for x in all() {
            let (got, exact) = (ours(x), exact(f64::from(x)));
            // What is below the normal numbers may be 0 where `tiny` allows it.
            if exact.abs() < f64::from(f32::MIN_POSITIVE) && got.abs() <= tiny {
                continue;
            }
            let expected = exact as f32;
            if expected.is_nan() || expected.is_infinite() || expected == 0.0 {
                let same = got.is_nan() && expected.is_nan() || got == expected;
                assert!(same || got.abs() <= tiny, "{name}({x:e}): expected {expected}, got {got}");
                continue;
            }
            // A unit in the last place, of the smallest normal number at least.
            let unit = f64::from(expected.abs().max(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
            let off = (f64::from(got) - exact).abs() / unit;
            assert!(off <= units, "{name}({x:e}): expected {expected:e}, got {got:e}, {off:.1} units");
        }
    }

    #[test]
    fn they_are_close_to_the_exact_ones_everywhere() {
        check("exp", exp, f64::exp, 2.0, f32::MIN_POSITIVE);
        check("sigmoid", sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 4.0, f32::MIN_POSITIVE);
        check("tanh", tanh, f64::tanh, 2.0, 0.0);
    }
}
