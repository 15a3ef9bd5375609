//! Conditions of message routes: `temperature > 30 AND $body.kind = 'alarm'` (data-plane notes section 11).
//!
//! A bare name is an application property, `$name` a system property, `$body.path` a value of a JSON body. What is not there,
//! or of another type, is undefined, and a condition that is undefined is not met. `$twin` is always undefined: conditions
//! are looked at where no twin is read.

mod eval;
mod parse;

pub use parse::MAX_DEPTH;

use serde_json::Value;
use std::fmt;

/// A condition that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    tree: Tree,
}

/// Why a condition is not understood, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError {
    pub message: String,
    /// From 0, in bytes.
    pub start: usize,
    pub end: usize,
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at position {}: {}", self.start + 1, self.message)
    }
}

impl std::error::Error for ConditionError {}

/// A message as conditions see it. Names compare without case.
pub trait Message {
    fn application(&self, name: &str) -> Option<&str>;
    /// By its name without `$`, as in `contentType`.
    fn system(&self, name: &str) -> Option<&str>;
    /// The body, if it is JSON and says so.
    fn body(&self) -> Option<&Value>;
}

#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Literal(Value),
    Undefined,
    List(Vec<Tree>),
    Application(String),
    System(String),
    Body(Vec<Step>),
    Twin,
    Not(Box<Tree>),
    Negative(Box<Tree>),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
    Compare(Operator, Box<Tree>, Box<Tree>),
    In(Box<Tree>, Box<Tree>, bool),
    Arithmetic(char, Box<Tree>, Box<Tree>),
    Call(Function, Vec<Tree>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Name, number of arguments at least and at most.
type Signature = (&'static str, usize, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function(&'static str);

const FUNCTIONS: [Signature; 27] = [
    ("abs", 1, 1),
    ("exp", 1, 1),
    ("power", 2, 2),
    ("square", 1, 1),
    ("ceiling", 1, 1),
    ("floor", 1, 1),
    ("sign", 1, 1),
    ("sqrt", 1, 1),
    ("as_number", 1, 1),
    ("is_array", 1, 1),
    ("is_bool", 1, 1),
    ("is_defined", 1, 1),
    ("is_null", 1, 1),
    ("is_number", 1, 1),
    ("is_object", 1, 1),
    ("is_primitive", 1, 1),
    ("is_string", 1, 1),
    ("concat", 2, 32),
    ("length", 1, 1),
    ("lower", 1, 1),
    ("upper", 1, 1),
    ("substring", 2, 3),
    ("index_of", 2, 2),
    ("starts_with", 2, 2),
    ("ends_with", 2, 2),
    ("contains", 2, 2),
    ("undefined", 0, 0),
];

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// Where it is not understood.
    pub fn parse(text: &str) -> Result<Condition, ConditionError> {
        parse::parse(text).map(|tree| Condition { tree })
    }

    /// Whether it is met; `None`: it is undefined for this message.
    pub fn holds(&self, message: &dyn Message) -> Option<bool> {
        eval::eval(&self.tree, message).and_then(|value| value.as_bool())
    }

    /// `true`, which every message meets.
    pub fn is_always(&self) -> bool {
        self.tree == Tree::Literal(Value::Bool(true))
    }

    /// Whether it looks into bodies.
    pub fn reads_body(&self) -> bool {
        any(&self.tree, &|tree| matches!(tree, Tree::Body(_)))
    }

    /// Whether it looks into twins, which are never there.
    pub fn reads_twin(&self) -> bool {
        any(&self.tree, &|tree| matches!(tree, Tree::Twin))
    }
}

fn any(tree: &Tree, wanted: &dyn Fn(&Tree) -> bool) -> bool {
    let here = wanted(tree);
    here || match tree {
        Tree::Not(of) | Tree::Negative(of) => any(of, wanted),
        Tree::And(a, b)
        | Tree::Or(a, b)
        | Tree::Compare(_, a, b)
        | Tree::In(a, b, _)
        | Tree::Arithmetic(_, a, b) => any(a, wanted) || any(b, wanted),
        Tree::Call(_, of) | Tree::List(of) => of.iter().any(|one| any(one, wanted)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
