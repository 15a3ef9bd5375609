//! Orders of a relay: from a line of text to the weather of a link.

use super::{Link, Weather};
use std::str::FromStr;
use std::sync::Arc;

const DELAY_MS_MAX: f64 = 60_000.0;

/// A direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Forward = 0,
    Back = 1,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    Delay { link: String, ms: [f64; 2] },
    Loss { link: String, share: f64 },
    Cut { link: String, sides: [bool; 2] },
    Heal { link: String },
    Reset { link: String },
    Stats,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Order, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str, max: f64| match text.parse::<f64>() {
            Ok(number) if (0.0..=max).contains(&number) => Ok(number),
            _ => Err(format!("{text}: a number from 0 to {max}")),
        };
        match words[..] {
            ["delay", link, both] => {
                let ms = number(both, DELAY_MS_MAX)?;
                Ok(Order::Delay {
                    link: link.into(),
                    ms: [ms, ms],
                })
            }
            ["delay", link, forward, back] => Ok(Order::Delay {
                link: link.into(),
                ms: [number(forward, DELAY_MS_MAX)?, number(back, DELAY_MS_MAX)?],
            }),
            ["loss", link, percent] => Ok(Order::Loss {
                link: link.into(),
                share: number(percent, 100.0)? / 100.0,
            }),
            ["cut", link, side] => Ok(Order::Cut {
                link: link.into(),
                sides: match side {
                    "forward" => [true, false],
                    "back" => [false, true],
                    "both" => [true, true],
                    _ => return Err(format!("{side}: forward, back or both")),
                },
            }),
            ["heal", link] => Ok(Order::Heal { link: link.into() }),
            ["reset", link] => Ok(Order::Reset { link: link.into() }),
            ["stats"] => Ok(Order::Stats),
            _ => Err(format!("not an order: {}", line.trim())),
        }
    }
}

/// Carries an order out on the links it names.
///
/// # Errors
/// When there is no such link.
pub(super) fn perform(order: &Order, links: &[Arc<Link>]) -> Result<(), String> {
    let name = match order {
        Order::Delay { link, .. }
        | Order::Loss { link, .. }
        | Order::Cut { link, .. }
        | Order::Heal { link }
        | Order::Reset { link } => link,
        Order::Stats => return Ok(()),
    };
    let change = |now: &mut Weather| match order {
        Order::Delay { ms, .. } => now.delay_ms = *ms,
        Order::Loss { share, .. } => now.loss = *share,
        Order::Cut { sides, .. } => now.cut = *sides,
        Order::Heal { .. } => now.cut = [false; 2],
        Order::Reset { .. } => now.resets += 1,
        Order::Stats => {}
    };
    let mut found = false;
    for link in links {
        if name == "*" || link.name == *name {
            link.weather.send_modify(change);
            found = true;
        }
    }
    if found {
        Ok(())
    } else {
        Err(format!("there is no link {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_nonsense_is_refused() {
        let check = |line: &str, expected: Order| assert_eq!(line.parse(), Ok(expected), "{line}");
        let link = || "a-b".to_owned();
        check(
            "delay a-b 20\n",
            Order::Delay {
                link: link(),
                ms: [20.0, 20.0],
            },
        );
        check(
            "delay a-b 20 0.5",
            Order::Delay {
                link: link(),
                ms: [20.0, 0.5],
            },
        );
        check(
            "loss * 0.1",
            Order::Loss {
                link: "*".into(),
                share: 0.001,
            },
        );
        check(
            "  cut a-b back ",
            Order::Cut {
                link: link(),
                sides: [false, true],
            },
        );
        check("heal a-b", Order::Heal { link: link() });
        for bad in [
            "",
            "delay",
            "delay a-b",
            "delay a-b -1",
            "delay a-b NaN",
            "delay a-b 1 2 3",
            "loss a-b 101",
            "cut a-b left",
            "heal",
            "stats a-b",
        ] {
            assert!(bad.parse::<Order>().is_err(), "{bad:?}");
        }
    }
}
