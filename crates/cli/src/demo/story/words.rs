//! Fitting words into the transcript's columns.

/// Where words below a step are broken.
pub(super) const WRAP: usize = 75;

/// Breaks a text at spaces.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Names and values, the values in one column.
pub(super) fn columns<N: AsRef<str>>(facts: &[(N, String)]) -> Vec<String> {
    let widest = facts
        .iter()
        .map(|(name, _)| name.as_ref().chars().count())
        .max()
        .unwrap_or_default();
    let lines = facts.iter().flat_map(|(name, value)| {
        let values = wrap(value, WRAP - widest - 2).into_iter().enumerate();
        values.map(move |(index, value)| {
            let name = if index == 0 { name.as_ref() } else { "" };
            format!("{name:<widest$}  {value}")
        })
    });
    lines.collect()
}

/// The beginning of something long.
pub(super) fn short(text: &str) -> String {
    let start: String = text.chars().take(12).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_at_spaces() {
        assert_eq!(wrap("one two  three", 8), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
        assert!(wrap("", 4).is_empty());
    }

    #[test]
    fn values_stand_in_one_column() {
        let facts = [("iss", "here".to_owned()), ("scope", "a b".to_owned())];
        assert_eq!(columns(&facts), ["iss    here", "scope  a b"]);
        let long = [("aud", "word ".repeat(20))];
        let lines = columns(&long);
        assert!(lines.len() > 1 && lines[1].starts_with("     word"));
        assert!(lines.iter().all(|line| line.chars().count() <= WRAP));
    }
}
