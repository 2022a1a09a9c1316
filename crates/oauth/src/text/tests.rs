use proptest::prelude::*;

use super::*;

#[test]
fn direction_and_control_characters_are_taken_out() {
    let name = DisplayText::clean("  Claude\u{202E} Code\r\n\t(gnp.exe)\u{200B}\u{0} ").unwrap();
    assert_eq!(name.as_str(), "Claude Code (gnp.exe)");
}

#[test]
fn nothing_readable_is_no_name() {
    assert_eq!(DisplayText::clean(" \u{200F}\u{3164}\n"), None);
    assert_eq!(DisplayText::clean(""), None);
}

#[test]
fn other_scripts_are_names_too() {
    assert_eq!(
        DisplayText::clean("日本語 クライアント").unwrap().as_str(),
        "日本語 クライアント"
    );
}

proptest! {
    #[test]
    fn a_cleaned_text_is_short_and_stays_as_it_is(raw in any::<String>()) {
        if let Some(text) = DisplayText::clean(&raw) {
            prop_assert!(text.as_str().chars().count() <= DisplayText::MAX_CHARS);
            prop_assert_eq!(DisplayText::clean(text.as_str()), Some(text.clone()));
        }
    }
}
