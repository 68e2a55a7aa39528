//! Takes secrets out of what a step says, wherever the chunks of it happen to end. Knows bytes and names only.

/// Finds secrets in bytes and puts their names in their place.
#[derive(Clone, Default)]
pub struct Redactor {
    /// What to look for, the longest first, and what stands for it.
    patterns: Vec<(Vec<u8>, String)>,
}

/// Shorter lines of a secret of several lines (a brace, a header) may stand anywhere.
const SHORTEST_LINE: usize = 8;

impl Redactor {
    /// For these names and values. Values are found as they are, as JSON writes them, and line by line.
    pub fn new<'a>(secrets: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut patterns = Vec::new();
        for (name, value) in secrets {
            let told = format!("[{name}]");
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE && *line != value);
            let forms = lines.map(String::from).chain([value.to_string(), in_json(value)]);
            patterns.extend(forms.filter(|form| !form.is_empty()).map(|form| (form.into_bytes(), told.clone())));
        }
        patterns.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.cmp(b)));
        patterns.dedup();
        Self { patterns }
    }

    /// Whether there is nothing to look for.
    pub fn is_idle(&self) -> bool {
        self.patterns.is_empty()
    }

    /// All of a text.
    pub fn whole(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = Stream { redactor: self, held: Vec::new() };
        let mut clean = stream.push(bytes);
        clean.extend(stream.finish());
        clean
    }

    /// The same for text.
    pub fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.whole(text.as_bytes())).into_owned()
    }

    /// For chunks that may end anywhere, after those from which this was held back.
    pub fn resume(&self, held: Vec<u8>) -> Stream<'_> {
        Stream { redactor: self, held }
    }

    fn look(&self, rest: &[u8]) -> Seen<'_> {
        for (pattern, told) in &self.patterns {
            if rest.starts_with(pattern) {
                return Seen::Secret { length: pattern.len(), told };
            }
            if pattern.starts_with(rest) {
                return Seen::Perhaps;
            }
        }
        Seen::Plain
    }
}

/// What stands at the start of some bytes.
enum Seen<'a> {
    Secret {
        length: usize,
        told: &'a str,
    },
    /// Too few bytes to tell.
    Perhaps,
    Plain,
}

/// Takes secrets out of chunks; what may be the start of one is held back until the next chunk.
pub struct Stream<'a> {
    redactor: &'a Redactor,
    held: Vec<u8>,
}

impl Stream<'_> {
    /// What is certain of the bytes so far.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        let mut clean = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            match self.redactor.look(&self.held[at..]) {
                Seen::Secret { length, told } => {
                    clean.extend_from_slice(told.as_bytes());
                    at += length;
                }
                Seen::Perhaps => break,
                Seen::Plain => {
                    clean.push(self.held[at]);
                    at += 1;
                }
            }
        }
        self.held.drain(..at);
        clean
    }

    /// What is held back, for the next time.
    pub fn held(self) -> Vec<u8> {
        self.held
    }

    /// What was held back: no secret, since nothing follows; but a shorter secret may be inside.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut clean = Vec::new();
        while !self.held.is_empty() {
            let shorter = self.redactor.patterns.iter().find(|(pattern, _)| self.held.starts_with(pattern));
            let length = match shorter {
                Some((pattern, told)) => {
                    clean.extend_from_slice(told.as_bytes());
                    pattern.len()
                }
                None => {
                    clean.push(self.held[0]);
                    1
                }
            };
            self.held.drain(..length);
        }
        clean
    }
}

fn in_json(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(
            [("KEY", "sk-abab"), ("SHORT", "sk-ab"), ("QUOTED", "pass\"word"), ("PEM", "-----BEGIN\nMIIabcdefgh\n}")]
                .into_iter(),
        )
    }

    #[test]
    fn secrets_become_names() {
        let told = redactor().text(r#"a sk-abab b sk-ab c {"x": "pass\"word"} MIIabcdefgh sk-aba sk-"#);
        assert_eq!(told, r#"a [KEY] b [SHORT] c {"x": "[QUOTED]"} [PEM] [SHORT]a sk-"#);
    }

    proptest! {
        #[test]
        fn however_the_chunks_end_the_text_is_the_same(cuts in prop::collection::vec(1_usize..9, 0..40)) {
            let text = b"xxsk-ababsk-absk-abab-----BEGIN\nMIIabcdefgh\n}sk-sk-abapass\"wor pass\"word s";
            let redactor = redactor();
            let mut stream = redactor.resume(Vec::new());
            let (mut clean, mut rest) = (Vec::new(), &text[..]);
            for cut in cuts {
                let (chunk, more) = rest.split_at(cut.min(rest.len()));
                clean.extend(stream.push(chunk));
                rest = more;
            }
            clean.extend(stream.push(rest));
            clean.extend(stream.finish());
            prop_assert_eq!(String::from_utf8(clean).unwrap(), String::from_utf8(redactor.whole(text)).unwrap());
        }
    }
}
