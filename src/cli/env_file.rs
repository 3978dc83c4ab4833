//! `-e` and `--env-file`, of run and exec.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::values;

/// The variables of the files, then those of the flags.
pub(super) fn with_flags(
    files: &[PathBuf],
    flags: Vec<Option<(String, String)>>,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut env = Vec::new();
    for file in files {
        env.extend(read(file)?);
    }
    env.extend(flags.into_iter().flatten());
    Ok(env)
}

/// Docker's format: a NAME=VALUE or NAME a line, as it stands; `#` begins a comment line.
fn read(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the env file {}", path.display()))?;
    // What some editors put before all text (U+FEFF).
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut variables = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("{} line {}", path.display(), number + 1);
        let variable = values::variable(line)
            .map_err(anyhow::Error::msg)
            .with_context(place)?;
        if let Some((name, _)) = variable
            .as_ref()
            .filter(|(name, _)| name.contains(char::is_whitespace))
        {
            bail!(
                "{}: the variable name `{name}` contains white space",
                place()
            );
        }
        variables.extend(variable);
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_byte_order_is_no_part_of_the_first_name() {
        let file = std::env::temp_dir().join(format!("mybox-env-{}", std::process::id()));
        std::fs::write(&file, "\u{feff}A=1\nB=\u{feff}\n").unwrap();
        let read = read(&file);
        std::fs::remove_file(&file).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read.unwrap(), [pair("A", "1"), pair("B", "\u{feff}")]);
    }
}
