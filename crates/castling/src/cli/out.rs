//! What goes to standard output: tables for people, JSON for programs.

use super::failure::Failure;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Good,
    Warning,
    Bad,
    Dim,
}

#[derive(Clone, Copy, Debug)]
pub struct Out {
    pub format: Format,
    color: bool,
}

impl Out {
    pub fn new(format: Format, no_color: bool) -> Out {
        let asked_not =
            no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Out {
            format,
            color: !asked_not && std::io::stdout().is_terminal(),
        }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes a line.
    ///
    /// # Errors
    /// [`Failure::OutputClosed`] when nobody reads any more.
    pub fn line(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        written(
            out.write_all(text.as_ref().as_bytes())
                .and_then(|()| out.write_all(b"\n"))
                .and_then(|()| out.flush()),
        )
    }

    /// Writes a value, indented.
    pub fn json(&self, value: &Value) -> Result<(), Failure> {
        self.line(format!("{value:#}"))
    }

    /// Writes the value, or what `table` makes of it.
    pub fn show(
        &self,
        value: &Value,
        table: impl FnOnce(&Out) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.is_json() {
            self.json(value)
        } else {
            table(self)
        }
    }

    pub fn table(&self, headings: &[&str], rows: &[Vec<Cell>]) -> Result<(), Failure> {
        for line in layout(headings, rows) {
            self.line(self.render(&line))?;
        }
        Ok(())
    }

    /// Writes names with their values, one a line.
    pub fn pairs(&self, pairs: &[(&str, String)]) -> Result<(), Failure> {
        let width = pairs
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or_default();
        for (name, value) in pairs {
            let name = self.paint(Paint::Dim, &format!("{name:width$}"));
            self.line(format!("{name}  {}", printable(value)))?;
        }
        Ok(())
    }

    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            _ if !self.color => return text.to_owned(),
            Paint::Plain => return text.to_owned(),
            Paint::Good => "32",
            Paint::Warning => "33",
            Paint::Bad => "31",
            Paint::Dim => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    fn render(&self, cells: &[Cell]) -> String {
        let texts: Vec<String> = cells
            .iter()
            .map(|cell| self.paint(cell.paint, &cell.text))
            .collect();
        texts.join("  ").trim_end().to_owned()
    }
}

/// One field of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub fn painted(paint: Paint, text: impl Into<String>) -> Cell {
        Cell {
            text: printable(&text.into()),
            paint,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::painted(Paint::Plain, text)
    }
}

/// The text without what could steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn layout(headings: &[&str], rows: &[Vec<Cell>]) -> Vec<Vec<Cell>> {
    let head: Vec<Cell> = headings
        .iter()
        .map(|text| Cell::painted(Paint::Dim, text.to_uppercase()))
        .collect();
    let mut lines: Vec<Vec<Cell>> = std::iter::once(head).chain(rows.iter().cloned()).collect();
    for column in 0..headings.len() {
        let width = lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.text.chars().count())
            .max()
            .unwrap_or_default();
        let last = column + 1 == headings.len();
        for cell in lines
            .iter_mut()
            .filter_map(|line| line.get_mut(column))
            .filter(|_| !last)
        {
            let missing = width - cell.text.chars().count();
            cell.text.push_str(&" ".repeat(missing));
        }
    }
    lines
}

/// The outcome of writing to standard output.
pub fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Failed(format!("standard output: {error}")),
    })
}

/// A spinner on standard error; nothing where that is no terminal.
pub fn spinner(text: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(text.into());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A progress bar on standard error; nothing where that is no terminal.
pub fn progress(total: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_field() {
        let out = Out {
            format: Format::Table,
            color: false,
        };
        let lines = layout(
            &["name", "state"],
            &[
                vec!["a".into(), "Active".into()],
                vec!["longer".into(), "x".into()],
            ],
        );
        let texts: Vec<String> = lines.iter().map(|line| out.render(line)).collect();
        assert_eq!(texts, ["NAME    STATE", "a       Active", "longer  x"]);
    }

    #[test]
    fn texts_of_others_cannot_steer_the_terminal() {
        assert_eq!(
            Cell::from("a\u{1b}[31mb\n"),
            Cell::from("a\u{fffd}[31mb\u{fffd}")
        );
    }

    #[test]
    fn a_closed_pipe_is_an_ordinary_end() {
        assert_eq!(
            written(Err(ErrorKind::BrokenPipe.into())),
            Err(Failure::OutputClosed)
        );
    }
}
