//! Words of an instruction: quotes, backslashes and variables, as a Dockerfile has them.

use std::iter::Peekable;
use std::str::Chars;

/// An environment to look variables up in.
pub(super) struct Variables<'a>(&'a [String]);

impl<'a> Variables<'a> {
    /// `NAME=value` each.
    pub(super) fn of(env: &'a [String]) -> Self {
        Self(env)
    }

    pub(super) fn none() -> Self {
        Self(&[])
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let pairs = self.0.iter().filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(known, _)| *known == name);
        values.next_back().map(|(_, value)| value)
    }

    /// What is between the braces of `${...}`: `N`, `N:-word`, `N:+word`, or without the colon, for which an
    /// empty value is one too.
    fn in_braces(&self, inside: &str) -> Result<String, String> {
        let end = inside.find(|letter| !is_of_name(letter));
        let (name, rest) = inside.split_at(end.unwrap_or(inside.len()));
        let wrong = || format!("${{{inside}}} is none of ${{N}}, ${{N:-word}} and ${{N:+word}}");
        if name.is_empty() {
            return Err(wrong());
        }
        let (empty_counts, operation) = match rest.strip_prefix(':') {
            Some(operation) => (false, operation),
            None => (true, rest),
        };
        let value = self.get(name);
        let set = value.filter(|value| empty_counts || !value.is_empty());
        match (operation.chars().next(), set) {
            (None, _) if empty_counts => Ok(value.unwrap_or_default().to_owned()),
            (Some('-'), Some(value)) => Ok(value.to_owned()),
            (Some('-'), None) | (Some('+'), Some(_)) => unquoted(&operation[1..], self),
            (Some('+'), None) => Ok(String::new()),
            _ => Err(wrong()),
        }
    }
}

/// Splits at white space as a shell would: 'single' and "double" quotes, backslashes, and variables but in
/// single quotes. What a variable stands for is not split.
pub(super) fn split(text: &str, variables: &Variables<'_>) -> Result<Vec<String>, String> {
    read(text, variables, true)
}

/// The same, as one word with all its white space.
pub(super) fn unquoted(text: &str, variables: &Variables<'_>) -> Result<String, String> {
    Ok(read(text, variables, false)?.concat())
}

fn read(text: &str, variables: &Variables<'_>, splits: bool) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, space) if splits && space.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => {
                let Some(next) = characters.next() else {
                    return Err("it ends in a backslash".to_owned());
                };
                let kept = quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`');
                word.get_or_insert_default()
                    .extend(kept.then_some('\\').into_iter().chain([next]));
            }
            (None | Some('"'), '$') => {
                let value = variable(&mut characters, variables)?;
                word.get_or_insert_default().push_str(&value);
            }
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("a {quote} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// What stands behind a `$`. One that no name follows is itself.
fn variable(rest: &mut Peekable<Chars<'_>>, variables: &Variables<'_>) -> Result<String, String> {
    if rest.next_if_eq(&'{').is_some() {
        return variables.in_braces(&to_closing_brace(rest)?);
    }
    let mut name = String::new();
    while let Some(letter) = rest.next_if(|letter| is_of_name(*letter)) {
        name.push(letter);
    }
    match name.is_empty() {
        true => Ok("$".to_owned()),
        false => Ok(variables.get(&name).unwrap_or_default().to_owned()),
    }
}

fn to_closing_brace(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut inside = String::new();
    let mut open = 1;
    for letter in rest.by_ref() {
        match letter {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Ok(inside);
        }
        inside.push(letter);
    }
    Err("a ${ is not closed".to_owned())
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_looked_up_as_in_a_dockerfile() {
        let env = ["A=1", "E=", "S=a b", "P=/x:/y"].map(str::to_owned);
        for (text, expected) in [
            ("$A", "1"),
            ("x$A-y", "x1-y"),
            ("${A}b$Ab", "1b"),
            ("'$A' \\$A", "$A $A"),
            ("\"$S\"", "a b"),
            ("$P:/z", "/x:/y:/z"),
            ("$N", ""),
            ("${N:-w}${A:-w}${E:-w}", "w1w"),
            ("${N-w}${E-w}", "w"),
            ("${N:+w}${A:+w}${E:+w}${E+w}", "ww"),
            ("${N:-${M:-$A}}", "1"),
            ("$ $- a$", "$ $- a$"),
        ] {
            let found = unquoted(text, &Variables::of(&env));
            assert_eq!(found.as_deref(), Ok(expected), "{text}");
        }
        for bad in ["${A", "${}", "${A:}", "${A?no}", "${-a}"] {
            assert!(unquoted(bad, &Variables::of(&env)).is_err(), "{bad}");
        }
        let words = split("a=$S b", &Variables::of(&env));
        assert_eq!(words, Ok(vec!["a=a b".to_owned(), "b".to_owned()]));
    }
}
