//! `castling activity …`: the log of what was done, and whether a file of it is whole.

use super::Context;
use super::failure::Failure;
use super::json::{number, text};
use super::management::Management;
use super::out::{Cell, Out, written};
use clap::Subcommand;
use control::activity::lines::Reader;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

const PAGE: i64 = 1_000;
/// More than any line of the log has.
const LINE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Subcommand)]
pub enum Activity {
    /// Show the latest entries
    List {
        /// How many
        #[arg(long, value_name = "COUNT", default_value_t = 20)]
        top: usize,
    },
    /// Write the log as JSON lines with their chain of hashes
    #[command(
        after_help = "Example:\n  castling activity export --file activity.jsonl && castling activity verify activity.jsonl"
    )]
    Export {
        /// Number of the first entry
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        from: i64,
        /// Where to [default: standard output]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Check a file of JSON lines: nothing was changed, taken out or put in
    Verify { file: PathBuf },
}

pub fn run(command: &Activity, context: &Context) -> Result<(), Failure> {
    match command {
        Activity::List { top } => list(*top, context),
        Activity::Export { from, file } => export(*from, file.as_deref(), context),
        Activity::Verify { file } => verify(file, &context.out),
    }
}

fn list(top: usize, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let path = format!(
        "{}/providers/microsoft.insights/eventtypes/management/values?api-version=2015-04-01&$top={top}",
        management.subscription_path()
    );
    let page = management.get(&path)?;
    let found: Vec<Value> = super::json::items(&page, "value")
        .iter()
        .take(top)
        .cloned()
        .collect();
    let rows: Vec<Vec<Cell>> = found
        .iter()
        .map(|entry| {
            [
                "eventTimestamp",
                "caller",
                "operationName.value",
                "status.value",
                "resourceId",
            ]
            .map(|path| text(entry, path).into())
            .to_vec()
        })
        .collect();
    context.out.show(&Value::Array(found), |out| {
        out.table(&["time", "who", "what", "result", "resource"], &rows)
    })
}

fn export(from: i64, file: Option<&Path>, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let mut to: Box<dyn Write> = match file {
        Some(path) => Box::new(
            File::create(path)
                .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?,
        ),
        None => Box::new(std::io::stdout().lock()),
    };
    let (mut next, mut count) = (from.max(1), 0);
    loop {
        let path = format!("/providers/Castling.Deployment/activity?from={next}&$top={PAGE}");
        let answer = management.call(ureq::http::Method::GET, &path, None)?;
        let page = String::from_utf8_lossy(&answer.body).into_owned();
        let numbers = page
            .lines()
            .filter_map(|line| number(&serde_json::from_str::<Value>(line).ok()?, "number"));
        let Some(last) = numbers.max() else { break };
        count += page.lines().count();
        written(to.write_all(page.as_bytes()))?;
        next = last + 1;
    }
    written(to.flush())?;
    match file {
        None => Ok(()),
        Some(path) => context.out.show(&json!({ "lines": count }), |out| {
            out.line(format!("{count} lines are in {}.", path.display()))
        }),
    }
}

/// Reads a file of the log and follows its hashes.
pub fn verify(file: &Path, out: &Out) -> Result<(), Failure> {
    let name = file.display();
    let open = File::open(file).map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
    let mut lines = BufReader::new(open);
    let (mut reader, mut count, mut line) = (Reader::default(), 0_u64, String::new());
    let mut begun = false;
    loop {
        line.clear();
        let read = lines
            .read_line(&mut line)
            .map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
        if read == 0 {
            break;
        }
        count += 1;
        let wrong = |why: String| Failure::Failed(format!("{name}:{count}: {why}"));
        if line.len() > LINE_BYTES_MAX {
            return Err(wrong("the line is too long".into()));
        }
        if !begun {
            begun = true;
            // An export may begin anywhere: its first line says after what.
            if let Some(after) = serde_json::from_str::<Value>(&line)
                .ok()
                .and_then(|value| number(&value, "gap.after"))
            {
                reader.number = after.unsigned_abs();
            }
        }
        reader.take(line.trim_end()).map_err(wrong)?;
    }
    let last = reader.number;
    out.show(
        &json!({ "lines": count, "last": last, "hash": reader.hash }),
        |out| {
            out.line(format!(
                "{name} is whole: {count} lines, the last entry is {last}."
            ))
        },
    )
}
