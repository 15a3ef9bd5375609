//! Text to tree.

use super::{ConditionError, FUNCTIONS, Function, Operator, Step, Tree};
use serde_json::Value;

/// Nesting of a condition.
pub const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// `$name`
    System(String),
    Number(f64),
    Text(String),
    Sign(&'static str),
}

struct Placed {
    token: Token,
    start: usize,
    end: usize,
}

const SIGNS: [&str; 20] = [
    "<>", "!=", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", ".", "+", "-", "*", "/", "%",
    "{", "}",
];

pub(super) fn parse(text: &str) -> Result<Tree, ConditionError> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        length: text.len(),
    };
    let tree = parser.or(0)?;
    match parser.tokens.get(parser.at) {
        None => Ok(tree),
        Some(_) => Err(parser.wrong("an operator or the end is expected here")),
    }
}

fn error(message: impl Into<String>, start: usize, end: usize) -> ConditionError {
    ConditionError {
        message: message.into(),
        start,
        end,
    }
}

fn tokens(text: &str) -> Result<Vec<Placed>, ConditionError> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let start = at;
        let token = match first {
            '\'' | '"' => string(text, &mut at)?,
            c if c.is_ascii_digit() => number(text, &mut at)?,
            '$' => {
                at += 1;
                Token::System(word(text, &mut at))
            }
            c if is_word(c) => Token::Word(word(text, &mut at)),
            _ => {
                let sign = SIGNS.into_iter().find(|sign| text[at..].starts_with(sign));
                let sign = sign.ok_or_else(|| {
                    error(
                        format!("'{first}' is not expected"),
                        at,
                        at + first.len_utf8(),
                    )
                })?;
                at += sign.len();
                Token::Sign(sign)
            }
        };
        all.push(Placed {
            token,
            start,
            end: at,
        });
    }
    Ok(all)
}

/// Names may hold more than letters; blanks and separators end them.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || c == '#'
}

fn word(text: &str, at: &mut usize) -> String {
    let rest = &text[*at..];
    let mut end = rest
        .find(|c| !(is_word(c) || c == '-'))
        .unwrap_or(rest.len());
    // A hyphen belongs to a name only between letters, as in `dt-subject`.
    while rest[..end].ends_with('-') {
        end -= 1;
    }
    *at += end;
    rest[..end].to_owned()
}

fn number(text: &str, at: &mut usize) -> Result<Token, ConditionError> {
    let rest = &text[*at..];
    let start = *at;
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let end = hex
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(hex.len());
        *at += 2 + end;
        return u32::from_str_radix(&hex[..end], 16)
            .map(|number| Token::Number(f64::from(number)))
            .map_err(|_| error("this is no number", start, *at));
    }
    let bytes = rest.as_bytes();
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let exponent = end > 0 && matches!(bytes[end - 1], b'e' | b'E');
        match byte {
            b'0'..=b'9' | b'.' | b'e' | b'E' => end += 1,
            b'+' | b'-' if exponent => end += 1,
            _ => break,
        }
    }
    *at += end;
    match rest[..end].parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Token::Number(number)),
        _ => Err(error("this is no number", start, *at)),
    }
}

fn string(text: &str, at: &mut usize) -> Result<Token, ConditionError> {
    let start = *at;
    let rest = &text[start..];
    let mut chars = rest.char_indices();
    let quote = chars.next().map(|(_, quote)| quote);
    let mut out = String::new();
    while let Some((index, c)) = chars.next() {
        if Some(c) == quote {
            *at = start + index + c.len_utf8();
            return Ok(Token::Text(out));
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let wrong = || error("this escape is not known", start + index, start + index + 1);
        match chars.next().map(|(_, escaped)| escaped) {
            Some(escaped @ ('\'' | '"' | '\\' | '/')) => out.push(escaped),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let hex: String = chars.by_ref().take(4).map(|(_, digit)| digit).collect();
                let code = u32::from_str_radix(&hex, 16)
                    .ok()
                    .filter(|_| hex.len() == 4);
                out.push(code.and_then(char::from_u32).ok_or_else(wrong)?);
            }
            _ => return Err(wrong()),
        }
    }
    Err(error("a text has no end", start, text.len()))
}

struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    length: usize,
}

type Given = Result<Tree, ConditionError>;

impl Parser {
    fn wrong(&self, message: impl Into<String>) -> ConditionError {
        match self.tokens.get(self.at) {
            Some(placed) => error(message, placed.start, placed.end),
            None => error(message, self.length, self.length),
        }
    }

    fn sign(&mut self, wanted: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(placed) if matches!(&placed.token, Token::Sign(sign) if *sign == wanted));
        self.at += usize::from(found);
        found
    }

    fn keyword(&mut self, wanted: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(placed) if matches!(&placed.token, Token::Word(word) if word.eq_ignore_ascii_case(wanted)));
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, wanted: &str) -> Result<(), ConditionError> {
        match self.sign(wanted) {
            true => Ok(()),
            false => Err(self.wrong(format!("'{wanted}' is expected here"))),
        }
    }

    fn or(&mut self, depth: usize) -> Given {
        if depth > MAX_DEPTH {
            return Err(self.wrong("the condition is nested too deeply"));
        }
        let mut tree = self.and(depth)?;
        let mut terms = 0;
        while self.keyword("OR") {
            terms += 1;
            self.bounded(terms)?;
            tree = Tree::Or(Box::new(tree), Box::new(self.and(depth)?));
        }
        Ok(tree)
    }

    /// A long chain makes a deep tree.
    fn bounded(&self, terms: usize) -> Result<(), ConditionError> {
        match terms > MAX_DEPTH * 4 {
            true => Err(self.wrong("the condition has too many terms")),
            false => Ok(()),
        }
    }

    fn and(&mut self, depth: usize) -> Given {
        let mut tree = self.not(depth)?;
        let mut terms = 0;
        while self.keyword("AND") {
            terms += 1;
            self.bounded(terms)?;
            tree = Tree::And(Box::new(tree), Box::new(self.not(depth)?));
        }
        Ok(tree)
    }

    fn not(&mut self, depth: usize) -> Given {
        if depth > MAX_DEPTH {
            return Err(self.wrong("the condition is nested too deeply"));
        }
        match self.keyword("NOT") {
            true => Ok(Tree::Not(Box::new(self.not(depth + 1)?))),
            false => self.comparison(depth),
        }
    }

    fn comparison(&mut self, depth: usize) -> Given {
        const OPERATORS: [(&str, Operator); 7] = [
            ("=", Operator::Equal),
            ("!=", Operator::Unequal),
            ("<>", Operator::Unequal),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let left = self.sum(depth)?;
        for (sign, operator) in OPERATORS {
            if self.sign(sign) {
                let right = self.sum(depth)?;
                return Ok(Tree::Compare(operator, Box::new(left), Box::new(right)));
            }
        }
        for (word, within) in [("IN", true), ("NIN", false)] {
            if self.keyword(word) {
                let right = self.sum(depth)?;
                return Ok(Tree::In(Box::new(left), Box::new(right), within));
            }
        }
        Ok(left)
    }

    fn sum(&mut self, depth: usize) -> Given {
        self.chain(depth, [('+', "+"), ('-', "-")], Parser::product)
    }

    fn product(&mut self, depth: usize) -> Given {
        self.chain(depth, [('*', "*"), ('/', "/"), ('%', "%")], Parser::unary)
    }

    fn chain<const N: usize>(
        &mut self,
        depth: usize,
        signs: [(char, &str); N],
        next: fn(&mut Parser, usize) -> Given,
    ) -> Given {
        let mut tree = next(self, depth)?;
        let mut terms = 0;
        while let Some((operator, _)) = signs.into_iter().find(|(_, sign)| self.sign(sign)) {
            terms += 1;
            self.bounded(terms)?;
            tree = Tree::Arithmetic(operator, Box::new(tree), Box::new(next(self, depth)?));
        }
        Ok(tree)
    }

    fn unary(&mut self, depth: usize) -> Given {
        if depth > MAX_DEPTH {
            return Err(self.wrong("the condition is nested too deeply"));
        }
        match self.sign("-") {
            true => Ok(Tree::Negative(Box::new(self.unary(depth + 1)?))),
            false => self.primary(depth),
        }
    }

    fn primary(&mut self, depth: usize) -> Given {
        if self.sign("(") {
            let tree = self.or(depth + 1)?;
            self.need(")")?;
            return Ok(tree);
        }
        if self.sign("[") {
            return Ok(Tree::List(self.list("]", depth)?));
        }
        // `{name}` is a name.
        if self.sign("{") {
            let tree = self.primary(depth + 1)?;
            self.need("}")?;
            return Ok(tree);
        }
        let Some(placed) = self.tokens.get(self.at) else {
            return Err(self.wrong("a value is expected here"));
        };
        let tree = match placed.token.clone() {
            Token::Number(number) => Tree::Literal(number.into()),
            Token::Text(text) => Tree::Literal(text.into()),
            Token::System(name) => return self.system(name),
            Token::Word(word) => return self.word(word, depth),
            Token::Sign(_) => return Err(self.wrong("a value is expected here")),
        };
        self.at += 1;
        Ok(tree)
    }

    fn list(&mut self, end: &str, depth: usize) -> Result<Vec<Tree>, ConditionError> {
        let mut items = Vec::new();
        while !self.sign(end) {
            if !items.is_empty() {
                self.need(",")?;
            }
            items.push(self.or(depth + 1)?);
        }
        Ok(items)
    }

    fn system(&mut self, name: String) -> Given {
        if name.is_empty() {
            return Err(self.wrong("a name is expected after '$'"));
        }
        let body = name.eq_ignore_ascii_case("body");
        let twin = name.eq_ignore_ascii_case("twin");
        self.at += 1;
        if !body && !twin {
            return Ok(Tree::System(name));
        }
        let path = self.path()?;
        Ok(match body {
            true => Tree::Body(path),
            false => Tree::Twin,
        })
    }

    /// `.name[0].other`
    fn path(&mut self) -> Result<Vec<Step>, ConditionError> {
        let mut path = Vec::new();
        loop {
            if self.sign(".") {
                let name = match self.tokens.get(self.at).map(|placed| &placed.token) {
                    Some(Token::Word(name)) => name.clone(),
                    Some(Token::System(name)) => format!("${name}"),
                    Some(Token::Text(name)) => name.clone(),
                    _ => return Err(self.wrong("a name is expected here")),
                };
                self.at += 1;
                path.push(Step::Field(name));
            } else if self.sign("[") {
                let step = match self.tokens.get(self.at).map(|placed| &placed.token) {
                    Some(Token::Number(number)) if number.fract() == 0.0 && *number < 1e9 => {
                        Step::Index(*number as usize)
                    }
                    Some(Token::Text(name)) => Step::Field(name.clone()),
                    _ => return Err(self.wrong("a whole number is expected here")),
                };
                self.at += 1;
                self.need("]")?;
                path.push(step);
            } else {
                return Ok(path);
            }
        }
    }

    fn word(&mut self, word: String, depth: usize) -> Given {
        let start = self.at;
        self.at += 1;
        if self.sign("(") {
            return self.call(&word, start, depth);
        }
        Ok(match word.to_ascii_lowercase().as_str() {
            "true" => Tree::Literal(Value::Bool(true)),
            "false" => Tree::Literal(Value::Bool(false)),
            "null" => Tree::Literal(Value::Null),
            "undefined" => Tree::Undefined,
            "and" | "or" | "in" | "nin" | "not" => {
                self.at = start;
                return Err(self.wrong("a value is expected here"));
            }
            // Names of properties may have dots in them.
            _ => {
                let mut name = word;
                while self.sign(".") {
                    match self.tokens.get(self.at).map(|placed| &placed.token) {
                        Some(Token::Word(part)) => name = format!("{name}.{part}"),
                        _ => return Err(self.wrong("a name is expected here")),
                    }
                    self.at += 1;
                }
                Tree::Application(name)
            }
        })
    }

    fn call(&mut self, word: &str, start: usize, depth: usize) -> Given {
        let known = FUNCTIONS
            .into_iter()
            .find(|(name, ..)| name.eq_ignore_ascii_case(word));
        let Some((name, least, most)) = known else {
            self.at = start;
            return Err(self.wrong(format!("the function '{word}' is not known")));
        };
        let arguments = self.list(")", depth)?;
        if !(least..=most).contains(&arguments.len()) {
            self.at = start;
            return Err(self.wrong(format!("'{word}' takes {least} to {most} arguments")));
        }
        Ok(match name {
            "undefined" => Tree::Undefined,
            _ => Tree::Call(Function(name), arguments),
        })
    }
}
