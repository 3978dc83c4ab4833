//! Words for a shell.

use std::path::Path;

pub(super) fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

pub(super) fn words(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    quoted.join(" ")
}

pub(super) fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

/// A word for the shell: as it is if it has nothing special, else in single quotes.
pub(super) fn quoted(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_out_of_a_shell_as_they_went_in() {
        let words = [
            "plain",
            "",
            "two words",
            "it's",
            "'",
            "''x",
            "$HOME `id` \\ \"",
            "a\nb",
            "*?",
        ];
        for word in words {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                word,
                "{}",
                quoted(word)
            );
        }
    }
}
