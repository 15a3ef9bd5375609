//! A seeded world for the pure crates: the engines of two regions, the control plane and its coordinator, clients, and everything
//! that goes wrong between them; and checkers of what must never happen (DESIGN section 8).
//!
//! One seed, one run: no thread, no clock, no socket. [`simulate`] runs a seed, [`checkers::check`] judges its history.

pub mod cases;
pub mod checkers;
pub mod fault;
pub mod history;
mod rng;
mod world;

pub use checkers::{Violation, check};
pub use fault::Fault;
pub use history::History;
pub use world::{Plan, Run};

/// Runs one seed to its end.
pub fn simulate(seed: u64, fault: Option<Fault>, trace: bool) -> Run {
    let plan = Plan {
        seed,
        fault,
        trace,
        ..Plan::default()
    };
    run(plan)
}

/// Runs what a plan says to its end.
pub fn run(plan: Plan) -> Run {
    world::World::new(plan).run()
}
