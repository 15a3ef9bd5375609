//! Tree and message to a value; `None` is undefined.

use super::{Function, Message, Operator, Step, Tree};
use serde_json::Value;
use std::cmp::Ordering;

/// Bytes of a text that functions make.
const TEXT_BYTES_MAX: usize = 256 * 1024;

pub(super) fn eval(tree: &Tree, message: &dyn Message) -> Option<Value> {
    match tree {
        Tree::Literal(value) => Some(value.clone()),
        Tree::Undefined | Tree::Twin => None,
        Tree::List(items) => items.iter().map(|item| eval(item, message)).collect(),
        Tree::Application(name) => message.application(name).map(Value::from),
        Tree::System(name) => message.system(name).map(Value::from),
        Tree::Body(path) => step(message.body()?, path).cloned(),
        Tree::Not(of) => Some((!eval(of, message)?.as_bool()?).into()),
        Tree::Negative(of) => number(-eval(of, message)?.as_f64()?),
        // As in SQL: what is known decides, undefined or not.
        Tree::And(a, b) => logic(flag(a, message), flag(b, message), false),
        Tree::Or(a, b) => logic(flag(a, message), flag(b, message), true),
        Tree::Compare(operator, a, b) => {
            compare(*operator, eval(a, message)?, eval(b, message)?).map(Value::from)
        }
        Tree::In(a, list, within) => {
            let (a, list) = (eval(a, message)?, eval(list, message)?);
            let found = list
                .as_array()?
                .iter()
                .any(|item| compare(Operator::Equal, a.clone(), item.clone()) == Some(true));
            Some((found == *within).into())
        }
        Tree::Arithmetic(operator, a, b) => {
            let (a, b) = (eval(a, message)?.as_f64()?, eval(b, message)?.as_f64()?);
            number(match operator {
                '+' => a + b,
                '-' => a - b,
                '*' => a * b,
                '/' => a / b,
                _ => a % b,
            })
        }
        Tree::Call(function, arguments) => call(*function, arguments, message),
    }
}

fn flag(tree: &Tree, message: &dyn Message) -> Option<bool> {
    eval(tree, message)?.as_bool()
}

fn logic(a: Option<bool>, b: Option<bool>, decides: bool) -> Option<Value> {
    if a == Some(decides) || b == Some(decides) {
        return Some(decides.into());
    }
    (a.is_some() && b.is_some()).then(|| (!decides).into())
}

/// Division by zero and the like give nothing.
fn number(value: f64) -> Option<Value> {
    serde_json::Number::from_f64(value).map(Value::Number)
}

fn step<'a>(body: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(body, |value, step| match step {
        Step::Field(name) => value.as_object()?.get(name),
        Step::Index(at) => value.as_array()?.get(*at),
    })
}

/// Only values of one type compare. Properties are texts: one that reads as a number compares with numbers.
fn compare(operator: Operator, a: Value, b: Value) -> Option<bool> {
    let order = match (&a, &b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?)?,
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::Number(b)) => text_number(a)?.partial_cmp(&b.as_f64()?)?,
        (Value::Number(a), Value::String(b)) => a.as_f64()?.partial_cmp(&text_number(b)?)?,
        (Value::Null, Value::Null) => Ordering::Equal,
        _ => return None,
    };
    Some(match operator {
        Operator::Equal => order.is_eq(),
        Operator::Unequal => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    })
}

fn text_number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

fn call(function: Function, arguments: &[Tree], message: &dyn Message) -> Option<Value> {
    let given: Vec<Option<Value>> = arguments.iter().map(|one| eval(one, message)).collect();
    let first = given.first().cloned().flatten();
    // Asked of what may not be there.
    let tested = match function.0 {
        "is_defined" => Some(first.is_some()),
        "is_array" => Some(first.as_ref().is_some_and(Value::is_array)),
        "is_bool" => Some(first.as_ref().is_some_and(Value::is_boolean)),
        "is_null" => Some(first.as_ref().is_some_and(Value::is_null)),
        "is_number" => Some(first.as_ref().is_some_and(Value::is_number)),
        "is_object" => Some(first.as_ref().is_some_and(Value::is_object)),
        "is_string" => Some(first.as_ref().is_some_and(Value::is_string)),
        "is_primitive" => Some(
            first
                .as_ref()
                .is_some_and(|v| !v.is_array() && !v.is_object()),
        ),
        _ => None,
    };
    if let Some(tested) = tested {
        return Some(tested.into());
    }
    let given: Vec<Value> = given.into_iter().collect::<Option<_>>()?;
    let real = |at: usize| {
        given
            .get(at)
            .and_then(|value| value.as_f64().or_else(|| text_number(value.as_str()?)))
    };
    let text = |at: usize| given.get(at).and_then(Value::as_str);
    match function.0 {
        "abs" => number(real(0)?.abs()),
        "exp" => number(real(0)?.exp()),
        "power" => number(real(0)?.powf(real(1)?)),
        "square" => number(real(0)?.powi(2)),
        "ceiling" => number(real(0)?.ceil()),
        "floor" => number(real(0)?.floor()),
        "sqrt" => number(real(0)?.sqrt()),
        "sign" => number(match real(0)? {
            0.0 => 0.0,
            number => number.signum(),
        }),
        "as_number" => number(real(0)?),
        "concat" => {
            let parts: Option<Vec<&str>> = given.iter().map(Value::as_str).collect();
            let parts = parts?;
            let size: usize = parts.iter().map(|part| part.len()).sum();
            (size <= TEXT_BYTES_MAX).then(|| parts.concat().into())
        }
        "length" => Some(text(0)?.chars().count().into()),
        "lower" => Some(text(0)?.to_lowercase().into()),
        "upper" => Some(text(0)?.to_uppercase().into()),
        "substring" => substring(text(0)?, real(1)?, given.get(2).map(|_| real(2))),
        "index_of" => {
            let (text, part) = (text(0)?, text(1)?);
            Some(match text.find(part) {
                Some(at) => text[..at].chars().count().into(),
                None => (-1).into(),
            })
        }
        "starts_with" => Some(text(0)?.starts_with(text(1)?).into()),
        "ends_with" => Some(text(0)?.ends_with(text(1)?).into()),
        "contains" => Some(text(0)?.contains(text(1)?).into()),
        _ => None,
    }
}

fn substring(text: &str, from: f64, many: Option<Option<f64>>) -> Option<Value> {
    let count = |number: f64| (0.0..1e9).contains(&number).then_some(number as usize);
    let rest = text.chars().skip(count(from)?);
    Some(
        match many {
            None => rest.collect::<String>(),
            Some(many) => rest.take(count(many?)?).collect(),
        }
        .into(),
    )
}
