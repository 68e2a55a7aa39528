//! From the text of a file to TOML tables, with the place of every key and value. A large file is cut between stages and
//! its pieces are parsed side by side; whatever is out of the ordinary is parsed in one piece, so that what is wrong is
//! told as ever.

use rayon::prelude::*;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error};

use super::table::{Item, Text};

/// A piece is worth a thread of its own from this length on: some hundred stages.
const PIECE: usize = 64 << 10;

/// Parses a file; the errors of its syntax, if there are any.
pub fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Vec<Error>> {
    let pieces = (text.len() / PIECE).min(rayon::current_num_threads());
    if pieces > 1
        && let Some(root) = in_pieces(text, pieces)
    {
        return Ok(root);
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() { Ok(root) } else { Err(errors) }
}

/// `None` where the pieces are not surely what the whole is.
fn in_pieces(text: &str, pieces: usize) -> Option<Spanned<DeTable<'_>>> {
    if text.contains("\"\"\"") || text.contains("'''") {
        // A header may be part of a text of several lines.
        return None;
    }
    let cuts = cuts(text, pieces);
    let ends = cuts.iter().skip(1).copied().chain([text.len()]);
    let ranges: Vec<(usize, usize)> = cuts.iter().copied().zip(ends).collect();
    let parse = |(start, end): &(usize, usize)| {
        let table = DeTable::parse(&text[*start..*end]).ok()?;
        Some(if *start == 0 { table } else { Spanned::new(0..0, moved_table(table.into_inner(), *start)) })
    };
    let mut parsed = ranges.par_iter().map(parse).collect::<Option<Vec<_>>>()?.into_iter();
    let mut root = parsed.next()?;
    for table in parsed {
        for (name, item) in table.into_inner() {
            unite(root.get_mut(), name, item, text)?;
        }
    }
    Some(root)
}

/// Where the pieces start: each but the first at the header of a whole stage.
fn cuts(text: &str, pieces: usize) -> Vec<usize> {
    let mut cuts = vec![0];
    for piece in 1..pieces {
        let from = text.floor_char_boundary((text.len() / pieces * piece).max(cuts[cuts.len() - 1] + 1));
        cuts.extend(stage_header(text, from));
    }
    cuts.dedup();
    cuts
}

/// The first line from there on that is `[stage.NAME]` and no part of a stage.
fn stage_header(text: &str, from: usize) -> Option<usize> {
    let whole = |rest: &str| {
        let name = rest.split_once(']').map_or("", |(name, _)| name);
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let found = text[from..].match_indices("\n[stage.").find(|(at, header)| whole(&text[from + at + header.len()..]));
    found.map(|(at, _)| from + at + 1)
}

/// Adds an entry of a later piece. Stages and sources may stand in several; nothing may stand in two.
fn unite<'t>(root: &mut DeTable<'t>, name: Text<'t>, item: Item<'t>, text: &str) -> Option<()> {
    let Some((known, mut there)) = root.remove_entry(name.get_ref().as_ref()) else {
        root.insert(name, item);
        return Some(());
    };
    // `stage = { … }` and `stage.a.uses = …` may not be added to: only headers may.
    let is_header = |name: &Text<'_>| text[..name.span().start].ends_with("\n[");
    if !is_header(&known) || !is_header(&name) || !matches!(name.get_ref().as_ref(), "stage" | "source") {
        return None;
    }
    let (DeValue::Table(entries), DeValue::Table(more)) = (there.get_mut(), item.into_inner()) else { return None };
    for (name, item) in more {
        if entries.insert(name, item).is_some() {
            return None;
        }
    }
    root.insert(known, there);
    Some(())
}

fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let moved = table.into_iter().map(|(name, item)| {
        let span = name.span();
        (Spanned::new(span.start + by..span.end + by, name.into_inner()), moved(item, by))
    });
    moved.collect()
}

fn moved(item: Item<'_>, by: usize) -> Item<'_> {
    let span = item.span();
    let value = match item.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
        DeValue::Array(items) => {
            let mut array = DeArray::new();
            items.into_iter().for_each(|item| array.push(moved(item, by)));
            DeValue::Array(array)
        }
        scalar => scalar,
    };
    Spanned::new(span.start + by..span.end + by, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(count: usize) -> String {
        let stage = |number| {
            format!(
                "[stage.s{number}]\nuses = \"command\" # é\ninputs.a = \"s0.o\"\nwith.argv = [\"echo\", 1.5]\n\
                 [stage.s{number}.run]\ntime = \"1h\"\n[source.r{number}]\npath = \"r\"\n"
            )
        };
        (0..count).map(stage).collect()
    }

    fn check(text: &str, in_pieces_too: bool) {
        let united = in_pieces(text, 4);
        assert_eq!(united.is_some(), in_pieces_too, "{text}");
        if let Some(united) = united {
            let whole = DeTable::parse(text).unwrap();
            assert_eq!(format!("{united:?}"), format!("{whole:?}"), "places and all");
        }
    }

    #[test]
    fn pieces_are_what_the_whole_is() {
        check(&format!("schema = 1\n[pipeline]\nname = \"p\"\n{}", stages(50)), true);
        check(&format!("schema = 1\n{}[params]\nsteps = 3\n", stages(50)), true);
    }

    #[test]
    fn what_is_out_of_the_ordinary_is_parsed_in_one_piece() {
        let many = stages(50);
        check(&format!("text = \"\"\"\n[stage.x]\n\"\"\"\n{many}"), false);
        check(&format!("stage = {{ a = 1 }}\n{many}"), false);
        check(&format!("stage.a.uses = \"x\"\n{many}"), false);
        check(&format!("{many}[stage.s0]\nuses = \"x\"\n"), false);
        check(&format!("{many}[stage.s60]\nuses = x\n"), false);
        check(&format!("[[plan]]\n{many}[[plan]]\n"), false);
        check("schema = 1\n", true);
    }
}
