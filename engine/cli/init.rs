//! `plumb init`: a commented pipeline that runs as it is, with its tiny data and the schema that editors check it by.
//! Never overwrites a file.

use std::path::{Path, PathBuf};

use clap::Args;
use plumb_engine::schema;

use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  plumb init my-study             writes my-study/starter.toml and what it reads
  plumb run my-study/starter.toml it runs as it is, without libtorch

The pipeline teaches axes, plans, sources, command stages, gathers and profiles in its comments. Beside it stands
the JSON Schema that its first line names: editors with Taplo (VS Code: Even Better TOML) complete and check by it.";

/// `plumb init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Folder to put the files in
    #[arg(default_value = ".", value_name = "FOLDER")]
    pub folder: PathBuf,
}

const STARTER: &str = "starter.toml";

/// Runs the command.
pub fn run(context: &Context, args: &InitArgs) -> Result<Exit, Trouble> {
    let schema = schema::text(&context.registry);
    let files = [
        (STARTER, include_str!("init/starter.toml")),
        ("judge.sh", include_str!("init/judge.sh")),
        ("pairs.tsv", include_str!("init/pairs.tsv")),
        ("plumb.schema.json", schema.as_str()),
    ];
    let taken = |(name, _): &&(&str, &str)| args.folder.join(name).symlink_metadata().is_ok();
    if let Some((name, _)) = files.iter().find(taken) {
        let message = format!("`{}` is there already", args.folder.join(name).display());
        return Err(Trouble::usage(message, "name another folder: `plumb init FOLDER`"));
    }
    std::fs::create_dir_all(&args.folder).map_err(|error| Trouble::file("make the folder", &args.folder, &error))?;
    for (name, text) in files {
        write(&args.folder.join(name), text)?;
        context.printer.note(&format!("wrote `{}`", args.folder.join(name).display()));
    }
    context.printer.hint(&format!("`plumb run {}` runs it", args.folder.join(STARTER).display()));
    Ok(Exit::Done)
}

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    use std::io::Write as _;
    let written = std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Trouble::file("write", path, &error))
}
