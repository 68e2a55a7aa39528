//! Writes libtorch's folder into the binary's search path, so that it runs with nothing exported, and compiles shim.cpp.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=shim.cpp");
    let Some(libraries) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libraries.display());
    let include = std::env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let include = include.or_else(|| libraries.parent().map(PathBuf::from)).unwrap_or_default().join("include");
    // Optimised in every profile: a debug build of a header-only library is slow to write, and nobody steps into it.
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .opt_level(1)
        .debug(false)
        .warnings(false)
        .include(include)
        .file("shim.cpp")
        .compile("plumb_shim");
}
