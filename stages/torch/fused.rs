//! PyTorch's fused AdamW kernel, which tch does not bind: shim.cpp does. On a GPU it is one launch for all weights; on a
//! CPU one pass over memory.

use std::ffi::{CStr, c_char};

use tch::Tensor;
use torch_sys::C_tensor;

/// One update of several flat weights.
pub struct Update<'a> {
    /// f32, changed in place.
    pub weights: &'a [Tensor],
    /// One a weight; divided in place by `gradient_scale`.
    pub gradients: &'a [Tensor],
    /// First moments, changed in place.
    pub means: &'a [Tensor],
    /// Second moments, changed in place.
    pub squares: &'a [Tensor],
    /// (): updates so far, this one included.
    pub steps: &'a Tensor,
    /// (): f32
    pub gradient_scale: &'a Tensor,
    /// Learning rate.
    pub rate: f64,
    /// First-moment decay.
    pub beta1: f64,
    /// Second-moment decay.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub decay: f64,
    /// Floor of the denominator.
    pub epsilon: f64,
}

unsafe extern "C" {
    fn plumb_fused_adamw(
        weights: *const *const C_tensor,
        gradients: *const *const C_tensor,
        means: *const *const C_tensor,
        squares: *const *const C_tensor,
        count: usize,
        steps: *const C_tensor,
        gradient_scale: *const C_tensor,
        rate: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        epsilon: f64,
    ) -> *mut c_char;
}

/// Makes the update. Panics with libtorch's message, as tch's plain methods do.
pub fn adamw(update: Update) {
    let pointers = |tensors: &[Tensor]| tensors.iter().map(Tensor::as_ptr).collect::<Vec<*const C_tensor>>();
    let lists = [update.weights, update.gradients, update.means, update.squares].map(pointers);
    let [weights, gradients, means, squares] = &lists;
    assert!(lists.iter().all(|list| list.len() == weights.len()), "one gradient and two moments a weight");
    // SAFETY: the pointers are of live tensors, `count` in each list; the function keeps none of them.
    let error = unsafe {
        plumb_fused_adamw(
            weights.as_ptr(),
            gradients.as_ptr(),
            means.as_ptr(),
            squares.as_ptr(),
            weights.len(),
            update.steps.as_ptr(),
            update.gradient_scale.as_ptr(),
            update.rate,
            update.beta1,
            update.beta2,
            update.decay,
            update.epsilon,
        )
    };
    if !error.is_null() {
        // SAFETY: a terminated string from `strdup`, read once and freed.
        let text = unsafe {
            let text = CStr::from_ptr(error).to_string_lossy().into_owned();
            libc::free(error.cast());
            text
        };
        panic!("Torch(\"{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_the_formula_and_an_exception_is_told() {
        let weight = Tensor::from_slice(&[1.0f32, -2.0]);
        let (mean, square) = (weight.zeros_like(), weight.zeros_like());
        let gradient = Tensor::from_slice(&[0.5f32, -4.0]);
        let (steps, gradient_scale) = (Tensor::from(1f32), Tensor::from(2f32));
        let update = |gradients: &[Tensor]| {
            adamw(Update {
                weights: &[weight.shallow_clone()],
                gradients,
                means: &[mean.shallow_clone()],
                squares: &[square.shallow_clone()],
                steps: &steps,
                gradient_scale: &gradient_scale,
                rate: 0.1,
                beta1: 0.9,
                beta2: 0.99,
                decay: 0.5,
                epsilon: 1e-8,
            });
        };
        update(&[gradient]);
        // The first update is the rate, against the gradient's sign, after a decay by rate × decay.
        let expected = [1.0 * 0.95 - 0.1, -2.0 * 0.95 + 0.1];
        let found: Vec<f32> = Vec::try_from(&weight).expect("numbers");
        assert!(found.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-6), "{found:?}");
        let moment: Vec<f32> = Vec::try_from(&mean).expect("numbers");
        assert!((moment[0] - 0.025).abs() < 1e-7 && (moment[1] + 0.2).abs() < 1e-7, "{moment:?}");
        let wrong =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| update(&[Tensor::from_slice(&[1i64, 2])])));
        let text = wrong.expect_err("refuses").downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(text.starts_with("Torch(\""), "{text}");
    }
}
