//! Time of the two conv blocks of the CNN step.
use burn::tensor::{Device, Distribution, Tensor};
use firebox_kernels::*;
use std::time::Instant;
fn main() {
    let device = Device::flex().autodiff();
    let t4 = |s: [usize; 4]| Tensor::<4>::random(s, Distribution::Normal(0.0, 0.1), &device);
    let t1 = |n: usize| Tensor::<1>::random([n], Distribution::Normal(0.5, 0.1), &device);
    let x = t4([64, 3, 28, 28]);
    let (w1, w2) = (t4([32, 3, 3, 3]).require_grad(), t4([64, 32, 3, 3]).require_grad());
    let p = |n: usize| [t1(n).require_grad(), t1(n).require_grad(), t1(n).require_grad()];
    let (p1, p2) = (p(32), p(64));
    let s = ConvBlockSettings { stride: [1, 1], padding: [1, 1], epsilon: 1e-5, pool: true };
    for on in [true, false] {
        set_enabled(on);
        let (mut f, mut b) = (vec![], vec![]);
        for _ in 0..(if on { 40 } else { 8 }) {
            let t = Instant::now();
            let [b1, g1, e1] = p1.clone();
            let [b2, g2, e2] = p2.clone();
            let y = conv_block(x.clone(), w1.clone(), b1, g1, e1, s).output;
            let y = conv_block(y, w2.clone(), b2, g2, e2, s).output;
            f.push(t.elapsed().as_secs_f64() * 1e3);
            let l = y.square().mean();
            let t = Instant::now();
            let g = l.backward();
            b.push(t.elapsed().as_secs_f64() * 1e3);
            std::hint::black_box(w1.grad(&g));
        }
        f.sort_by(f64::total_cmp);
        b.sort_by(f64::total_cmp);
        println!(
            "kernels {on}: forward {:.2} ms, backward {:.2} ms (best {:.2} {:.2})",
            f[f.len() / 2],
            b[b.len() / 2],
            f[0],
            b[0]
        );
    }
}
