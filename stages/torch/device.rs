//! Which device and how many threads: libtorch's process-wide settings, made once a step. Loads libtorch's CUDA half
//! where it is present, so that one binary serves machines with and without a GPU.

use plumb_engine::io::Manner;
use plumb_engine::stage::StageError;
use tch::{Cuda, Device};

/// The libtorch that this program was built against (torch-sys 0.24).
pub const LIBTORCH: &str = "2.11.0";

/// Loads `libtorch_cuda.so` if it can be found. Must come before anything asks for CUDA: the first answer is kept.
pub fn load_cuda() {
    // SAFETY: a constant, terminated name; the library's constructors only register kernels, and it is never closed.
    unsafe {
        libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
    }
}

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

/// One line on what was found, for `--version` and the record's environment.
pub fn describe() -> String {
    let devices = match Cuda::device_count() {
        0 => "cpu".to_string(),
        count => format!("cpu, {count} cuda"),
    };
    format!("libtorch {LIBTORCH} ({devices})")
}

#[cfg(test)]
mod tests {
    use super::*;

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
