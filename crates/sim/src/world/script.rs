//! An enumerated run: its plot, and the one thing that goes wrong at one moment of one step.

use super::World;
use super::event::{Happening, Node, Submitter, Wire};
use super::trouble::Trouble;
use super::voters::WITNESS;
use crate::cases::{Case, Lost, Moment, Plot, What, Who};
use crate::history::RegionId;
use control::Command;
use region::engine::Message;

const LOOK_EVERY_MS: i64 = 50;
const DOWN_MS: i64 = 1500;
const SHORT_MS: i64 = 1500;
const LONG_MS: i64 = 7500;
const CUT_MS: i64 = 6500;
/// The hub's home is region 0.
const A: RegionId = 0;
const B: RegionId = 1;
/// A plot that has not come to its end by now has none.
const PLOT_MS_MAX: i64 = 60_000;

/// How far an enumerated run is.
pub struct Script {
    pub case: Case,
    stage: Stage,
    began: i64,
    /// The operation at whose step it strikes: the plot's last one.
    watched: bool,
    struck: bool,
    quiet_at: i64,
    /// The last command of the operator, to be sent again.
    said: Option<Command>,
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waits,
    /// The primary was lost; the operator has not heard.
    Lost,
    /// A failover was asked for.
    Asked,
    /// The old primary is to come back.
    Away,
    Failback,
    Over,
}

impl Script {
    pub fn new(case: Case) -> Script {
        Script {
            case,
            stage: Stage::Waits,
            began: 0,
            watched: false,
            struck: false,
            quiet_at: 0,
            said: None,
            tries: 0,
        }
    }
}

impl World {
    pub(super) fn begin_script(&mut self) {
        let now = self.now;
        if let Some(script) = &mut self.script {
            script.began = now;
            self.after(1000, Happening::Script);
        }
    }

    fn stage(&mut self, stage: Stage) {
        if let Some(script) = &mut self.script {
            script.stage = stage;
        }
    }

    pub(super) fn script_goes_on(&mut self) {
        let Some(script) = &self.script else { return };
        if self.phase != super::Phase::Storm {
            return;
        }
        let (case, stage) = (script.case, script.stage);
        let running = self.plane.state.running_operations().next().is_some();
        let too_late = self.now - script.began > PLOT_MS_MAX;
        self.after(LOOK_EVERY_MS, Happening::Script);
        match stage {
            _ if too_late => self.stage(Stage::Over),
            Stage::Waits if case.plot.is_forced() => self.lose_primary(case.plot),
            Stage::Waits => self.script_asks(case, false),
            Stage::Lost => self.script_asks(case, true),
            Stage::Asked | Stage::Failback if running => {}
            Stage::Asked => self.asked_over(case),
            Stage::Away if self.all_returned() => match case.plot {
                Plot::Failback => self.ask_back(case),
                _ => self.stage(Stage::Over),
            },
            Stage::Away => {}
            Stage::Failback if self.primary() == A => self.stage(Stage::Over),
            Stage::Failback => self.ask_back(case),
            Stage::Over => self.script_over(),
        }
    }

    fn primary(&self) -> RegionId {
        let hub = self.plane.state.hub(super::HUB);
        hub.map_or(A, |hub| self.region_id(&hub.primary))
    }

    fn all_returned(&self) -> bool {
        let hub = self.plane.state.hub(super::HUB);
        hub.is_some_and(|hub| hub.away().is_none())
    }

    /// First the partner, so that there is something to lose; then the rest.
    fn lose_primary(&mut self, plot: Plot) {
        self.watch(matches!(
            plot,
            Plot::Forced(_) | Plot::CancelForced | Plot::ResumeForced
        ));
        self.cut_pair(A, B, true, 1500);
        let lost = match plot {
            Plot::Forced(lost) => lost,
            _ => Lost::Dead,
        };
        // A return must see its old primary come back; otherwise it is away until everything is healed.
        let ms = match plot {
            Plot::Return | Plot::Failback => 9000,
            _ => 14_000,
        };
        let trouble = match lost {
            Lost::Dead => Trouble::Crash {
                region: A,
                down_ms: ms,
            },
            Lost::Hung => Trouble::Pause { node: A, ms },
            Lost::Cut => Trouble::Isolate { node: A, ms },
            Lost::HalfAlive => Trouble::CutPair {
                from: A,
                to: B,
                both: true,
                ms,
            },
        };
        self.after(700, Happening::Trouble(trouble));
        self.stage(Stage::Lost);
        if let Some(script) = &mut self.script {
            script.quiet_at = self.now + 1500;
        }
    }

    /// The operator asks for the failover; again if it was refused or rolled back, as people do.
    fn script_asks(&mut self, case: Case, forced: bool) {
        let now = self.now;
        let Some(script) = &mut self.script else {
            return;
        };
        if now < script.quiet_at {
            return;
        }
        script.quiet_at = now + 2500;
        script.tries += 1;
        if !forced {
            script.watched = true;
        }
        let cancels = matches!(case.plot, Plot::Cancel | Plot::CancelForced);
        self.look_before(forced);
        let able = self.operators_node().is_some();
        self.stage(match cancels || able || !forced {
            true => Stage::Asked,
            false => Stage::Lost,
        });
    }

    /// The failover is over, or was refused.
    fn asked_over(&mut self, case: Case) {
        let Some(script) = &self.script else { return };
        let (settles, tries) = (self.now < script.quiet_at, script.tries);
        let cancelled = matches!(case.plot, Plot::Cancel | Plot::CancelForced);
        let done = self.primary() == B || cancelled || tries >= 4;
        match case.plot {
            _ if settles => {}
            Plot::Return | Plot::Failback if self.primary() == B => {
                self.watch(case.plot == Plot::Return);
                self.stage(Stage::Away);
            }
            _ if done => self.stage(Stage::Over),
            _ => self.script_asks(case, case.plot.is_forced()),
        }
    }

    fn ask_back(&mut self, case: Case) {
        self.watch(true);
        let now = self.now;
        let Some(script) = &mut self.script else {
            return;
        };
        if now < script.quiet_at {
            return;
        }
        script.quiet_at = now + 2500;
        script.tries += 1;
        if script.tries > 6 {
            return self.stage(Stage::Over);
        }
        debug_assert_eq!(case.plot, Plot::Failback);
        self.look_before(false);
        self.stage(Stage::Failback);
    }

    fn watch(&mut self, watched: bool) {
        if let Some(script) = &mut self.script {
            script.watched |= watched;
        }
    }

    /// Nothing more comes of the plot; what was broken mends first.
    fn script_over(&mut self) {
        let done = self.script.as_ref().is_some_and(|s| self.now >= s.quiet_at);
        // A pause cannot be mended.
        if done && self.paused_until.iter().all(|until| *until <= self.now) {
            self.storm_until = self.now;
        }
    }

    /// What the operator has just asked, to be asked again by one whose answer was lost.
    pub(super) fn script_hears(&mut self, command: &Command) {
        if let Some(script) = &mut self.script {
            script.said = Some(command.clone());
        }
    }

    /// A step of a failover was recorded.
    pub(super) fn script_sees(&mut self, step: &'static str, ended: bool) {
        let Some(script) = &self.script else { return };
        if !script.watched || script.struck {
            return;
        }
        let Case { plot, moment, .. } = script.case;
        let wanted = script.case.step;
        if matches!(plot, Plot::Cancel | Plot::CancelForced) {
            return self.cancel_at(wanted, step, ended, moment);
        }
        let begins = (step == wanted && !ended) || (ended && follows(plot, step) == Some(wanted));
        let late = match moment {
            Moment::Beginning if begins => 2 * self.link.delay_ms * i64::from(ended),
            Moment::Middle if begins => {
                let long = if wanted == "lease" { 2500 } else { 12 };
                long + 2 * self.link.delay_ms * i64::from(ended)
            }
            Moment::End if step == wanted && ended => 0,
            _ => return,
        };
        self.strike_of_script(late);
    }

    fn cancel_at(&mut self, wanted: &str, step: &str, ended: bool, moment: Moment) {
        let begins = step == wanted && !ended || wanted == "catchup" && step == "fence" && ended;
        let running = self.plane.state.running_operations().next();
        let running = running.map(|operation| operation.id.clone());
        if begins && let Some(operation) = running {
            self.cancel(operation);
            if moment == Moment::Beginning {
                self.strike_of_script(1);
            }
        }
        let back = match moment {
            Moment::Beginning => false,
            Moment::Middle => step == "rollback" && !ended,
            Moment::End => step == "rollback" && ended,
        };
        if back {
            self.strike_of_script(0);
        }
    }

    /// Something of a return is on its way: its beginning, its middle is when it arrives, its end when that was worked on.
    pub(super) fn script_sees_sent(&mut self, wire: &Wire) {
        let Wire::Engine(message) = wire else { return };
        let step = match message {
            Message::Diverged { .. } => "diverged",
            Message::CrcAsked { .. } => "search",
            Message::Crc { .. } => "found",
            Message::DifferenceAsked { .. } => "difference",
            Message::Difference { .. } => "values",
            Message::Follow { epoch, .. } if epoch.0 == 1 => "follows",
            _ => return,
        };
        self.script_sees_return(step);
    }

    pub(super) fn script_sees_return(&mut self, step: &str) {
        let Some(script) = &self.script else { return };
        let Case { plot, moment, .. } = script.case;
        if !script.watched || script.struck || plot != Plot::Return || script.case.step != step {
            return;
        }
        let delay = self.link.delay_ms + self.link.jitter_ms;
        self.strike_of_script(match moment {
            Moment::Beginning => 0,
            Moment::Middle => delay,
            Moment::End => delay + 5,
        });
    }

    fn strike_of_script(&mut self, late: i64) {
        let Some(script) = &mut self.script else {
            return;
        };
        script.struck = true;
        self.after(late, Happening::ScriptStrikes);
    }

    pub(super) fn script_strikes(&mut self) {
        let Some(script) = &self.script else { return };
        let Case {
            plot, who, what, ..
        } = script.case;
        let leader = self.voters.leader.unwrap_or(WITNESS);
        if matches!(plot, Plot::Resume | Plot::ResumeForced) && !self.resumed {
            // First the coordinator; then, when another goes on, the rest.
            self.resumed = true;
            let driver = (0..2).find(|node| self.drives(*node)).unwrap_or(leader);
            self.script_breaks(driver, What::Crash);
            self.after(DOWN_MS + 400, Happening::ScriptStrikes);
            return;
        }
        match who {
            Who::A => self.script_breaks(A, what),
            Who::B => self.script_breaks(B, what),
            Who::Witness => self.script_breaks(WITNESS, what),
            Who::Leader => self.script_breaks(leader, what),
            Who::Operator => self.operator_breaks(what),
        }
    }

    fn script_breaks(&mut self, node: Node, what: What) {
        let (trouble, ms) = match what {
            What::Crash => (
                Trouble::Crash {
                    region: node,
                    down_ms: DOWN_MS,
                },
                DOWN_MS,
            ),
            What::ShortPause => (Trouble::Pause { node, ms: SHORT_MS }, SHORT_MS),
            What::LongPause => (Trouble::Pause { node, ms: LONG_MS }, LONG_MS),
            What::Cut => (Trouble::Isolate { node, ms: CUT_MS }, CUT_MS),
        };
        self.strike(trouble);
        if let Some(script) = &mut self.script {
            script.quiet_at = script.quiet_at.max(self.now + ms);
        }
    }

    /// A command line that dies says the same again, one that sleeps says it late, one that is cut says it to both regions.
    fn operator_breaks(&mut self, what: What) {
        let Some(command) = self.script.as_ref().and_then(|script| script.said.clone()) else {
            return;
        };
        let nodes: &[Node] = if what == What::Cut { &[A, B] } else { &[B] };
        for node in nodes {
            if let Some(life) = self.life(*node) {
                let from = Submitter::Nobody { node: *node, life };
                self.submit(from, command.clone());
            }
        }
        let late = match what {
            What::ShortPause => SHORT_MS,
            What::LongPause => LONG_MS,
            What::Crash | What::Cut => 0,
        };
        if let Some(script) = &mut self.script {
            script.quiet_at = script.quiet_at.max(self.now + late);
        }
    }

    /// What became of the case: it struck, or its moment never came.
    pub(super) fn script_struck(&self) -> Option<bool> {
        self.script.as_ref().map(|script| script.struck)
    }
}

/// The step that begins where this one ended, without a record of its own.
fn follows(plot: Plot, step: &str) -> Option<&'static str> {
    let forced = matches!(plot, Plot::Forced(_) | Plot::ResumeForced);
    Some(match step {
        "fence" => "catchup",
        "catchup" | "lease" => "commit",
        "commit" => "open",
        "open" if !forced => "reverse",
        _ => return None,
    })
}
