//! Runs seeds of the simulation and judges them. A failing seed prints, last and alone, the command that repeats it.

use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(
    name = "castling-sim",
    about = "Seeded simulation of planned failovers, with checkers"
)]
struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Run this seed alone
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// Print what happens
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Go on after a failing seed
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (start, count) = arguments
        .seed
        .map_or((arguments.start, arguments.seeds), |seed| (seed, 1));
    let began = Instant::now();
    let mut failed = Vec::new();
    let mut sums = Sums::default();
    for seed in start..start.saturating_add(count) {
        let run = sim::simulate(seed, None, arguments.trace);
        for line in &run.lines {
            println!("{line}");
        }
        sums.add(&run);
        let violations = sim::check(&run.history);
        if arguments.seed.is_some() {
            println!("trace {:016x}, {} happenings", run.trace_hash, run.happened);
        }
        if !violations.is_empty() {
            println!("seed {seed}: {} violations", violations.len());
            for violation in violations.iter().take(20) {
                println!("  {violation}");
            }
            failed.push(seed);
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
    match failed.first() {
        None => ExitCode::SUCCESS,
        Some(first) => {
            if failed.len() > 1 {
                println!("{} seeds failed: {failed:?}", failed.len());
            }
            println!("cargo xtask sim --seed {first}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Sums {
    seeds: u64,
    questions: usize,
    succeeded: usize,
    undone: usize,
    happened: u64,
}

impl Sums {
    fn add(&mut self, run: &sim::Run) {
        use sim::history::Entry;
        self.seeds += 1;
        self.happened += run.happened;
        for (_, entry) in &run.history.entries {
            match entry {
                Entry::Invoked { .. } => self.questions += 1,
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

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sums {
            seeds,
            questions,
            succeeded,
            undone,
            happened,
        } = self;
        write!(
            f,
            "{seeds} seeds: {succeeded} failovers done, {undone} rolled back or cancelled, {questions} questions, {happened} happenings"
        )
    }
}
