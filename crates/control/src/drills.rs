//! The commands of a drill.

use crate::apply::Call;
use crate::command::Answer;
use crate::drill::{Drill, DrillStatus};
use crate::failovers::{Asked, short_reason};
use crate::lookup::active;
use crate::model::{Hub, State};
use crate::policy;
use crate::refusal::{Refusal, RefusalCode};
use types::{HubId, RegionName, limits};

impl State {
    /// The drill that runs on this hub.
    pub fn running_drill(&self, hub: HubId) -> Option<&Drill> {
        self.running_drills().find(|drill| drill.hub == hub)
    }

    /// Drills that have not ended, in id order.
    pub fn running_drills(&self) -> impl Iterator<Item = &Drill> {
        self.drills.values().filter(|drill| drill.is_running())
    }

    /// A hub's drills, the latest first.
    pub fn drills_of(&self, hub: HubId) -> Vec<&Drill> {
        let mut found: Vec<_> = self
            .drills
            .values()
            .filter(|drill| drill.hub == hub)
            .collect();
        found.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
        found
    }

    /// Starts a drill, or refuses it; a repeated id gives the same drill back.
    pub(crate) fn start_drill(
        &mut self,
        call: Call<'_>,
        hub: HubId,
        id: &str,
        reason: &str,
        hold_ms: i64,
    ) -> Result<Answer, Refusal> {
        if let Some(known) = self.drills.get(id).filter(|drill| drill.hub == hub) {
            return Ok(Answer::Drill(Box::new(known.clone())));
        }
        let hub = self.hub_or_refuse(hub)?;
        if let Some(running) = self.running_drill(hub.id) {
            let message = format!(
                "Drill '{}' runs on IotHub '{}': one at a time.",
                running.id, hub.name
            );
            return Err(Refusal::new(RefusalCode::DrillRunning, message));
        }
        policy::has_pair(hub)?;
        active(hub)?;
        self.fresh_drill(id)?;
        short_reason(reason)?;
        held_within_bounds(hold_ms)?;
        let drill = Drill {
            id: id.into(),
            hub: hub.id,
            target: hub.name.key(),
            from: hub.primary.clone(),
            to: hub.secondary().unwrap_or(&hub.primary).clone(),
            started: call.at,
            ended: None,
            by: call.by.into(),
            reason: reason.into(),
            hold_ms,
            legs: [None, None],
            status: DrillStatus::Running,
            error: None,
            report: None,
        };
        self.changed();
        self.drills.insert(id.into(), drill.clone());
        self.trim_drills();
        Ok(Answer::Drill(Box::new(drill)))
    }

    /// Ends a drill. One that has ended already is given back as it is.
    pub(crate) fn end_drill(
        &mut self,
        call: Call<'_>,
        id: &str,
        report: &Option<serde_json::Value>,
        error: &Option<(String, String)>,
    ) -> Result<Answer, Refusal> {
        let drill = self.drill_or_refuse(id)?;
        if !drill.is_running() {
            return Ok(Answer::Drill(Box::new(drill.clone())));
        }
        let leg = drill.legs.iter().flatten();
        if let Some(op) = leg
            .filter_map(|id| self.operations.get(id))
            .find(|op| op.is_running())
        {
            let message = format!(
                "Drill '{id}' cannot end while its operation '{}' runs. Next: {}.",
                op.id,
                op.legal_next()
            );
            return Err(Refusal::new(RefusalCode::StepOutOfOrder, message));
        }
        if error.is_none() && drill.legs.iter().any(Option::is_none) {
            let message = format!("Drill '{id}' has not been there and back.");
            return Err(Refusal::new(RefusalCode::StepOutOfOrder, message));
        }
        self.changed();
        let drill = self.drills.get_mut(id).expect("it was just read");
        drill.status = match error {
            None => DrillStatus::Succeeded,
            Some(_) => DrillStatus::Failed,
        };
        drill.ended = Some(call.at);
        drill.report.clone_from(report);
        drill.error.clone_from(error);
        let ended = drill.clone();
        self.trim_drills();
        Ok(Answer::Drill(Box::new(ended)))
    }

    /// Whether a leg of this drill to `to` may begin. The policy's time and number do not hold for it: a drill comes back by
    /// itself, and only one runs on a hub at a time.
    pub(crate) fn leg_allowed(
        &self,
        hub: &Hub,
        to: &RegionName,
        drill: &str,
        excluded: bool,
    ) -> Result<(), Refusal> {
        let drill = self.drill_or_refuse(drill)?;
        policy::has_pair(hub)?;
        policy::is_secondary(hub, to)?;
        active(hub)?;
        policy::is_offered(hub, excluded)?;
        let wrong = |why: &str| {
            let message = format!("Drill '{}': {why}.", drill.id);
            Err(Refusal::new(RefusalCode::StepOutOfOrder, message))
        };
        match &drill.legs {
            _ if !drill.is_running() => wrong("it has ended"),
            _ if drill.hub != hub.id => wrong("it is another IotHub's"),
            [None, _] if *to == drill.to => Ok(()),
            [None, _] => wrong("it begins with the way there"),
            [Some(_), None] if *to == drill.from => Ok(()),
            [Some(_), None] => wrong("it goes on with the way back"),
            [Some(_), Some(_)] => wrong("it has been there and back"),
        }
    }

    /// Records a leg that begins; [`State::leg_allowed`] has found its place free.
    pub(crate) fn record_leg(&mut self, drill: &str, asked: Asked<'_>) {
        if let Some(place) = self
            .drills
            .get_mut(drill)
            .and_then(|drill| drill.legs.iter_mut().find(|leg| leg.is_none()))
        {
            *place = Some(asked.operation.into());
        }
    }

    fn drill_or_refuse(&self, id: &str) -> Result<&Drill, Refusal> {
        self.drills.get(id).ok_or_else(|| {
            let message = format!("The drill '{}' was not found.", crate::naming::shown(id));
            Refusal::new(RefusalCode::DrillNotFound, message)
        })
    }

    /// Refuses a drill id that is empty, too long for the ids of its legs, or another drill's.
    fn fresh_drill(&self, id: &str) -> Result<(), Refusal> {
        let why = if !(1..=limits::DRILL_ID_CHARS_MAX).contains(&id.chars().count()) {
            format!("must have 1 to {} characters", limits::DRILL_ID_CHARS_MAX)
        } else if self.drills.contains_key(id) {
            "is in use".into()
        } else {
            return Ok(());
        };
        let message = format!("The drill id '{}' {why}.", crate::naming::shown(id));
        Err(Refusal::new(RefusalCode::InvalidProperties, message))
    }

    /// Drops the oldest ended drills of each hub, and of hubs that are gone, beyond what is kept.
    fn trim_drills(&mut self) {
        let mut ended: Vec<_> = self
            .drills
            .values()
            .filter_map(|drill| {
                let alive = self.hubs.values().any(|hub| hub.id == drill.hub);
                Some((alive.then_some(drill.hub), drill.ended?, drill.id.clone()))
            })
            .collect();
        ended.sort();
        let mut dropped = Vec::new();
        for same in ended.chunk_by(|a, b| a.0 == b.0) {
            let surplus = same.len().saturating_sub(limits::DRILLS_KEPT_PER_HUB_MAX);
            dropped.extend(same[..surplus].iter().map(|(_, _, id)| id.clone()));
        }
        for id in dropped {
            self.drills.remove(&id);
        }
    }
}

fn held_within_bounds(hold_ms: i64) -> Result<(), Refusal> {
    if (0..=limits::DRILL_HOLD_MS_MAX).contains(&hold_ms) {
        return Ok(());
    }
    let message = format!(
        "A drill stays between 0 ms and {} in the other region.",
        crate::iso::span(limits::DRILL_HOLD_MS_MAX)
    );
    Err(Refusal::new(RefusalCode::InvalidProperties, message))
}

#[cfg(test)]
#[path = "drills_tests.rs"]
mod tests;
