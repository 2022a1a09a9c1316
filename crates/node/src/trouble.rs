//! What goes wrong again and again, said once.

/// Remembers what was said last.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Option<String>);

impl Trouble {
    /// Whether nobody has heard of this reason since the last [`over`](Self::over). Numbers do not count: many a reason
    /// says at what second it came about.
    pub(crate) fn is_news(&mut self, reason: &str) -> bool {
        let news = !self.0.as_ref().is_some_and(|last| is_same(last, reason));
        self.0 = Some(reason.to_owned());
        news
    }

    /// What was said last.
    pub(crate) fn last(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// It goes well again.
    pub(crate) fn over(&mut self) {
        self.0 = None;
    }
}

fn is_same(a: &str, b: &str) -> bool {
    let words = |text| str::chars(text).filter(|c| !c.is_ascii_digit());
    words(a).eq(words(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_news_once_and_again_after_it_was_over() {
        let mut trouble = Trouble::default();
        assert!(trouble.is_news("expired 7 seconds ago"));
        assert!(!trouble.is_news("expired 12 seconds ago"));
        assert!(trouble.is_news("does not resolve"));
        assert_eq!(trouble.last(), Some("does not resolve"));
        trouble.over();
        assert!(trouble.is_news("does not resolve"));
    }
}
