//! `[source.NAME]`: what the file says of where a source lies, and what that means. Looks whether a path is there;
//! fetches and hashes nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::table::{self, Complaints, Fields, Item, Text};
use crate::diagnostic::Diagnostic;
use crate::graph::Source;
use crate::source::Include;
use crate::source::place::{BadPlace, Place, shown};

/// The fields of which a source has one.
const PLACES: [&str; 4] = ["path", "glob", "url", "store"];

/// A source as the file writes it.
pub struct SourceText<'t> {
    /// Its name.
    pub name: Text<'t>,
    /// `path`, `glob`, `url` or `store`.
    pub field: &'static str,
    /// Where it lies, as written here or in the parameter it names.
    pub place: Text<'t>,
    /// The parameter that says where, where one does.
    pub param: Option<String>,
    include: Vec<Text<'t>>,
    sha256: Option<Text<'t>>,
    secret: Option<Text<'t>>,
}

/// Reads one source.
pub fn read<'t>(
    name: Text<'t>,
    item: Item<'t>,
    params: &BTreeMap<Cow<'t, str>, Item<'t>>,
    complaints: &mut Complaints,
) -> Option<SourceText<'t>> {
    table::check_name(&name, "source", complaints);
    let mut fields = Fields::of(item, &format!("source `{}`", name.get_ref()), complaints)?;
    let mut given = PLACES.iter().filter_map(|field| Some((*field, fields.take_entry(field)?))).collect::<Vec<_>>();
    for (_, (second, _)) in given.drain(1.min(given.len())..) {
        let message = format!("source `{}` says twice where it lies", name.get_ref());
        let hint = "keep one of `path`, `glob`, `url` and `store`".to_string();
        complaints.add(Diagnostic::at(second.span(), message).hint(hint));
    }
    let include = fields.take("include").map(|item| table::texts(item, "`include`", complaints)).unwrap_or_default();
    let (sha256, secret) = (fields.text("sha256", complaints), fields.text("secret", complaints));
    fields.finish("source", complaints);
    let given = given.pop();
    if given.is_none() {
        let message = format!("source `{}` has no path", name.get_ref());
        let hint = "add `path = \"…\"` or `path = { param = \"…\" }`; or `glob`, `url` or `store`".to_string();
        complaints.add(Diagnostic::at(name.span(), message).hint(hint));
    }
    let field = given.as_ref().map_or("path", |(field, _)| field);
    let (place, param) = given.and_then(|(_, (_, item))| place_text(item, params, complaints)).unzip();
    let place = place.unwrap_or_else(|| Spanned::new(name.span(), "".into()));
    Some(SourceText { name, field, place, param: param.flatten(), include, sha256, secret })
}

/// The place as text, and the parameter it comes from. Its span stays that of the source, where the user looks for it.
fn place_text<'t>(
    item: Item<'t>,
    params: &BTreeMap<Cow<'t, str>, Item<'t>>,
    complaints: &mut Complaints,
) -> Option<(Text<'t>, Option<String>)> {
    let span = item.span();
    if !matches!(item.get_ref(), DeValue::Table(_)) {
        return Some((table::text(item, "a source's path", complaints)?, None));
    }
    let mut fields = Fields::of(item, "a source's path", complaints)?;
    let Some(param) = fields.text("param", complaints) else {
        complaints.error(span, "a source's path is text or `{ param = \"…\" }`");
        return None;
    };
    fields.finish("source path", complaints);
    let Some(given) = params.get(param.get_ref()) else {
        complaints.unknown(param.span(), "parameter", param.get_ref(), params.keys().map(AsRef::as_ref));
        return None;
    };
    // Its own place may be the command line's: a wrong one is told where it is used.
    let given = Spanned::new(span.clone(), given.get_ref().clone());
    let path = table::text(given, &format!("the parameter `{}`", param.get_ref()), complaints)?;
    Some((Spanned::new(span, path.into_inner()), Some(param.get_ref().to_string())))
}

impl SourceText<'_> {
    /// What the text means, in a pipeline of this folder. A path that is not there is an error, if the source is
    /// needed; else a warning.
    pub fn settle(&self, folder: &Path, needed: bool, complaints: &mut Complaints) -> Option<Source> {
        let text = self.place.get_ref().as_ref();
        let place = match self.field {
            "glob" => Place::glob(text, folder),
            "url" => Place::url(text),
            "store" => Place::store(text),
            _ => Place::path(text, folder),
        };
        let place = place.map_err(|bad| complain(self.place.span(), bad, complaints)).ok()?;
        if let Place::Path(path) = &place
            && !path.exists()
        {
            let message = format!("source `{}` does not exist: `{text}`", self.name.get_ref());
            let hint = self.param.as_ref().map(|param| format!("give it with `--set {param}=PATH`"));
            let one = Diagnostic::at(self.place.span(), message).hint(hint);
            complaints.add(if needed { one } else { one.warning() });
        }
        self.check_options(&place, complaints);
        let mut include = Include::default();
        for pattern in &self.include {
            include.add(pattern.get_ref()).unwrap_or_else(|bad| complain(pattern.span(), bad, complaints));
        }
        let owned = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.get_ref().to_string());
        Some(Source {
            name: self.name.get_ref().to_string(),
            written: self.written(&place, &include),
            place,
            include,
            sha256: owned(&self.sha256),
            secret: owned(&self.secret),
            span: self.place.span(),
        })
    }

    /// The place as written, with everything else that says which bytes are meant: a lock file pins all of it.
    fn written(&self, place: &Place, include: &Include) -> String {
        let mut written = shown(place, self.place.get_ref());
        if !include.is_everything() {
            written += &format!(" include {include}");
        }
        if let Some(sha256) = &self.sha256 {
            written += &format!(" sha256 {}", sha256.get_ref());
        }
        written
    }

    fn check_options(&self, place: &Place, complaints: &mut Complaints) {
        let web = matches!(place, Place::Http(_));
        let mut misplaced = |option: &Text<'_>, name: &str, of: &str| {
            complaints.error(option.span(), format!("`{name}` is for {of}"));
        };
        if let Some(option) = self.include.first()
            && !matches!(place, Place::S3(_) | Place::Hub(_))
        {
            misplaced(option, "include", "folders behind `s3://` and `hf://`");
        }
        for (option, name) in [(&self.sha256, "sha256"), (&self.secret, "secret")] {
            option.iter().filter(|_| !web).for_each(|option| misplaced(option, name, "`http` and `https` addresses"));
        }
        let hex = |text: &str| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if let Some(sha256) = self.sha256.as_ref().filter(|sha256| !hex(sha256.get_ref())) {
            complaints.error(sha256.span(), "`sha256` is 64 lowercase hex digits, as `sha256sum` prints them");
        }
    }
}

fn complain(span: Range<usize>, bad: BadPlace, complaints: &mut Complaints) {
    complaints.add(Diagnostic::at(span, bad.message).hint(bad.hint));
}
