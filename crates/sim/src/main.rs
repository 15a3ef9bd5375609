//! Runs seeds of the simulation, or everything that is enumerated, and judges them. A failing run prints, last and alone, the
//! command that repeats it.

use clap::Parser;
use sim::cases::{self, Case, Plot, WHO};
use sim::history::Entry;
use sim::{Fault, Plan, Run, Violation};
use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(
    name = "castling-sim",
    about = "Seeded simulation of failovers and disasters, with checkers"
)]
struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Run this seed alone
    #[arg(long, conflicts_with_all = ["seeds", "start", "enumerate"])]
    seed: Option<u64>,
    /// Crash, pause and cut every participant at every step, after the seeds
    #[arg(long)]
    enumerate: bool,
    /// Run this one of what is enumerated alone
    #[arg(long, conflicts_with_all = ["seeds", "start", "seed", "enumerate"])]
    case: Option<usize>,
    /// Break the world so, to see that a checker finds it
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// Let secondaries take copies all the time
    #[arg(long)]
    copies: bool,
    /// Print what happens
    #[arg(long)]
    trace: bool,
    /// Go on after a failing run
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut failed = Vec::new();
    if arguments.case.is_none() {
        failed.extend(seeds(&arguments));
    }
    let go_on = failed.is_empty() || arguments.keep_going;
    if go_on && (arguments.enumerate || arguments.case.is_some()) {
        failed.extend(enumerated(&arguments));
    }
    match failed.first() {
        None => ExitCode::SUCCESS,
        Some(first) => {
            if failed.len() > 1 {
                println!("{} runs failed: {}", failed.len(), failed.join(", "));
            }
            println!("cargo xtask sim {first}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the seeds; gives the arguments that repeat the failing ones.
fn seeds(arguments: &Arguments) -> Vec<String> {
    let (start, count) = arguments
        .seed
        .map_or((arguments.start, arguments.seeds), |seed| (seed, 1));
    let began = Instant::now();
    let mut failed = Vec::new();
    let mut sums = Sums::default();
    for seed in start..start.saturating_add(count) {
        let run = sim::run(Plan {
            seed,
            fault: arguments.fault,
            trace: arguments.trace,
            copies: arguments.copies,
            ..Plan::default()
        });
        sums.add(&run);
        let alone = arguments.seed.is_some();
        if !judged(&format!("seed {seed}"), &run, alone) {
            failed.push(format!("--seed {seed}"));
            if !arguments.keep_going {
                break;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{sums}, in {seconds:.1} s ({:.1} seeds/s)",
        sums.seeds as f64 / seconds
    );
    failed
}

/// Prints what there is to say of a run; true if nothing was broken.
fn judged(name: &str, run: &Run, alone: bool) -> bool {
    for line in &run.lines {
        println!("{line}");
    }
    let violations: Vec<Violation> = sim::check(&run.history);
    if alone {
        println!("trace {:016x}, {} happenings", run.trace_hash, run.happened);
    }
    if violations.is_empty() {
        return true;
    }
    println!("{name}: {} violations", violations.len());
    for violation in violations.iter().take(20) {
        println!("  {violation}");
    }
    false
}

fn enumerated(arguments: &Arguments) -> Vec<String> {
    let all = cases::all();
    let (from, count) = arguments.case.map_or((0, all.len()), |case| (case, 1));
    let began = Instant::now();
    let mut table = Table::default();
    let mut failed = Vec::new();
    for (number, case) in all.iter().enumerate().skip(from).take(count) {
        let run = sim::run(Plan {
            seed: number as u64,
            fault: arguments.fault,
            trace: arguments.trace,
            case: Some(*case),
            ..Plan::default()
        });
        let passed = judged(
            &format!("case {number}, {case}"),
            &run,
            arguments.case.is_some(),
        );
        table.add(case, &run, passed);
        if !passed {
            failed.push(format!("--case {number}"));
            if !arguments.keep_going {
                break;
            }
        }
    }
    println!("{table}in {:.1} s", began.elapsed().as_secs_f64());
    failed
}

/// Counts of what was enumerated: plots by participants.
#[derive(Default)]
struct Table {
    counts: BTreeMap<Plot, [u32; WHO.len()]>,
    passed: BTreeMap<Plot, u32>,
    unreached: BTreeMap<Plot, u32>,
    ended: BTreeMap<Plot, [u32; 3]>,
}

impl Table {
    fn add(&mut self, case: &Case, run: &Run, passed: bool) {
        let column = WHO.iter().position(|who| *who == case.who);
        let row = self.counts.entry(case.plot).or_default();
        if let Some(count) = column.and_then(|column| row.get_mut(column)) {
            *count += 1;
        }
        *self.passed.entry(case.plot).or_default() += u32::from(passed);
        *self.unreached.entry(case.plot).or_default() += u32::from(run.struck == Some(false));
        let ended = self.ended.entry(case.plot).or_default();
        for (_, entry) in &run.history.entries {
            match entry {
                Entry::Ended { operation, .. } if operation == "create" => {}
                Entry::Ended {
                    status: "succeeded",
                    ..
                } => ended[0] += 1,
                Entry::Ended { .. } => ended[1] += 1,
                Entry::Returned { .. } => ended[2] += 1,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>5} {:>5} {:>8} {:>7} {:>9} {:>6} {:>7} {:>10} {:>5} {:>7} {:>8}",
            "enumerated",
            "A",
            "B",
            "witness",
            "leader",
            "operator",
            "runs",
            "passed",
            "unreached",
            "done",
            "undone",
            "returns"
        )?;
        let mut sum = [0; 3];
        for (plot, counts) in &self.counts {
            let runs: u32 = counts.iter().sum();
            let of = |map: &BTreeMap<Plot, u32>| map.get(plot).copied().unwrap_or_default();
            let [a, b, witness, leader, operator] = counts;
            let [done, undone, returns] = self.ended.get(plot).copied().unwrap_or_default();
            let (passed, unreached) = (of(&self.passed), of(&self.unreached));
            writeln!(
                f,
                "{plot:<24} {a:>5} {b:>5} {witness:>8} {leader:>7} {operator:>9} {runs:>6} {passed:>7} {unreached:>10} {done:>5} {undone:>7} {returns:>8}"
            )?;
            sum = [sum[0] + runs, sum[1] + passed, sum[2] + unreached];
        }
        let [runs, passed, unreached] = sum;
        write!(
            f,
            "{runs} cases, {passed} passed, {unreached} whose moment never came, "
        )
    }
}

#[derive(Default)]
struct Sums {
    seeds: u64,
    questions: usize,
    succeeded: usize,
    undone: usize,
    forced: usize,
    returned: usize,
    happened: u64,
}

impl Sums {
    fn add(&mut self, run: &Run) {
        self.seeds += 1;
        self.happened += run.happened;
        for (_, entry) in &run.history.entries {
            match entry {
                Entry::Invoked { .. } => self.questions += 1,
                Entry::Diverged { .. } => self.forced += 1,
                Entry::Returned { .. } => self.returned += 1,
                Entry::Ended {
                    status: "succeeded",
                    operation,
                } if operation != "create" => self.succeeded += 1,
                Entry::Ended { operation, .. } if operation != "create" => self.undone += 1,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums {
            seeds,
            questions,
            succeeded,
            undone,
            forced,
            returned,
            happened,
        } = self;
        write!(
            f,
            "{seeds} seeds: {succeeded} failovers done, {forced} of them forced with {returned} returns, {undone} rolled back or cancelled, {questions} questions, {happened} happenings"
        )
    }
}
