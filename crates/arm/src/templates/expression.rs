//! Template expressions, `"[concat('a', parameters('b'))]"`: read into a tree and evaluated. Pure.

use super::functions;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::collections::BTreeMap;
use types::limits;

/// Gives a resource's body by its path.
pub type Resources<'a> = dyn Fn(&str) -> Option<Value> + Sync + 'a;

/// What expressions can refer to.
pub struct Scope<'a> {
    /// By lower-case name.
    pub parameters: &'a BTreeMap<String, Value>,
    /// As written: evaluated where they are used.
    pub variables: &'a Map<String, Value>,
    pub subscription: &'a Value,
    pub tenant: &'a str,
    pub group: &'a Value,
    pub deployment: &'a str,
    /// A resource's body by its path; `None`: references are not allowed here.
    pub resource: Option<&'a Resources<'a>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Literal(Value),
    Call(String, Vec<Expression>),
    Index(Box<Expression>, Box<Expression>),
}

/// Evaluates every expression in a value.
///
/// # Errors
/// What is wrong, with the expression.
pub fn evaluate(value: &Value, scope: &Scope<'_>) -> Result<Value, String> {
    Evaluation {
        scope,
        budget: &BUDGET,
        steps: Cell::new(0),
    }
    .value(value, 0)
}

struct Budget {
    depth: usize,
    bytes: usize,
}

const BUDGET: Budget = Budget {
    depth: limits::TEMPLATE_DEPTH_MAX,
    bytes: limits::TEMPLATE_TEXT_BYTES_MAX,
};

pub(super) struct Evaluation<'a> {
    pub scope: &'a Scope<'a>,
    budget: &'static Budget,
    /// Steps taken so far: variables are evaluated wherever they are used, and may use others many times.
    steps: Cell<usize>,
}

impl Evaluation<'_> {
    fn step(&self) -> Result<(), String> {
        self.steps.set(self.steps.get() + 1);
        match self.steps.get() > limits::TEMPLATE_STEPS_MAX {
            true => Err("its values and variables take too many steps".into()),
            false => Ok(()),
        }
    }

    pub fn value(&self, value: &Value, depth: usize) -> Result<Value, String> {
        self.step()?;
        if depth > self.budget.depth {
            return Err("values or variables are nested too deeply, or refer to themselves".into());
        }
        Ok(match value {
            Value::String(text) => self.text(text, depth)?,
            Value::Array(items) => items
                .iter()
                .map(|item| self.value(item, depth + 1))
                .collect::<Result<_, _>>()?,
            Value::Object(fields) => {
                let mut out = Map::new();
                for (name, value) in fields {
                    let name = match self.text(name, depth)? {
                        Value::String(name) => name,
                        _ => return Err(format!("the name '{name}' does not give a text")),
                    };
                    out.insert(name, self.value(value, depth + 1)?);
                }
                Value::Object(out)
            }
            other => other.clone(),
        })
    }

    fn text(&self, text: &str, depth: usize) -> Result<Value, String> {
        let Some(inner) = text.strip_prefix('[') else {
            return Ok(text.into());
        };
        if inner.starts_with('[') {
            return Ok(inner.into());
        }
        let Some(inner) = inner.strip_suffix(']') else {
            return Ok(text.into());
        };
        let said = |why: String| format!("the expression '{}': {why}", crate::failure::shown(text));
        let tree = parse(inner).map_err(said)?;
        self.tree(&tree, depth + 1).map_err(said)
    }

    pub fn tree(&self, tree: &Expression, depth: usize) -> Result<Value, String> {
        self.step()?;
        if depth > self.budget.depth {
            return Err("it is nested too deeply, or refers to itself".into());
        }
        match tree {
            Expression::Literal(value) => Ok(value.clone()),
            Expression::Index(of, index) => {
                let of = self.tree(of, depth + 1)?;
                pick(&of, &self.tree(index, depth + 1)?)
            }
            Expression::Call(name, arguments) => {
                let value = functions::call(self, name, arguments, depth + 1)?;
                match size(&value) > self.budget.bytes {
                    true => Err(format!(
                        "'{name}' gives more than {} bytes",
                        self.budget.bytes
                    )),
                    false => Ok(value),
                }
            }
        }
    }
}

/// Bytes of a value, roughly.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 2,
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len() + size(value))
            .sum(),
        _ => 8,
    }
}

fn pick(of: &Value, index: &Value) -> Result<Value, String> {
    let found = match (of, index) {
        (Value::Array(items), Value::Number(at)) => at
            .as_u64()
            .and_then(|at| items.get(usize::try_from(at).ok()?)),
        (Value::Object(fields), Value::String(name)) => field(fields, name),
        _ => None,
    };
    found
        .cloned()
        .ok_or_else(|| format!("there is no {index} in what stands before it"))
}

/// A field, its name in any case.
pub(super) fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).or_else(|| {
        let found = fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    })
}

/// Reads an expression, without its brackets.
///
/// # Errors
/// Where it cannot be understood.
pub(super) fn parse(text: &str) -> Result<Expression, String> {
    let mut reader = Reader { text, at: 0 };
    let tree = reader.expression(0)?;
    match reader.peek() {
        None => Ok(tree),
        Some(c) => Err(format!(
            "'{c}' at position {} is not expected",
            reader.at + 1
        )),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// The next character that is no blank.
    fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn need(&mut self, wanted: char) -> Result<(), String> {
        match self.take(wanted) {
            true => Ok(()),
            false => Err(format!(
                "'{wanted}' is expected at position {}",
                self.at + 1
            )),
        }
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > limits::TEMPLATE_DEPTH_MAX {
            return Err("it is nested too deeply".into());
        }
        let mut tree = match self.peek() {
            Some('\'') => Expression::Literal(self.string()?.into()),
            Some(c) if c.is_ascii_digit() || c == '-' => Expression::Literal(self.number()?),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.call(depth)?,
            Some(c) => return Err(format!("'{c}' at position {} is not expected", self.at + 1)),
            None => return Err("it ends too early".into()),
        };
        loop {
            if self.take('.') {
                let name = self.word();
                if name.is_empty() {
                    return Err(format!("a name is expected at position {}", self.at + 1));
                }
                tree =
                    Expression::Index(Box::new(tree), Box::new(Expression::Literal(name.into())));
            } else if self.take('[') {
                let index = self.expression(depth + 1)?;
                self.need(']')?;
                tree = Expression::Index(Box::new(tree), Box::new(index));
            } else {
                return Ok(tree);
            }
        }
    }

    fn call(&mut self, depth: usize) -> Result<Expression, String> {
        let name = self.word();
        if !self.take('(') {
            return Err(format!("'{name}' must be called: '{name}(…)'"));
        }
        let mut arguments = Vec::new();
        while !self.take(')') {
            if !arguments.is_empty() {
                self.need(',')?;
            }
            arguments.push(self.expression(depth + 1)?);
        }
        Ok(Expression::Call(name, arguments))
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        word
    }

    /// In single quotes; two of them stand for one.
    fn string(&mut self) -> Result<String, String> {
        self.need('\'')?;
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let end = rest.find('\'').ok_or("a text has no end")?;
            text.push_str(&rest[..end]);
            let doubled = rest[end + 1..].starts_with('\'');
            self.at += end + 1;
            if !doubled {
                return Ok(text);
            }
            text.push('\'');
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|(at, c)| !(c.is_ascii_digit() || (*at == 0 && *c == '-')))
            .map_or(rest.len(), |(at, _)| at);
        let number = rest[..end].parse::<i64>();
        self.at += end;
        number
            .map(Value::from)
            .map_err(|_| "a number is out of range".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn eval(text: &str) -> Result<Value, String> {
        let parameters = BTreeMap::from([
            ("name".to_owned(), json!("Hub-1")),
            ("tags".to_owned(), json!({"a": [10, 20]})),
        ]);
        let variables = json!({
            "twice": "[concat(parameters('name'), parameters('NAME'))]",
            "loop": "[variables('loop')]",
            "v0": "",
            "v1": format!("[concat({})]", ["variables('v0')"; 100].join(",")),
            "v2": format!("[concat({})]", ["variables('v1')"; 100].join(",")),
            "v3": format!("[concat({})]", ["variables('v2')"; 100].join(",")),
            "object": { "x": "[toLower('ABC')]" },
        });
        let resource = |id: &str| {
            id.ends_with("/IotHubs/h")
                .then(|| json!({"properties": {"state": "Active"}}))
        };
        let scope = Scope {
            parameters: &parameters,
            variables: variables.as_object().unwrap(),
            subscription: &json!({"subscriptionId": "sub", "id": "/subscriptions/sub"}),
            tenant: "ten",
            group: &json!({"name": "rg", "location": "westus2", "id": "/subscriptions/sub/resourceGroups/rg"}),
            deployment: "main",
            resource: Some(&resource),
        };
        evaluate(&json!(text), &scope)
    }

    #[track_caller]
    fn gives(text: &str, expected: Value) {
        assert_eq!(eval(text), Ok(expected), "{text}");
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let error = eval(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }

    #[test]
    fn plain_texts_and_escapes_stay_texts() {
        gives("plain", json!("plain"));
        gives("[[not an expression]", json!("[not an expression]"));
        gives("[open", json!("[open"));
    }

    #[test]
    fn functions_give_what_is_documented() {
        gives("[concat('a', 'it''s', 1)]", json!("ait's1"));
        gives("[variables('twice')]", json!("Hub-1Hub-1"));
        gives("[variables('object').x]", json!("abc"));
        gives("[parameters('tags').a[1]]", json!(20));
        gives("[format('{0}-{1}{{}}', 'x', 2)]", json!("x-2{}"));
        gives("[toUpper(resourceGroup().location)]", json!("WESTUS2"));
        gives("[subscription().subscriptionId]", json!("sub"));
        gives(
            "[if(equals(length('abc'), 3), 'yes', variables('nope'))]",
            json!("yes"),
        );
        gives(
            "[and(true(), not(false()), or(false(), true()))]",
            json!(true),
        );
        gives(
            "[union(createObject('a', 1), createObject('b', 2))]",
            json!({"a": 1, "b": 2}),
        );
        gives("[int('12')]", json!(12));
        gives("[string(createArray(1, 'a'))]", json!("[1,\"a\"]"));
        gives("[concat(createArray(1), createArray(2))]", json!([1, 2]));
        gives(
            "[resourceId('Microsoft.Devices/IotHubs', 'h')]",
            json!("/subscriptions/sub/resourceGroups/rg/providers/Microsoft.Devices/IotHubs/h"),
        );
        gives(
            "[resourceId('other', 'Microsoft.Devices/IotHubs/certificates', 'h', 'c')]",
            json!(
                "/subscriptions/sub/resourceGroups/other/providers/Microsoft.Devices/IotHubs/h/certificates/c"
            ),
        );
        gives(
            "[reference(resourceId('Microsoft.Devices/IotHubs', 'h')).state]",
            json!("Active"),
        );
    }

    #[test]
    fn unique_strings_follow_from_their_input_alone() {
        let one = eval("[uniqueString('a', 'b')]").unwrap();
        assert_eq!(one.as_str().unwrap().len(), 13);
        assert_eq!(eval("[uniqueString('a', 'b')]").unwrap(), one);
        assert_ne!(eval("[uniqueString('ab')]").unwrap(), one);
    }

    #[test]
    fn mistakes_are_named() {
        refused("[parameters('nope')]", "'nope' is not");
        refused("[variables('loop')]", "refer");
        refused("[variables('v3')]", "too many steps");
        refused("[listKeys('x', '2021')]", "keys");
        refused("[copyIndex()]", "copy");
        refused("[wonder('x')]", "'wonder' is not known");
        refused("[concat('a']", "is expected");
        refused("[concat('a',)]", "not expected");
        refused("[int('x')]", "number");
        refused("[parameters('tags').b]", "there is no");
        refused(
            "[reference('Microsoft.Devices/IotHubs/none')]",
            "cannot be referred to",
        );
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!("[{}1{}]", "string(".repeat(5_000), ")".repeat(5_000));
        refused(&deep, "too deeply");
    }
}
