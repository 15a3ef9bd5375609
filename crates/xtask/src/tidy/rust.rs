//! A Rust file without comments, texts and test code, so that words and braces can be looked for.

/// Replaces comments, strings and character literals by blanks; line breaks stay, so that lines keep their numbers.
pub fn code_of(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at + 1),
            b'r' | b'b' | b'c' if !continues_word(bytes, at) => {
                match prefixed_string_end(bytes, at) {
                    Some(end) => end,
                    None => {
                        at += 1;
                        continue;
                    }
                }
            }
            b'\'' => match char_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        blank(&mut out[at..end]);
        at = end;
    }
    // Whole tokens were blanked, so what is left is still text.
    String::from_utf8_lossy(&out).into_owned()
}

/// As [`code_of`], without the items that only tests see.
pub fn product_code_of(source: &str) -> String {
    let code = code_of(source);
    let mut out = code.clone().into_bytes();
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(") {
        let start = from + found;
        let condition_end = code[start..]
            .find(']')
            .map_or(code.len(), |end| start + end);
        let condition = &code[start..condition_end];
        let end = if words(condition).any(|(_, word)| word == "test")
            && !condition.contains("not(test")
        {
            item_end(&code, condition_end)
        } else {
            condition_end
        };
        if end > condition_end {
            blank(&mut out[start..end]);
        }
        from = end.max(start + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Files of modules that are declared for tests only: a module's name, or the file that a `path` attribute names.
pub fn test_modules(source: &str) -> Vec<String> {
    let code = code_of(source);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("#[cfg(") {
        let Some(end) = code[at..].find(']').map(|end| at + end) else {
            continue;
        };
        if !words(&code[at..end]).any(|(_, word)| word == "test") {
            continue;
        }
        let Some(stop) = code[end..].find([';', '{']).map(|stop| end + stop) else {
            continue;
        };
        let names: Vec<&str> = words(&code[end..stop]).map(|(_, word)| word).collect();
        let Some(["mod", name]) = names.last_chunk() else {
            continue;
        };
        if code[stop..].starts_with('{') {
            continue;
        }
        // Texts are blanked in `code`: the path stands in the source at the same place.
        let path = source[end..stop]
            .split_once("#[path = \"")
            .and_then(|(_, rest)| rest.split_once('"'));
        found.push(path.map_or(*name, |(path, _)| path).to_owned());
    }
    found
}

/// A function's name, the line of its `fn` and the number of its lines.
pub struct Function<'a> {
    pub name: &'a str,
    pub line: usize,
    pub lines: usize,
}

/// Every function with a body; `code` comes from [`code_of`].
pub fn functions(code: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    let mut all = words(code).peekable();
    while let Some((at, word)) = all.next() {
        if word != "fn" {
            continue;
        }
        let Some((name_at, name)) = all.peek().copied() else {
            break;
        };
        // `fn(u8) -> u8` is a type.
        if !code[at + 2..name_at].trim().is_empty() {
            continue;
        }
        let Some(open) = body_start(code, name_at) else {
            continue;
        };
        let end = block_end(code, open);
        found.push(Function {
            name,
            line: line_of(code, at),
            lines: code[at..end].lines().count(),
        });
    }
    found
}

/// Identifiers and keywords with their places.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + code[from..].find(inside)?;
        let end = code[start..]
            .find(|c| !inside(c))
            .map_or(code.len(), |end| start + end);
        from = end;
        Some((start, &code[start..end]))
    })
}

pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn continues_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes[at..].iter().position(|byte| *byte == b'\n');
    rest.map_or(bytes.len(), |end| at + end)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `b"…"`, `r"…"`, `br#"…"#` and their like; `None` when there is none here.
fn prefixed_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut raw = false;
    while at < bytes.len() && at < start + 2 && matches!(bytes[at], b'r' | b'b' | b'c') {
        raw |= bytes[at] == b'r';
        at += 1;
    }
    if bytes.get(at) == Some(&b'\'') && !raw {
        return char_end(bytes, at);
    }
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    at += hashes;
    if bytes.get(at) != Some(&b'"') || (hashes > 0 && !raw) {
        return None;
    }
    if !raw {
        return Some(string_end(bytes, at + 1));
    }
    let mut closing = vec![b'"'];
    closing.resize(hashes + 1, b'#');
    let rest = bytes[at + 1..]
        .windows(closing.len())
        .position(|window| window == closing);
    Some(rest.map_or(bytes.len(), |end| at + 1 + end + closing.len()))
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], start: usize) -> Option<usize> {
    let first = *bytes.get(start + 1)?;
    if first == b'\\' {
        let rest = bytes[start + 3..].iter().position(|byte| *byte == b'\'')?;
        return Some(start + 3 + rest + 1);
    }
    let length = match first {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    (bytes.get(start + 1 + length) == Some(&b'\'')).then_some(start + 2 + length)
}

/// The end of the item after an attribute: its `;`, or the brace that closes it.
fn item_end(code: &str, from: usize) -> usize {
    match body_start(code, from) {
        Some(open) => block_end(code, open),
        None => code[from..]
            .find(';')
            .map_or(code.len(), |end| from + end + 1),
    }
}

/// The next `{` outside parentheses and brackets, unless a `;` comes first.
fn body_start(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (at, byte) in code.bytes().enumerate().skip(from + 1) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth <= 0 => return Some(at),
            b';' if depth <= 0 => return None,
            _ => {}
        }
    }
    None
}

fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_not_code() {
        let check = |source: &str, expected: &str| assert_eq!(code_of(source), expected);
        check("a // x\nb", "a     \nb");
        check("a /* x /* y */ z */ b", "a                   b");
        check(r#"f("x\"y", b"z")"#, "f(      ,     )");
        check(r##"r#"a"b"# c"##, "         c");
        check("'x' 'a: '\\n' '\\''", "    'a:          ");
        check("let r = b'\"';", "let r =     ;");
        check("for r in br", "for r in br");
    }

    #[test]
    fn test_items_are_not_product_code() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { unwrap } }\nfn c() {}\n#[cfg(test)]\nuse x;\nfn d() {}";
        let code = product_code_of(source);
        for (word, expected) in [
            ("a", true),
            ("b", false),
            ("unwrap", false),
            ("c", true),
            ("x", false),
            ("d", true),
        ] {
            assert_eq!(
                words(&code).any(|(_, found)| found == word),
                expected,
                "{word}"
            );
        }
        assert!(product_code_of("#[cfg(unix)]\nfn a() {}").contains("fn a"));
        assert!(product_code_of("#[cfg(not(test))]\nfn a() {}").contains("fn a"));
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_named() {
        let source = "#[cfg(test)]\nmod tests;\n#[cfg(test)]\npub(crate) mod world;\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod b;\n#[cfg(test)]\nmod here { mod x; }\nmod other;";
        assert_eq!(test_modules(source), ["tests", "world", "x_tests.rs"]);
    }

    #[test]
    fn functions_are_measured_with_their_braces() {
        let source = "trait T { fn without(&self); }\nfn one() { }\nfn three(\n    a: [u8; 3],\n) -> X { if a { } }\ntype F = fn(u8) -> u8;\n";
        let code = code_of(source);
        let found: Vec<_> = functions(&code)
            .iter()
            .map(|f| (f.name.to_owned(), f.line, f.lines))
            .collect();
        assert_eq!(
            found,
            [("one".to_owned(), 2, 1), ("three".to_owned(), 3, 3)]
        );
    }
}
