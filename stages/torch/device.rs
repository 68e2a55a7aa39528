//! Which device and how many threads: libtorch's process-wide settings, made once a step. Loads libtorch's CUDA half
//! where it is present, so that one binary serves machines with and without a GPU.

use std::collections::BTreeMap;

use plumb_engine::io::Manner;
use plumb_engine::stage::StageError;
use tch::{Cuda, Device};

/// The libtorch that torch-sys 0.24 is written for. torch-sys checks it only where a `build-version` file says it,
/// which a Python wheel has not.
pub const WANTED: &str = "2.11";

/// Loads `libtorch_cuda.so` if it can be found. Must come before anything asks for CUDA: the first answer is kept.
pub fn load_cuda() {
    // SAFETY: a constant, terminated name; the library's constructors only register kernels, and it is never closed.
    unsafe {
        libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
    }
}

/// Keeps freed memory instead of handing it back: a training step frees and asks for the same gigabytes of activations
/// again, and a fresh page costs a fault and a zeroing each time (a fifth of a step's CPU time was the system's).
/// Must come before the first large allocation.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_memory() {
    // SAFETY: sets the allocator's own numbers; refused ones change nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

/// Only glibc's allocator is known to give large blocks back at once.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_memory() {}

/// The device of `run.device`, with the threads of `run.threads` set.
pub fn choose(manner: &Manner) -> Result<Device, StageError> {
    let threads = i32::try_from(manner.threads.max(1)).unwrap_or(i32::MAX);
    if tch::get_num_threads() != threads {
        tch::set_num_threads(threads);
    }
    parse(&manner.device, usize::try_from(Cuda::device_count()).unwrap_or(0))
}

fn parse(name: &str, present: usize) -> Result<Device, StageError> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" if present == 0 => Ok(Device::Cpu),
        "auto" => Ok(Device::Cuda(0)),
        _ => {
            let number = name.strip_prefix("cuda:").and_then(|number| number.parse::<usize>().ok());
            let number = number.ok_or_else(|| {
                StageError::new(format!("`run.device` is `{name}`, expected `auto`, `cpu` or `cuda:N`"))
            })?;
            if number >= present {
                return Err(StageError::new(format!("`run.device` is `{name}`, but libtorch sees {present} GPUs"))
                    .hint("run.device = \"cpu\", or put a libtorch with CUDA on LD_LIBRARY_PATH"));
            }
            Ok(Device::Cuda(number))
        }
    }
}

/// The version of the libtorch that was loaded, as `2.11.0`; `None` where it does not say.
pub fn version() -> Option<String> {
    // SAFETY: looked up by its C name, with the signature of torch/csrc/inductor/aoti_torch/c/shim.h; it only
    // returns a constant.
    let packed = unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"aoti_torch_abi_version".as_ptr());
        if symbol.is_null() {
            return None;
        }
        std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> u64>(symbol)()
    };
    let part = |shift: u32| (packed >> shift) & 0xff;
    Some(format!("{}.{}.{}", part(56), part(48), part(40)))
}

/// Refuses a libtorch of another version: its operators have other signatures, and a call would crash.
pub fn check_version() -> Result<(), StageError> {
    match version() {
        Some(found) if !found.starts_with(WANTED) => {
            let message = format!("libtorch {found} was loaded, this worker needs {WANTED}");
            Err(StageError::new(message).hint("plumb setup"))
        }
        _ => Ok(()),
    }
}

/// What was found, for `--version` and the record's environment.
pub fn describe() -> BTreeMap<String, String> {
    let devices = match Cuda::device_count() {
        0 => "cpu".to_string(),
        count => format!("cpu, {count} cuda"),
    };
    let version = version().unwrap_or_else(|| "unknown".into());
    [("libtorch", version), ("devices", devices), ("cpu_features", cpu_features())]
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

// What decides libtorch's choice of kernels, and with it the last bits of every result.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> String {
    let known = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    let present: Vec<&str> = known.iter().filter(|(_, present)| *present).map(|(name, _)| *name).collect();
    present.join(" ")
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> String {
    std::env::consts::ARCH.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaded_libtorch_says_its_version() {
        assert!(version().is_some_and(|version| version.starts_with(WANTED)), "{:?}", version());
        assert_eq!(check_version(), Ok(()));
    }

    #[test]
    fn a_device_is_read_or_refused_with_what_was_expected() {
        assert_eq!(parse("auto", 0), Ok(Device::Cpu));
        assert_eq!(parse("auto", 2), Ok(Device::Cuda(0)));
        assert_eq!(parse("cuda:1", 2), Ok(Device::Cuda(1)));
        let refused = |name| parse(name, 1).expect_err("should be refused").message;
        assert_eq!(refused("gpu"), "`run.device` is `gpu`, expected `auto`, `cpu` or `cuda:N`");
        assert_eq!(refused("cuda:1"), "`run.device` is `cuda:1`, but libtorch sees 1 GPUs");
    }
}
