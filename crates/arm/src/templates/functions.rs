//! The functions of template expressions.

use super::expression::{Evaluation, Expression, field};
use crate::failure::shown;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde_json::{Map, Value, json};

type Given = Result<Value, String>;

/// Calls a function by name, in any case.
pub(super) fn call(
    evaluation: &Evaluation<'_>,
    name: &str,
    arguments: &[Expression],
    depth: usize,
) -> Given {
    let key = name.to_ascii_lowercase();
    // Only the branch that is taken is evaluated.
    if key == "if" {
        let [condition, yes, no] = arguments else {
            return Err("'if' takes a condition and two values".into());
        };
        let taken = match evaluation.tree(condition, depth)? {
            Value::Bool(true) => yes,
            Value::Bool(false) => no,
            _ => return Err("the condition of 'if' is not true or false".into()),
        };
        return evaluation.tree(taken, depth);
    }
    let arguments = arguments
        .iter()
        .map(|argument| evaluation.tree(argument, depth))
        .collect::<Result<Vec<_>, _>>()?;
    let given = about(evaluation, &key, &arguments, depth)
        .or_else(|| texts(&key, &arguments))
        .or_else(|| collections(&key, &arguments))
        .or_else(|| logic(&key, &arguments));
    match given {
        Some(given) => given.map_err(|why| format!("'{name}': {why}")),
        None => Err(format!("the function '{}' is not known here", shown(name))),
    }
}

fn text(arguments: &[Value], at: usize) -> Result<&str, String> {
    arguments
        .get(at)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("argument {} must be a text", at + 1))
}

fn number(arguments: &[Value], at: usize) -> Result<i64, String> {
    arguments
        .get(at)
        .and_then(Value::as_i64)
        .ok_or_else(|| format!("argument {} must be a whole number", at + 1))
}

fn one(arguments: &[Value]) -> Result<&Value, String> {
    match arguments {
        [one] => Ok(one),
        _ => Err("one argument is expected".into()),
    }
}

/// What stands around the template.
fn about(
    evaluation: &Evaluation<'_>,
    name: &str,
    arguments: &[Value],
    depth: usize,
) -> Option<Given> {
    let scope = evaluation.scope;
    Some(match name {
        "parameters" => text(arguments, 0).and_then(|name| {
            let found = scope.parameters.get(&name.to_lowercase());
            let missing = || format!("the parameter '{}' is not defined", shown(name));
            found.cloned().ok_or_else(missing)
        }),
        "variables" => text(arguments, 0).and_then(|name| {
            let missing = || format!("the variable '{}' is not defined", shown(name));
            let found = field(scope.variables, name).ok_or_else(missing)?;
            evaluation.value(found, depth + 1)
        }),
        "resourcegroup" => Ok(scope.group.clone()),
        "subscription" => Ok(scope.subscription.clone()),
        "tenant" => Ok(json!({ "tenantId": scope.tenant })),
        "deployment" => Ok(json!({ "name": scope.deployment })),
        "resourceid" => resource_id(evaluation, arguments),
        "uniquestring" => unique(arguments),
        "reference" => reference(evaluation, arguments),
        "listkeys" | "listsecrets" | "listaccountsas" | "list" => Err(
            "keys are secrets and are not given out by templates; ask for them with 'az iot hub policy list' or listkeys"
                .into(),
        ),
        "copyindex" => Err("copy loops are not available here".into()),
        "utcnow" | "newguid" => Err("it gives another value each time and is not available here".into()),
        _ => return None,
    })
}

/// `([subscription], [group], type, name, …)`.
fn resource_id(evaluation: &Evaluation<'_>, arguments: &[Value]) -> Given {
    let texts: Vec<&str> = (0..arguments.len())
        .map(|at| text(arguments, at))
        .collect::<Result<_, _>>()?;
    let kind_at = texts
        .iter()
        .position(|text| text.contains('/'))
        .filter(|at| *at <= 2)
        .ok_or("a resource type such as 'Microsoft.Devices/IotHubs' is missing")?;
    let subscription = evaluation.scope.subscription["subscriptionId"]
        .as_str()
        .unwrap_or_default();
    let group = evaluation.scope.group["name"].as_str().unwrap_or_default();
    let (subscription, group) = match texts[..kind_at] {
        [subscription, group] => (subscription, group),
        [group] => (subscription, group),
        _ => (subscription, group),
    };
    let path = super::plan::resource_path(texts[kind_at], &texts[kind_at + 1..])?;
    let group = control::naming::group_path(subscription, group);
    Ok(format!("{group}{path}").into())
}

/// 13 characters of a digest. Not those that the public service makes of the same input.
fn unique(arguments: &[Value]) -> Given {
    let mut context = digest::Context::new(&digest::SHA256);
    for at in 0..arguments.len() {
        context.update(text(arguments, at)?.as_bytes());
        context.update(&[0]);
    }
    let digest = context.finish();
    let letters = b"abcdefghijklmnopqrstuvwxyz234567";
    let taken = digest.as_ref().iter().take(13);
    let made = taken.map(|byte| char::from(letters[usize::from(byte % 32)]));
    Ok(made.collect::<String>().into())
}

fn reference(evaluation: &Evaluation<'_>, arguments: &[Value]) -> Given {
    let wanted = text(arguments, 0)?;
    let Some(resource) = evaluation.scope.resource else {
        return Err("it is only available in outputs".into());
    };
    let body = resource(wanted).ok_or_else(|| {
        format!(
            "'{}' cannot be referred to: only IoT hubs that exist",
            shown(wanted)
        )
    })?;
    match arguments.get(2).and_then(Value::as_str) {
        Some(full) if full.eq_ignore_ascii_case("Full") => Ok(body),
        _ => Ok(body["properties"].clone()),
    }
}

/// A value as text, as `string` and `concat` see it.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn texts(name: &str, arguments: &[Value]) -> Option<Given> {
    let on = |at| text(arguments, at);
    Some(match name {
        "tolower" => on(0).map(|text| text.to_lowercase().into()),
        "toupper" => on(0).map(|text| text.to_uppercase().into()),
        "trim" => on(0).map(|text| text.trim().into()),
        "format" => format_text(arguments),
        "replace" => on(0).and_then(|text| match on(1)? {
            "" => Err("argument 2 is empty".into()),
            old => Ok(text.replace(old, on(2)?).into()),
        }),
        "startswith" => on(0).and_then(|text| Ok(lower(text).starts_with(&lower(on(1)?)).into())),
        "endswith" => on(0).and_then(|text| Ok(lower(text).ends_with(&lower(on(1)?)).into())),
        "split" => on(0).and_then(|text| {
            let by = on(1)?;
            match by.is_empty() {
                true => Err("argument 2 is empty".into()),
                false => Ok(text.split(by).collect::<Vec<_>>().into()),
            }
        }),
        "substring" => on(0).and_then(|text| {
            let chars: Vec<char> = text.chars().collect();
            let from = usize::try_from(number(arguments, 1)?).map_err(|_| "negative".to_owned())?;
            let most = chars.len().saturating_sub(from);
            let many = match arguments.get(2) {
                None => most,
                Some(_) => {
                    usize::try_from(number(arguments, 2)?).map_err(|_| "negative".to_owned())?
                }
            };
            let end = from.checked_add(many).ok_or("out of range")?;
            let cut = chars.get(from..end).ok_or("the text is shorter")?;
            Ok(cut.iter().collect::<String>().into())
        }),
        "base64" => on(0).map(|text| STANDARD.encode(text).into()),
        "string" => one(arguments).map(|value| as_text(value).into()),
        "int" => one(arguments).and_then(|value| match value {
            Value::String(text) => text
                .trim()
                .parse::<i64>()
                .map(Value::from)
                .map_err(|_| format!("'{}' is not a whole number", shown(text))),
            Value::Number(number) => number
                .as_i64()
                .map(Value::from)
                .ok_or_else(|| "it is not a whole number".into()),
            _ => Err("a text or a number is expected".into()),
        }),
        "bool" => one(arguments).and_then(|value| match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true.into()),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false.into()),
            Value::Number(number) => Ok((number.as_i64() != Some(0)).into()),
            _ => Err("'true' or 'false' is expected".into()),
        }),
        _ => return None,
    })
}

fn lower(text: &str) -> String {
    text.to_lowercase()
}

/// `{0}` is the first value; `{{` and `}}` are braces.
fn format_text(arguments: &[Value]) -> Given {
    let mut rest = text(arguments, 0)?;
    let mut out = String::new();
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if after.starts_with(brace) {
            out.push_str(brace);
            rest = &after[1..];
            continue;
        }
        let end = after
            .find('}')
            .filter(|_| brace == "{")
            .ok_or("a brace stands alone")?;
        let index = after[..end].trim();
        let value = index
            .parse::<usize>()
            .ok()
            .and_then(|index| arguments.get(index.checked_add(1)?))
            .ok_or_else(|| format!("there is no value for '{{{}}}'", shown(index)))?;
        out.push_str(&as_text(value));
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out.into())
}

fn collections(name: &str, arguments: &[Value]) -> Option<Given> {
    Some(match name {
        "concat" => concat(arguments),
        "length" => one(arguments).and_then(|value| match value {
            Value::String(text) => Ok(text.chars().count().into()),
            Value::Array(items) => Ok(items.len().into()),
            Value::Object(fields) => Ok(fields.len().into()),
            _ => Err("a text, an array or an object is expected".into()),
        }),
        "empty" => one(arguments).and_then(|value| match value {
            Value::Null => Ok(true.into()),
            Value::String(text) => Ok(text.is_empty().into()),
            Value::Array(items) => Ok(items.is_empty().into()),
            Value::Object(fields) => Ok(fields.is_empty().into()),
            _ => Err("a text, an array or an object is expected".into()),
        }),
        "first" | "last" => one(arguments).and_then(|value| {
            let first = name == "first";
            match value {
                Value::Array(items) => {
                    let found = if first { items.first() } else { items.last() };
                    Ok(found.cloned().unwrap_or(Value::Null))
                }
                Value::String(text) => {
                    let mut chars = text.chars();
                    let found = if first {
                        chars.next()
                    } else {
                        chars.next_back()
                    };
                    Ok(found.map(String::from).unwrap_or_default().into())
                }
                _ => Err("a text or an array is expected".into()),
            }
        }),
        "contains" => contains(arguments),
        "createarray" => Ok(arguments.to_vec().into()),
        "array" => one(arguments).map(|value| match value {
            Value::Array(_) => value.clone(),
            other => Value::Array(vec![other.clone()]),
        }),
        "createobject" => create_object(arguments),
        "union" => union(arguments),
        "join" => match arguments {
            [Value::Array(items), Value::String(by)] => {
                let texts: Vec<String> = items.iter().map(as_text).collect();
                Ok(texts.join(by).into())
            }
            _ => Err("an array and a text are expected".into()),
        },
        _ => return None,
    })
}

fn concat(arguments: &[Value]) -> Given {
    if arguments.iter().any(Value::is_array) {
        let mut all = Vec::new();
        for argument in arguments {
            match argument {
                Value::Array(items) => all.extend(items.iter().cloned()),
                _ => return Err("arrays and texts cannot be joined".into()),
            }
        }
        return Ok(all.into());
    }
    if arguments.iter().any(Value::is_object) {
        return Err("objects cannot be joined; 'union' does that".into());
    }
    Ok(arguments.iter().map(as_text).collect::<String>().into())
}

fn contains(arguments: &[Value]) -> Given {
    match arguments {
        [Value::String(text), part] => Ok(lower(text).contains(&lower(&as_text(part))).into()),
        [Value::Array(items), item] => Ok(items.contains(item).into()),
        [Value::Object(fields), Value::String(name)] => Ok(field(fields, name).is_some().into()),
        _ => Err("a text, an array or an object, and what is looked for, are expected".into()),
    }
}

fn create_object(arguments: &[Value]) -> Given {
    let mut fields = Map::new();
    for pair in arguments.chunks(2) {
        match pair {
            [Value::String(name), value] => drop(fields.insert(name.clone(), value.clone())),
            _ => return Err("names and values are expected in turn".into()),
        }
    }
    Ok(Value::Object(fields))
}

/// Objects are merged, at every depth; of arrays each item once.
fn union(arguments: &[Value]) -> Given {
    let mut all = arguments.iter();
    let mut sum = all.next().ok_or("an argument is missing")?.clone();
    for next in all {
        merge(&mut sum, next)?;
    }
    Ok(sum)
}

fn merge(into: &mut Value, from: &Value) -> Result<(), String> {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                match into.get_mut(name) {
                    Some(known) if known.is_object() && value.is_object() => merge(known, value)?,
                    _ => drop(into.insert(name.clone(), value.clone())),
                }
            }
            Ok(())
        }
        (Value::Array(into), Value::Array(from)) => {
            for item in from {
                if !into.contains(item) {
                    into.push(item.clone());
                }
            }
            Ok(())
        }
        _ => Err("only objects, or only arrays, are expected".into()),
    }
}

fn logic(name: &str, arguments: &[Value]) -> Option<Given> {
    let flags = || -> Result<Vec<bool>, String> {
        let flag = |value: &Value| {
            value
                .as_bool()
                .ok_or_else(|| "true or false is expected".to_owned())
        };
        arguments.iter().map(flag).collect()
    };
    let pair =
        || -> Result<(i64, i64), String> { Ok((number(arguments, 0)?, number(arguments, 1)?)) };
    let whole = |result: Option<i64>| -> Given {
        result
            .map(Value::from)
            .ok_or_else(|| "the result is out of range".into())
    };
    Some(match name {
        "true" => Ok(true.into()),
        "false" => Ok(false.into()),
        "null" => Ok(Value::Null),
        "equals" => match arguments {
            [a, b] => Ok((a == b).into()),
            _ => Err("two arguments are expected".into()),
        },
        "not" => flags().and_then(|flags| match flags[..] {
            [flag] => Ok((!flag).into()),
            _ => Err("one argument is expected".into()),
        }),
        "and" => flags().map(|flags| flags.into_iter().all(|flag| flag).into()),
        "or" => flags().map(|flags| flags.into_iter().any(|flag| flag).into()),
        "coalesce" => {
            let found = arguments.iter().find(|value| !value.is_null());
            Ok(found.cloned().unwrap_or(Value::Null))
        }
        "less" => pair().map(|(a, b)| (a < b).into()),
        "lessorequals" => pair().map(|(a, b)| (a <= b).into()),
        "greater" => pair().map(|(a, b)| (a > b).into()),
        "greaterorequals" => pair().map(|(a, b)| (a >= b).into()),
        "add" => pair().and_then(|(a, b)| whole(a.checked_add(b))),
        "sub" => pair().and_then(|(a, b)| whole(a.checked_sub(b))),
        "mul" => pair().and_then(|(a, b)| whole(a.checked_mul(b))),
        "div" => pair().and_then(|(a, b)| whole(a.checked_div(b))),
        "mod" => pair().and_then(|(a, b)| whole(a.checked_rem(b))),
        _ => return None,
    })
}
