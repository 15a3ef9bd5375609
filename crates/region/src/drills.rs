//! Drives a drill while this region leads the control plane: a planned failover, a while in the other region, a planned failback,
//! with a picture of both for the report.

use crate::facts;
use crate::region::Region;
use control::drill::{Drill, DrillAction, Sample, drill_next, report};
use control::{Command, Hub};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::limits;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const FACTS_TIMEOUT: Duration = Duration::from_millis(500);

/// Goes on with one drill until it has ended, or this region no longer leads.
pub(crate) async fn drive(region: Arc<Region>, id: String, deputy: bool) {
    let mut samples = Samples::default();
    while region.plane.drives() || deputy && region.plane.may_drive() {
        let look_again = Instant::now() + LOOK_EVERY;
        let now = region
            .clock
            .now()
            .max(region.plane.with(|state| state.time));
        let found = region.plane.with(|state| {
            let drill = state.drills.get(&id).filter(|drill| drill.is_running())?;
            let action = drill_next(state, drill, now);
            Some((drill.clone(), action, state.hub(drill.hub).cloned()))
        });
        let Some((drill, action, hub)) = found else {
            return;
        };
        if let Some(hub) = &hub {
            samples.take(&region, hub).await;
        }
        if let Some(command) = command(&region, &drill, action, &samples) {
            submit(&region, &drill, command).await;
        }
        tokio::time::sleep_until(look_again).await;
    }
}

fn command(
    region: &Region,
    drill: &Drill,
    action: DrillAction,
    samples: &Samples,
) -> Option<Command> {
    let leg = |number: usize, to: &types::RegionName| Command::StartFailover {
        hub: drill.hub,
        to: to.clone(),
        operation: drill.leg_id(number),
        reason: reason(drill),
        excluded: false,
        drill: Some(drill.id.clone()),
    };
    match action {
        DrillAction::Wait => None,
        DrillAction::StartForward => Some(leg(0, &drill.to)),
        DrillAction::StartBack => Some(leg(1, &drill.from)),
        DrillAction::End { error } => Some(end(region, drill, samples, error)),
    }
}

fn reason(drill: &Drill) -> String {
    let why = if drill.reason.is_empty() {
        format!("drill {}", drill.id)
    } else {
        format!("drill {}: {}", drill.id, drill.reason)
    };
    why.chars()
        .take(limits::FAILOVER_REASON_CHARS_MAX)
        .collect()
}

fn end(
    region: &Region,
    drill: &Drill,
    samples: &Samples,
    error: Option<(String, String)>,
) -> Command {
    let at = region.clock.now();
    let report = region
        .plane
        .with(|state| report(state, drill, &samples.taken, error.as_ref(), at));
    Command::EndDrill {
        drill: drill.id.clone(),
        report: Some(report),
        error,
    }
}

async fn submit(region: &Region, drill: &Drill, command: Command) {
    let by = format!("castling:{}", region.me);
    let leg = matches!(command, Command::StartFailover { .. });
    match region.plane.submit(&by, command).await {
        Ok(control::Answer::Refused(refusal)) if leg => {
            let error = Some((format!("{:?}", refusal.code), refusal.message.clone()));
            let command = end(region, drill, &Samples::default(), error);
            if let Err(error) = region.plane.submit(&by, command).await {
                tracing::warn!(drill = %drill.id, why = %error.why, "the control plane did not answer");
            }
        }
        Ok(control::Answer::Refused(refusal)) => {
            tracing::debug!(drill = %drill.id, %refusal, "a step of a drill was refused");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(drill = %drill.id, why = %error.why, "the control plane did not answer");
        }
    }
}

/// What was seen while this region drove the drill; a coordinator that takes over begins anew.
#[derive(Default)]
struct Samples {
    taken: Vec<Sample>,
    /// Events in the log when the last sample was taken, and when that was.
    last: Option<(u64, Instant)>,
}

impl Samples {
    async fn take(&mut self, region: &Region, hub: &Hub) {
        if self.taken.len() >= limits::DRILL_SAMPLES_MAX {
            return;
        }
        let asked = std::iter::once(&hub.primary)
            .chain(hub.secondary())
            .map(|of| facts::ask(region, of, hub.id, FACTS_TIMEOUT));
        let told = futures_util::future::join_all(asked).await;
        let now = Instant::now();
        let mut sample = Sample {
            at: region.clock.now(),
            ..Sample::default()
        };
        let mut events = 0;
        for facts in told.iter().flatten() {
            sample.connected += facts.sessions_of_hub;
            let here: u64 = facts.partitions.iter().map(|p| p.next_sequence.0).sum();
            events = events.max(here);
            for led in facts.partitions.iter().filter(|p| p.primary) {
                sample.lag_records += led.lag_records;
                sample.lag_ms = sample.lag_ms.max(led.lag_ms);
            }
        }
        if let Some((before, at)) = self.last {
            let seconds = now.duration_since(at).as_secs_f64().max(0.001);
            sample.acknowledged_per_s = events.saturating_sub(before) as f64 / seconds;
            self.taken.push(sample);
        }
        self.last = Some((events, now));
    }
}
