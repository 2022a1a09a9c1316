//! What alice's browser does in the transcript: it shows a page, and sends the form when she clicks.
//!
//! The pages are the server's own, so their few forms of HTML are looked for as text.

use hyper::{StatusCode, header::SET_COOKIE};

use super::{
    BoxError,
    client::{Answer, Client},
};

/// A page with a question.
pub(super) struct Page {
    /// Names and values, in the order in which they are shown.
    pub(super) facts: Vec<(String, String)>,
    /// What else it says, a sentence each.
    pub(super) remarks: Vec<String>,
    /// The words on the first button.
    pub(super) button: String,
    action: String,
    fields: Vec<(String, String)>,
    cookies: String,
}

impl Page {
    /// Opens a page.
    ///
    /// # Errors
    /// When the server refuses, or when there is nothing to click.
    pub(super) async fn open(client: &mut Client, path: &str) -> Result<Self, BoxError> {
        let answer = client
            .get(path, &[("accept", "text/html"), ("sec-fetch-dest", "document")])
            .await?;
        if answer.status != StatusCode::OK {
            return Err(answer.instead_of("a page"));
        }
        Self::read(&answer).ok_or_else(|| answer.instead_of("a page with a button"))
    }

    fn read(answer: &Answer) -> Option<Self> {
        let html = answer.text.as_str();
        let facts = html.split("<dt>").skip(1).filter_map(|fact| {
            let (name, rest) = fact.split_once("</dt>")?;
            let value = rest.split_once("<dd>")?.1.split_once("</dd>")?.0;
            Some((words(name), words(value)))
        });
        let remarks = html
            .split("<p class=\"plain\">")
            .skip(1)
            .filter_map(|rest| Some(words(rest.split_once("</p>")?.0)));
        let form = html.split_once("<form ")?.1.split_once("</form>")?.0;
        let hidden = form.split("<input ").skip(1).filter_map(|input| {
            let tag = input.split_once('>')?.0;
            Some((attribute(tag, "name")?, attribute(tag, "value")?))
        });
        let (tag, rest) = form.split_once("<button ")?.1.split_once('>')?;
        let button = words(rest.split_once("</button>")?.0);
        let mut fields: Vec<_> = hidden.collect();
        fields.push((attribute(tag, "name")?, attribute(tag, "value")?));
        let cookies = answer
            .headers
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok()?.split(';').next());
        Some(Self {
            facts: facts.collect(),
            remarks: remarks.collect(),
            button,
            action: attribute(form, "action")?,
            fields,
            cookies: cookies.collect::<Vec<_>>().join("; "),
        })
    }

    /// Clicks the first button; gives the address to which the browser is sent.
    ///
    /// # Errors
    /// When it is sent nowhere.
    pub(super) async fn click(&self, client: &mut Client) -> Result<String, BoxError> {
        let fields: Vec<(&str, &str)> = self.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let headers = [("cookie", self.cookies.as_str()), ("sec-fetch-site", "same-origin")];
        let answer = client.form(&self.action, &fields, &headers).await?;
        match answer.header("location") {
            "" => Err(answer.instead_of("a redirect")),
            location => Ok(location.to_owned()),
        }
    }
}

/// The value of an attribute in the text of a tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split_once(&format!("{name}=\""))?.1.split_once('"')?.0;
    Some(plain(value))
}

/// The text of a piece of HTML; a line break becomes a comma.
fn words(html: &str) -> String {
    let mut text = String::new();
    for piece in html.replace("<br>", ", ").split('<') {
        let outside = piece.split_once('>').map_or(piece, |(_, outside)| outside);
        text.push_str(outside);
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    plain(text.trim_end_matches([',', ' ']))
}

fn plain(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_words() {
        assert_eq!(words(" <code>a&amp;b</code> <strong>c</strong>"), "a&b c");
        assert_eq!(
            words("know who you are<br>see your e-mail address<br>"),
            "know who you are, see your e-mail address"
        );
        assert_eq!(words("a &lt;b&gt;"), "a <b>");
    }

    #[test]
    fn attributes_are_found() {
        let tag = r#"type="hidden" name="ticket" value="a&amp;b""#;
        assert_eq!(attribute(tag, "value").as_deref(), Some("a&b"));
        assert_eq!(attribute(tag, "class"), None);
    }
}
