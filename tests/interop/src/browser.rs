//! What a person's browser does at a server, played by curl: cookies, Fetch Metadata, the form of the consent page and
//! the redirect that follows.

use std::path::PathBuf;

use crate::{Client, Curl, Error, Response, Result, Server};

/// A browser with a cookie jar of its own on one machine.
#[derive(Debug)]
pub struct Browser<'a> {
    client: &'a Client,
    issuer: String,
    ca: PathBuf,
    jar: PathBuf,
}

impl<'a> Browser<'a> {
    /// A fresh browser on `client`'s machine, for this server.
    pub fn new(client: &'a Client, server: &Server) -> Result<Browser<'a>> {
        let jar = client.host().dir().join("cookies");
        match std::fs::remove_file(&jar) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("removing {jar:?}"))(error));
            }
            _ => {}
        }
        Ok(Browser {
            client,
            issuer: server.url(),
            ca: server.ca()?,
            jar,
        })
    }

    /// Opens a page, as the application's link does.
    pub fn open(&self, path: &str) -> Result<Response> {
        self.request(path)
            .header("sec-fetch-dest: document")
            .header("sec-fetch-mode: navigate")
            .header("sec-fetch-site: cross-site")
            .header("sec-fetch-user: ?1")
            .send()
    }

    /// Presses a button of the form on `page`: sends its hidden fields and `fields` to `path`.
    pub fn click(&self, page: &Response, path: &str, fields: &[(&str, &str)]) -> Result<Response> {
        self.answer(page, path, fields).send()
    }

    /// The same, and follows the redirect.
    pub fn click_through(&self, page: &Response, path: &str, fields: &[(&str, &str)]) -> Result<Response> {
        self.answer(page, path, fields).arg("--location").send()
    }

    fn answer(&self, page: &Response, path: &str, fields: &[(&str, &str)]) -> Curl<'a> {
        let hidden = hidden_fields(&page.body);
        let hidden: Vec<(&str, &str)> = hidden.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.request(path)
            .header(&format!("origin: {}", self.issuer))
            .header("sec-fetch-dest: document")
            .header("sec-fetch-mode: navigate")
            .header("sec-fetch-site: same-origin")
            .header("sec-fetch-user: ?1")
            .form(&hidden)
            .form(fields)
    }

    fn request(&self, path: &str) -> Curl<'a> {
        let jar = self.jar.display().to_string();
        self.client
            .curl(&format!("{}{path}", self.issuer))
            .trust(&self.ca)
            .arg("--cookie")
            .arg(jar.clone())
            .arg("--cookie-jar")
            .arg(jar)
    }
}

/// The hidden fields of the one form of a page of ours.
fn hidden_fields(html: &str) -> Vec<(&str, String)> {
    let inputs = html.split("<input type=\"hidden\" name=\"").skip(1);
    inputs
        .filter_map(|input| {
            let (name, rest) = input.split_once('"')?;
            let value = rest.strip_prefix(" value=\"")?.split('"').next()?;
            Some((name, value.replace("&amp;", "&")))
        })
        .collect()
}
