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

    /// Clicks a button of the form on `page`: sends the form's hidden fields and `choice` to `path` and, unless `stay`,
    /// follows the redirect.
    pub fn click(&self, page: &Response, path: &str, choice: &str, stay: bool) -> Result<Response> {
        let mut request = self
            .request(path)
            .header(&format!("origin: {}", self.issuer))
            .header("sec-fetch-dest: document")
            .header("sec-fetch-mode: navigate")
            .header("sec-fetch-site: same-origin")
            .header("sec-fetch-user: ?1");
        let hidden = hidden_fields(&page.body);
        let mut fields: Vec<(&str, &str)> = hidden.iter().map(|(name, value)| (*name, value.as_str())).collect();
        fields.push(("choice", choice));
        request = request.form(&fields);
        if stay { request } else { request.arg("--location") }.send()
    }

    /// The cookies that it holds, as curl keeps them.
    pub fn cookies(&self) -> String {
        std::fs::read_to_string(&self.jar).unwrap_or_default()
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
