//! Writes libtorch's folder into the binary's search path, so that it runs with nothing exported.

fn main() {
    if let Some(folder) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.to_string_lossy());
    }
}
