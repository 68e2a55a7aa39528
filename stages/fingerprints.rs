//! What each kind's code is, for `--strict-code`: the digest of its lines in `versions.lock`, which cover the kind's
//! module, every module that it reaches and the crates they name, blind to comments and layout. A test keeps that file
//! true to the source.

const LOCK: &str = include_str!("versions.lock");

/// The fingerprint of a kind that the lock describes.
pub(super) fn of(kind: &str) -> Option<String> {
    let heading = format!("{kind}@");
    let mut lines = LOCK.lines().skip_while(|line| !line.starts_with(&heading));
    let mut text = lines.next()?.to_string();
    for line in lines.take_while(|line| line.starts_with(' ')) {
        text.push('\n');
        text.push_str(line);
    }
    Some(blake3::hash(text.as_bytes()).to_hex().to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_of_the_house_has_a_fingerprint_of_its_own() {
        let registry = crate::registry();
        let all: std::collections::BTreeSet<String> =
            registry.kinds().map(|kind| registry.code(kind.declaration()).unwrap()).collect();
        assert_eq!(all.len(), registry.kinds().count());
        assert!(all.iter().all(|code| code.len() == 64), "none stands for the whole program: {all:?}");
    }
}
