//! Text that strangers chose and people will read: names of clients, contacts.

use serde::{Deserialize, Serialize};

/// A name that is safe to show: one line, no control, direction or invisible characters, of bounded length.
///
/// A client calls itself what it likes. Direction overrides and invisible characters would let one name look like
/// another, or turn the words around it, so they are taken out before the name is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DisplayText(String);

impl DisplayText {
    /// The longest text that is kept, in characters.
    pub const MAX_CHARS: usize = 100;

    /// Cleans `raw`; `None` when nothing readable is left.
    pub fn clean(raw: &str) -> Option<Self> {
        let mut text = String::new();
        let mut chars = 0;
        let mut gap = false;
        for c in raw.chars() {
            if c.is_whitespace() || c.is_control() {
                gap = !text.is_empty();
                continue;
            }
            if is_deceptive(c) {
                continue;
            }
            if chars + 1 + usize::from(gap) > Self::MAX_CHARS {
                break;
            }
            if gap {
                text.push(' ');
                chars += 1;
                gap = false;
            }
            text.push(c);
            chars += 1;
        }
        (!text.is_empty()).then_some(Self(text))
    }

    /// Whether `raw` can be shown as it is, whatever its length: nothing in it hides, breaks the line or turns the words
    /// around it.
    pub fn is_plain(raw: &str) -> bool {
        !raw.chars().any(|c| c.is_control() || is_deceptive(c))
    }

    /// The cleaned text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters without a shape of their own: directions, joiners, fillers, tags, private use.
fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
        | '\u{E000}'..='\u{F8FF}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}' | '\u{F0000}'..='\u{10FFFF}')
}

#[cfg(test)]
mod tests;
