//! Calls of the control plane to other nodes: directly, or, while that link is down, through a third node that has both.
//!
//! So a cut between two of three nodes takes neither of them out of the control plane. A relayed call is not relayed again.

use crate::peer;
use bytes::Bytes;
use link::{Class, LinkError, Links};
use std::time::Duration;
use types::RegionName;

/// First byte of a relayed call; then one byte version, one byte length and the name of whom it is for, and the call itself.
pub const RELAY: u8 = b'f';

const DONE: u8 = 0;
const NOT_SENT: u8 = 1;
const UNKNOWN: u8 = 2;

/// Longest way of a relayed call beyond the relay.
const ONWARD: Duration = Duration::from_secs(3);

/// Calls `to`, through another of the linked nodes if there is no link to it.
///
/// # Errors
/// As [`Links::call`].
pub async fn call(
    links: &Links,
    to: &RegionName,
    body: Bytes,
    within: Duration,
) -> Result<Bytes, LinkError> {
    let why = match links.call(to, Class::Control, body.clone(), within).await {
        Err(LinkError::NotSent(why)) if !links.up(to) => why,
        other => return other,
    };
    let relays = links.peers().into_iter().filter(|peer| peer.up);
    for relay in relays {
        let framed = frame(to, &body);
        match links
            .call(&relay.name, Class::Control, framed, within)
            .await
        {
            Ok(answer) => match opened(&answer) {
                Err(LinkError::NotSent(_)) => {}
                other => return other,
            },
            Err(LinkError::NotSent(_)) => {}
            Err(unknown) => return Err(unknown),
        }
    }
    Err(LinkError::NotSent(why))
}

fn frame(to: &RegionName, body: &[u8]) -> Bytes {
    let name = to.as_str().as_bytes();
    let mut framed = Vec::with_capacity(body.len() + name.len() + 3);
    framed.extend([RELAY, peer::VERSION]);
    framed.push(u8::try_from(name.len()).expect("names of regions are short"));
    framed.extend_from_slice(name);
    framed.extend_from_slice(body);
    framed.into()
}

fn opened(answer: &Bytes) -> Result<Bytes, LinkError> {
    let text = || String::from_utf8_lossy(answer.get(1..).unwrap_or_default()).into_owned();
    match answer.first() {
        Some(&DONE) => Ok(answer.slice(1..)),
        Some(&UNKNOWN) => Err(LinkError::OutcomeUnknown(text())),
        // Also what a node says that is starting, or of another version: it did not pass the call on.
        _ => Err(LinkError::NotSent(text())),
    }
}

/// Passes a relayed call on; the answer says what became of it.
pub async fn pass_on(links: &Links, framed: &Bytes) -> Bytes {
    let not_sent = |why: &str| [&[NOT_SENT], why.as_bytes()].concat().into();
    let Some((to, body)) = read(framed) else {
        return not_sent("a relayed call was not understood");
    };
    if to == *links.me() || body.first() == Some(&RELAY) {
        return not_sent("a relayed call may not be relayed again");
    }
    match links.call(&to, Class::Control, body, ONWARD).await {
        Ok(answer) => [&[DONE], &answer[..]].concat().into(),
        Err(LinkError::NotSent(why)) => not_sent(&why),
        Err(LinkError::OutcomeUnknown(why)) => [&[UNKNOWN], why.as_bytes()].concat().into(),
    }
}

fn read(framed: &Bytes) -> Option<(RegionName, Bytes)> {
    let rest = framed.strip_prefix(&[RELAY, peer::VERSION])?;
    let (length, rest) = rest.split_first()?;
    let (name, body) = rest.split_at_checked(usize::from(*length))?;
    let name = RegionName::parse(std::str::from_utf8(name).ok()?).ok()?;
    Some((name, framed.slice_ref(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_call_survives_the_way_and_nonsense_is_none() {
        let to = RegionName::parse("westus2").unwrap();
        let framed = frame(&to, b"rbody");
        assert_eq!(read(&framed), Some((to, Bytes::from_static(b"rbody"))));
        for length in 0..10 {
            assert_eq!(read(&framed.slice(..length)), None, "{length} bytes");
        }
        assert_eq!(opened(&Bytes::from_static(b"\0x")), Ok("x".into()));
        let unknown = opened(&Bytes::from_static(b"\x02why"));
        assert_eq!(unknown, Err(LinkError::OutcomeUnknown("why".into())));
        for other in [&b"\x01why"[..], b"", b"athis"] {
            let answer = opened(&Bytes::copy_from_slice(other));
            assert!(matches!(answer, Err(LinkError::NotSent(_))), "{other:?}");
        }
    }
}
