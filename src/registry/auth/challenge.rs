//! `WWW-Authenticate` (RFC 9110, section 11): how a registry wants to be convinced.
//!
//! ```text
//! Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/ubuntu:pull"
//! Basic realm="Registry Realm"
//! ```

/// One challenge: a scheme and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// All challenges of one header. A header can hold several, with commas both between challenges and
/// between parameters; what is no challenge ends the list.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = Cursor(header);
    let mut challenges: Vec<Challenge> = Vec::new();
    loop {
        rest.skip(|letter| letter.is_ascii_whitespace() || letter == ',');
        let Some(word) = rest.token() else {
            return challenges;
        };
        let spaced = rest.skip(|letter| letter == ' ' || letter == '\t');
        match (rest.parameter_value(), challenges.last_mut()) {
            (Some(value), Some(challenge)) => challenge.parameters.push((word, value)),
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge {
                    scheme: word,
                    parameters: Vec::new(),
                });
                if spaced {
                    rest.skip_token68();
                }
            }
        }
    }
}

/// What is left of the header.
struct Cursor<'a>(&'a str);

impl Cursor<'_> {
    /// Passes over such letters; whether there were any.
    fn skip(&mut self, is_one: impl Fn(char) -> bool) -> bool {
        let before = self.0.len();
        self.0 = self.0.trim_start_matches(is_one);
        self.0.len() < before
    }

    fn token(&mut self) -> Option<String> {
        let end = self
            .0
            .find(|letter| !is_token(letter))
            .unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then(|| token.to_ascii_lowercase())
    }

    /// `= value` or `= "value"`, if that is what comes.
    fn parameter_value(&mut self) -> Option<String> {
        let rest = self.0.trim_start().strip_prefix('=')?.trim_start();
        // A token68 ends in equals signs, where a parameter has a value.
        if rest.is_empty() || rest.starts_with(['=', ',']) {
            return None;
        }
        if let Some(quoted) = rest.strip_prefix('"') {
            let (value, rest) = unquote(quoted);
            self.0 = rest;
            return Some(value);
        }
        let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
        let (value, rest) = rest.split_at(end);
        self.0 = rest;
        Some(value.to_owned())
    }

    /// Passes over the one form of credentials that has no names: `Negotiate YII=`.
    fn skip_token68(&mut self) {
        let is_token68 = |letter: char| letter.is_ascii_alphanumeric() || "-._~+/".contains(letter);
        let rest = self.0.trim_start_matches(is_token68);
        let rest = rest.trim_start_matches('=').trim_start();
        // What goes on was the name of a parameter.
        if rest.is_empty() || rest.starts_with(',') {
            self.0 = rest;
        }
    }
}

fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

/// Reads up to the closing quote; a missing one is the end.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        type Parameters = &'static [(&'static str, &'static str)];
        let cases: &[(&str, &[(&str, Parameters)])] = &[
            ("", &[]),
            (
                "Basic realm=\"Registry Realm\"",
                &[("basic", &[("realm", "Registry Realm")])],
            ),
            ("Basic", &[("basic", &[])]),
            (
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"",
                &[(
                    "bearer",
                    &[
                        ("realm", "https://auth.docker.io/token"),
                        ("service", "registry.docker.io"),
                        ("scope", "repository:a/b:pull,push"),
                    ],
                )],
            ),
            (
                "bearer  Realm = \"x\\\"y\" , service=ghcr.io,error=\"invalid_token\"",
                &[(
                    "bearer",
                    &[
                        ("realm", "x\"y"),
                        ("service", "ghcr.io"),
                        ("error", "invalid_token"),
                    ],
                )],
            ),
            (
                "Negotiate, Basic realm=a, Bearer realm=\"b\"",
                &[
                    ("negotiate", &[]),
                    ("basic", &[("realm", "a")]),
                    ("bearer", &[("realm", "b")]),
                ],
            ),
            (
                "Negotiate YIIabc==, Bearer realm=\"b,c\"",
                &[("negotiate", &[]), ("bearer", &[("realm", "b,c")])],
            ),
            (
                "Bearer realm=\"unclosed",
                &[("bearer", &[("realm", "unclosed")])],
            ),
            ("realm=\"nobody's\"", &[]),
            ("\u{fc}", &[]),
        ];
        for (header, expected) in cases {
            let expected: Vec<Challenge> = expected
                .iter()
                .map(|(scheme, parameters)| Challenge {
                    scheme: (*scheme).to_owned(),
                    parameters: parameters
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                        .collect(),
                })
                .collect();
            assert_eq!(parse(header), expected, "{header}");
        }
    }
}
