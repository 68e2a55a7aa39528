//! The wheels that libtorch is cut out of, pinned by version, size and SHA-256, and the members that are kept.
//! Never a URL: pip knows where its user's packages come from.

/// The libtorch that the `tch` of this workspace is written against.
pub const VERSION: &str = "2.11.0";

/// Bytes of the finished tree (measured), for the announcement and the check of free space.
pub const TREE_BYTES: u64 = 498_074_698;

/// One wheel.
pub struct Wheel {
    /// The package's name.
    pub package: &'static str,
    /// Its pinned version.
    pub version: &'static str,
    /// The file that pip leaves.
    pub file: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, as the package index publishes it.
    pub sha256: &'static str,
    /// Folders inside it that are kept whole, each ending in `/`.
    pub folders: &'static [&'static str],
    /// Files inside it that are kept, with their sizes.
    pub files: &'static [(&'static str, u64)],
}

/// All of them, the large one last, so that a wrong set-up of pip shows at once.
pub const WHEELS: [Wheel; 3] = [
    Wheel {
        package: "nvidia-cuda-runtime",
        version: "13.0.96",
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        bytes: 2_243_632,
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        folders: &[],
        files: &[("nvidia/cu13/lib/libcudart.so.13", 704_288)],
    },
    Wheel {
        package: "nvidia-cuda-cupti",
        version: "13.0.85",
        file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        bytes: 10_715_597,
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        folders: &[],
        files: &[("nvidia/cu13/lib/libcupti.so.13", 4_152_208)],
    },
    Wheel {
        package: "torch",
        version: VERSION,
        file: "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        bytes: 530_604_548,
        sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
        folders: &["torch/include/"],
        files: &[
            ("torch/lib/libc10.so", 1_498_969),
            ("torch/lib/libgomp.so.1", 254_009),
            ("torch/lib/libtorch_cpu.so", 451_209_129),
        ],
    },
];

/// Bytes that are downloaded.
pub fn download_bytes() -> u64 {
    WHEELS.iter().map(|wheel| wheel.bytes).sum()
}

/// `531 MB`, `2 MB`.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}
