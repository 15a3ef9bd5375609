//! Asking before something serious: the name must be typed.

use super::failure::Failure;
use std::io::{BufRead, IsTerminal, Write};

/// Passes when `--yes NAME` names the hub, or a person types its name.
///
/// # Errors
/// [`Failure::Usage`] when the names differ or nobody can be asked.
pub fn confirm(name: &str, yes: Option<&str>, question: &str) -> Result<(), Failure> {
    repeat("the hub's name", name, yes, question)
}

/// As [`confirm`], for something else that has a name; `what` says what is to be typed.
pub fn repeat(what: &str, name: &str, yes: Option<&str>, question: &str) -> Result<(), Failure> {
    if let Some(given) = yes {
        return check(what, name, given);
    }
    if !can_ask() {
        return Err(Failure::Usage(format!(
            "nobody can be asked here: confirm with --yes {name}"
        )));
    }
    let typed = ask(&format!("{question}\nType {what} to go on: "))?;
    check(what, name, &typed)
}

/// Whether there is a person to ask.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// What a person types after `prompt`, which goes to standard error.
pub fn ask(prompt: &str) -> Result<String, Failure> {
    let mut out = std::io::stderr();
    let asked = write!(out, "{prompt}").and_then(|()| out.flush());
    asked.map_err(Failure::failed)?;
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(Failure::failed)?;
    Ok(line.trim().to_owned())
}

fn check(what: &str, name: &str, given: &str) -> Result<(), Failure> {
    if given.eq_ignore_ascii_case(name) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "`{given}` is not {what}, `{name}`; nothing was done"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_name_confirms() {
        assert!(confirm("my-hub", Some("My-Hub"), "").is_ok());
        assert!(matches!(
            confirm("my-hub", Some("other"), ""),
            Err(Failure::Usage(_))
        ));
        assert!(matches!(
            confirm("my-hub", Some(""), ""),
            Err(Failure::Usage(_))
        ));
    }
}
