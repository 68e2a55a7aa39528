//! How much memory a device has left, and whether an error of libtorch says that there was not enough.

use std::fs;
use std::path::{Path, PathBuf};

use plumb_engine::stage::StageError;
use tch::Device;

/// Bytes that are free on a device; `None` where nobody says.
pub fn available(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(number) => on_cuda(i32::try_from(number).ok()?),
        _ => on_host(),
    }
}

/// Whether this is how libtorch says that memory ran out, on the CPU or on a GPU.
pub fn ran_out(message: &str) -> bool {
    ["can't allocate memory", "out of memory", "memory allocation of"].iter().any(|said| message.contains(said))
}

/// What to tell of memory that ran out, with what is left.
pub fn told(error: StageError, device: Device, advice: &str) -> StageError {
    if !ran_out(&error.message) {
        return error;
    }
    let left = available(device).map_or(String::new(), |bytes| format!("; {} MiB are free now", bytes >> 20));
    let device = match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        _ => "cpu".into(),
    };
    StageError::new(format!("the memory of `{device}` is not enough{left} ({})", error.message)).hint(advice)
}

// The least of what the machine and each control group have left.
fn on_host() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
    Some(groups().iter().filter_map(|group| left_in(group)).fold(machine, u64::min))
}

// The control group of this process and those above it (version 2; elsewhere there are none).
fn groups() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let root = Path::new("/sys/fs/cgroup");
    root.join(own).ancestors().take_while(|path| path.starts_with(root)).map(Path::to_path_buf).collect()
}

fn left_in(group: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

fn on_cuda(number: i32) -> Option<u64> {
    type SetDevice = extern "C" fn(i32) -> i32;
    type MemGetInfo = extern "C" fn(*mut usize, *mut usize) -> i32;
    // SAFETY: both are looked up by their C names, with the signatures of cuda_runtime_api.h; the numbers outlive the call.
    unsafe {
        let set = libc::dlsym(libc::RTLD_DEFAULT, c"cudaSetDevice".as_ptr());
        let ask = libc::dlsym(libc::RTLD_DEFAULT, c"cudaMemGetInfo".as_ptr());
        if set.is_null() || ask.is_null() {
            return None;
        }
        let (mut free, mut whole) = (0, 0);
        let set = std::mem::transmute::<*mut libc::c_void, SetDevice>(set)(number);
        let asked = std::mem::transmute::<*mut libc::c_void, MemGetInfo>(ask)(&mut free, &mut whole);
        (set == 0 && asked == 0).then_some(free as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_is_free() {
        assert!(available(Device::Cpu).is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(left_in(Path::new("/nowhere")), None);
    }

    #[test]
    fn what_ran_out_is_told_with_the_device_and_what_is_left() {
        let error =
            StageError::new("libtorch: [enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory");
        let told = told(error, Device::Cpu, "fewer rows");
        assert!(told.message.starts_with("the memory of `cpu` is not enough; "), "{}", told.message);
        let other = StageError::new("libtorch: shapes differ");
        assert_eq!(super::told(other.clone(), Device::Cpu, "fewer rows"), other);
    }
}
