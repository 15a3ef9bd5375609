//! Asking before something serious: the name must be typed.

use super::failure::Failure;
use std::io::{BufRead, IsTerminal, Write};

/// Passes when `--yes NAME` names the hub, or a person types its name.
///
/// # Errors
/// [`Failure::Usage`] when the names differ or nobody can be asked.
pub fn confirm(name: &str, yes: Option<&str>, question: &str) -> Result<(), Failure> {
    if let Some(given) = yes {
        return check(name, given);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "nobody can be asked here: confirm with --yes {name}"
        )));
    }
    let mut ask = std::io::stderr();
    let asked =
        write!(ask, "{question}\nType the hub's name to go on: ").and_then(|()| ask.flush());
    asked.map_err(Failure::failed)?;
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(Failure::failed)?;
    check(name, line.trim())
}

fn check(name: &str, given: &str) -> Result<(), Failure> {
    if given.eq_ignore_ascii_case(name) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "`{given}` is not the hub's name `{name}`; nothing was done"
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
