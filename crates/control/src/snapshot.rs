//! The whole state as versioned JSON (docs/formats/control.md).

use crate::model::State;
use serde::Deserialize;
use std::fmt;

/// The shape of the state that this code writes, and the only one it reads so far.
pub const FORMAT: u32 = 1;

/// Why bytes are not a state. `Display` names what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// Written by a version that this code does not know.
    UnknownFormat { found: u32 },
    /// Not JSON, or not of the shape its format promises.
    Malformed { why: String },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::UnknownFormat { found } => {
                write!(
                    f,
                    "restoring the control plane: format {found} is not known here (this version reads {FORMAT})"
                )
            }
            RestoreError::Malformed { why } => write!(f, "restoring the control plane: {why}"),
        }
    }
}

impl std::error::Error for RestoreError {}

/// Read first: a later format may differ in everything else.
#[derive(Deserialize)]
struct Header {
    format: u32,
}

impl State {
    /// The state as JSON. Equal states give equal bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the state is plain data with text keys")
    }

    /// Reads a state back; what it gives is equal to what was written.
    ///
    /// # Errors
    /// If the format is unknown or the bytes are malformed. Nothing is guessed.
    pub fn restore(bytes: &[u8]) -> Result<State, RestoreError> {
        let malformed = |why: serde_json::Error| RestoreError::Malformed {
            why: why.to_string(),
        };
        let header: Header = serde_json::from_slice(bytes).map_err(malformed)?;
        if header.format != FORMAT {
            return Err(RestoreError::UnknownFormat {
                found: header.format,
            });
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{HubState, OperationStatus};
    use types::Epoch;

    fn sample() -> State {
        let mut state = active_hub();
        let ended = switch(&mut state, "op-1", "east", 10_000);
        state.apply(&request(
            "early",
            ended + 1,
            start_failover(1, "west", "op-2"),
        ));
        let mut second = spec("Hub-Two");
        second.stored_properties =
            serde_json::json!({"routing": {"weights": [0.1, 123_456.789_012_345_67, 1e300]}});
        state.apply(&request("two", ended + 2, put(second)));
        state
    }

    #[test]
    fn a_state_read_back_is_equal_and_goes_on_alike() {
        let mut state = sample();
        let mut restored = State::restore(&state.snapshot()).unwrap();
        assert_eq!(restored, state);
        assert_eq!(restored.snapshot(), state.snapshot());
        let next = request("next", 90_000, finish("create-Hub-Two"));
        assert_eq!(restored.apply(&next), state.apply(&next));
        assert_eq!(restored, state);
        assert_eq!(
            State::restore(&State::default().snapshot()).unwrap(),
            State::default()
        );
    }

    #[test]
    fn a_retry_is_still_recognised_after_a_restart() {
        let state = sample();
        let mut restored = State::restore(&state.snapshot()).unwrap();
        restored.apply(&request("two", 99_999, put_hub("Hub-Two")));
        assert_eq!(restored, state);
    }

    /// A forced failover whose old primary has returned, one whose has not, and a drill that runs.
    fn disaster() -> State {
        let mut state = active_hub();
        let at = force(&mut state, "force-1", "east", 10_000);
        let back = returned("force-1", "west", vec![lost_range(0, 4), lost_range(1, 0)]);
        state.apply(&request("back", at + 1, back));
        let drill = crate::Command::StartDrill {
            hub: types::HubId(1),
            drill: "drill-1".into(),
            reason: "twice a year".into(),
            hold_ms: 60_000,
        };
        state.apply(&request("drill", at + 2, drill));
        force(&mut state, "force-2", "west", at + 3);
        state
    }

    #[test]
    fn what_disasters_leave_behind_is_read_back() {
        let state = disaster();
        assert_eq!(State::restore(&state.snapshot()).unwrap(), state);
    }

    #[test]
    fn an_unknown_format_is_refused_by_its_number() {
        assert_eq!(
            State::restore(br#"{"format":2,"else":1}"#),
            Err(RestoreError::UnknownFormat { found: 2 })
        );
        assert_eq!(
            State::restore(br#"{"format":0}"#),
            Err(RestoreError::UnknownFormat { found: 0 })
        );
    }

    #[test]
    fn bytes_that_are_no_state_are_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            "{\"format\":1}",
            "nonsense",
            "{\"format\":\"1\"}",
        ] {
            assert!(
                matches!(
                    State::restore(bad.as_bytes()),
                    Err(RestoreError::Malformed { .. })
                ),
                "{bad}"
            );
        }
        let whole = sample().snapshot();
        assert!(State::restore(&whole[..whole.len() - 1]).is_err());
    }

    #[test]
    fn the_fixture_of_format_1_with_disasters_opens() {
        let state =
            State::restore(include_bytes!("../tests/fixtures/state-1-forced.json")).unwrap();
        let hub = state.hub_named("hub-one").unwrap();
        assert_eq!(hub.divergences, disaster().hubs["hub-one"].divergences);
        assert_eq!(hub.divergences[0].returned.as_ref().unwrap().records(), 4);
        assert_eq!(hub.away().unwrap().operation, "force-2");
        assert!(state.drills["drill-1"].is_running());
        assert!(state.operations["force-1"].is_forced());
        assert_eq!(State::restore(&state.snapshot()).unwrap(), state);
    }

    #[test]
    fn the_fixture_of_format_1_opens() {
        let state = State::restore(include_bytes!("../tests/fixtures/state-1.json")).unwrap();
        let hub = state.hub_named("hub-one").unwrap();
        assert_eq!(
            (hub.epoch, hub.primary.as_str(), hub.state),
            (Epoch(2), "east", HubState::Active)
        );
        assert_eq!(state.operations["op-1"].status, OperationStatus::Succeeded);
        assert_eq!(
            state.operations["op-1"].report.as_ref().unwrap()["epochAfter"],
            2
        );
        assert_eq!(
            state.hub_named("hub-two").unwrap().state,
            HubState::Activating
        );
        assert_eq!(state.deployment.principals[0].client_id, "app");
        // What was added later has its defaults.
        assert!(state.drills.is_empty() && hub.divergences.is_empty());
        assert!(!state.operations["op-1"].is_forced());
        assert_eq!(State::restore(&state.snapshot()).unwrap(), state);
    }
}
