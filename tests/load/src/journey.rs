//! One authorization from the consent page to its latest refresh token: what was acknowledged of it, and what must
//! therefore hold after the server was killed.

use std::time::{Duration, Instant};

use http::StatusCode;

use crate::{
    http::{Answer, Connection, Gone},
    oauth::{self, Page},
};

/// Codes live for 60 s: one older than this is not asked for any more.
const FRESH: Duration = Duration::from_secs(45);

/// See the module's description.
pub struct Journey {
    client: String,
    page: Page,
    code: Option<(String, Instant)>,
    access: String,
    /// Refresh tokens that were acknowledged, oldest first.
    refresh: Vec<String>,
    /// Whether the step after the last acknowledged one was asked for and not answered.
    unsure: bool,
    /// Whether the code was presented a second time, which ends the grant.
    replayed: Replayed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replayed {
    No,
    Perhaps,
    Yes,
}

/// What a check after a restart leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can go on.
    Lives,
    /// It has ended, as it should.
    Over,
}

impl Journey {
    /// Asks for a consent page.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn begin(connection: &mut Connection, client: &str) -> Result<Self, Gone> {
        Ok(Self {
            client: client.to_owned(),
            page: oauth::page(connection, client, "openid", None).await?,
            code: None,
            access: String::new(),
            refresh: Vec::new(),
            unsure: false,
            replayed: Replayed::No,
        })
    }

    /// Whether a request about it was never answered.
    pub fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Whether there is nothing left to do with it.
    pub fn is_over(&self) -> bool {
        self.replayed != Replayed::No
    }

    /// Takes the next step on one connection, or the same step on both at once. Says how many answers were
    /// acknowledgements.
    ///
    /// # Errors
    /// [`Gone`]; what was answered is kept all the same.
    ///
    /// # Panics
    /// When something single-use gives twice.
    pub async fn advance(&mut self, connections: &mut [Connection; 2], twice: bool) -> Result<u64, Gone> {
        self.unsure = true;
        let done = match (&self.code, self.refresh.is_empty()) {
            (None, _) => self.click(connections, twice).await,
            (Some(_), true) => self.redeem(connections, twice).await,
            (Some(_), false) => self.refresh(connections, twice).await,
        };
        if done.is_ok() {
            self.unsure = false;
        }
        done
    }

    async fn click(&mut self, [first, second]: &mut [Connection; 2], twice: bool) -> Result<u64, Gone> {
        let page = &self.page;
        let answers = if twice {
            let (one, other) = tokio::join!(oauth::consent(first, page), oauth::consent(second, page));
            vec![one, other]
        } else {
            vec![oauth::consent(first, page).await]
        };
        let codes: Vec<String> = answers
            .iter()
            .filter_map(|answer| answer.clone().ok().flatten())
            .collect();
        assert!(codes.len() <= 1, "one page gave two codes");
        let gone = answers.contains(&Err(Gone));
        assert!(gone || codes.len() == 1, "a fresh page gave no code");
        let given = codes.len() as u64;
        if let Some(code) = codes.into_iter().next() {
            self.code = Some((code, Instant::now()));
            // Whatever became of the second click, it gave nothing.
            self.unsure = false;
            return Ok(given);
        }
        Err(Gone)
    }

    async fn redeem(&mut self, [first, second]: &mut [Connection; 2], twice: bool) -> Result<u64, Gone> {
        let Some((code, at)) = self.code.clone() else {
            return Ok(0);
        };
        if at.elapsed() > FRESH {
            self.replayed = Replayed::Perhaps;
            return Ok(0);
        }
        let answers = if twice {
            self.replayed = Replayed::Perhaps;
            let (one, other) = tokio::join!(
                oauth::redeem(first, &self.client, &code),
                oauth::redeem(second, &self.client, &code)
            );
            if one.is_ok() && other.is_ok() {
                self.replayed = Replayed::Yes;
            }
            [one, other].into()
        } else {
            vec![oauth::redeem(first, &self.client, &code).await]
        };
        let mut given = 0;
        let mut gone = false;
        for answer in answers {
            match answer {
                Ok(answer) if answer.status == StatusCode::OK => {
                    self.keep(&answer);
                    given += 1;
                }
                Ok(answer) => assert_eq!(answer.field("error"), "invalid_grant", "{}", answer.text),
                Err(Gone) => gone = true,
            }
        }
        assert!(given <= 1, "one code gave tokens twice");
        assert!(gone || given == 1, "a fresh code gave no tokens");
        if given == 0 { Err(Gone) } else { Ok(given) }
    }

    async fn refresh(&mut self, [first, second]: &mut [Connection; 2], twice: bool) -> Result<u64, Gone> {
        let token = self.refresh.last().cloned().unwrap_or_default();
        let answers = if twice {
            let (one, other) = tokio::join!(
                oauth::refresh(first, &self.client, &token),
                oauth::refresh(second, &self.client, &token)
            );
            [one, other].into()
        } else {
            vec![oauth::refresh(first, &self.client, &token).await]
        };
        let mut successors = Vec::new();
        for answer in answers.into_iter().flatten() {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
            if successors.is_empty() {
                self.keep(&answer);
            }
            successors.push(answer.field("refresh_token"));
        }
        assert!(
            successors.iter().all(|successor| Some(successor) == successors.first()),
            "one refresh token gave two successors"
        );
        if successors.is_empty() {
            return Err(Gone);
        }
        Ok(successors.len() as u64)
    }

    fn keep(&mut self, answer: &Answer) {
        self.access = answer.field("access_token");
        self.refresh.push(answer.field("refresh_token"));
        self.unsure = false;
    }

    /// Holds the server, which was killed and started again, to what was acknowledged. `replay`: also presents the
    /// code again, which must end the grant.
    ///
    /// # Errors
    /// [`Gone`], when the server has ended once more.
    ///
    /// # Panics
    /// When something acknowledged is lost, or something spent gives again.
    pub async fn verify(&mut self, connection: &mut Connection, replay: bool) -> Result<Standing, Gone> {
        if self.code.is_none() {
            let code = oauth::consent(connection, &self.page).await?;
            assert!(
                self.unsure || code.is_some(),
                "a page that was shown can no longer be answered"
            );
            self.code = code.map(|code| (code, Instant::now()));
            self.unsure = false;
            if self.code.is_none() {
                return Ok(Standing::Over);
            }
        }
        let again = oauth::consent(connection, &self.page).await?;
        assert_eq!(again, None, "an answered page gave a second code");
        let Some((code, at)) = self.code.clone() else {
            return Ok(Standing::Over);
        };
        if self.refresh.is_empty() {
            if self.is_over() || at.elapsed() > FRESH {
                return Ok(Standing::Over);
            }
            let answer = oauth::redeem(connection, &self.client, &code).await?;
            let given = answer.status == StatusCode::OK;
            assert!(self.unsure || given, "a code that was given is lost: {}", answer.text);
            if !given {
                return Ok(Standing::Over);
            }
            self.keep(&answer);
        }
        self.verify_tokens(connection).await?;
        if self.is_over() || !replay {
            return Ok(if self.is_over() {
                Standing::Over
            } else {
                Standing::Lives
            });
        }
        let answer = oauth::redeem(connection, &self.client, &code).await?;
        assert_eq!(
            answer.field("error"),
            "invalid_grant",
            "a redeemed code: {}",
            answer.text
        );
        self.replayed = Replayed::Yes;
        self.verify_tokens(connection).await?;
        Ok(Standing::Over)
    }

    async fn verify_tokens(&mut self, connection: &mut Connection) -> Result<(), Gone> {
        let latest = self.refresh.last().cloned().unwrap_or_default();
        let bearer = format!("Bearer {}", self.access);
        let userinfo = connection.get("/userinfo", &[("authorization", &bearer)]).await?;
        let answer = oauth::refresh(connection, &self.client, &latest).await?;
        match self.replayed {
            Replayed::No => assert_eq!(
                (userinfo.status, answer.status),
                (StatusCode::OK, StatusCode::OK),
                "a grant that was given is lost: {} {}",
                userinfo.text,
                answer.text
            ),
            Replayed::Perhaps => {}
            Replayed::Yes => assert_eq!(
                (userinfo.status, answer.status),
                (StatusCode::UNAUTHORIZED, StatusCode::BAD_REQUEST),
                "the code was presented twice and the grant goes on: {} {}",
                userinfo.text,
                answer.text
            ),
        }
        if answer.status != StatusCode::OK {
            return Ok(());
        }
        // Once more, as from a second process of the client: the same successor, not another one.
        let again = oauth::refresh(connection, &self.client, &latest).await?;
        let successor = answer.field("refresh_token");
        assert_eq!(
            again.field("refresh_token"),
            successor,
            "one token, two successors: {}",
            again.text
        );
        if let [.., before, after] = self.refresh.as_slice() {
            let sealed = oauth::refresh(connection, &self.client, before).await?;
            assert_eq!(
                &sealed.field("refresh_token"),
                after,
                "a spent token, another successor: {}",
                sealed.text
            );
        }
        self.keep(&answer);
        Ok(())
    }
}
