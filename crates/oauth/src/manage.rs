//! The life of a client after its registration (RFC 7592): read, replace, delete.
//!
//! Whoever holds the registration token may, on a node of the client's owner: a token that leaks to somebody else's
//! node is of no use there.

use time::OffsetDateTime;

use crate::{
    caller::Caller,
    client::Client,
    error::{ErrorCode, OAuthError},
    register::{self, Request},
};

/// Whether `presented`, the bearer token of a request of `caller`, may manage `client`.
///
/// # Errors
/// `invalid_token`, in the same words whatever is wrong.
pub fn admit<'a>(
    client: Option<&'a Client>,
    presented: Option<&str>,
    caller: &Caller,
) -> Result<&'a Client, OAuthError> {
    client
        .filter(|client| {
            let proven = client
                .registration_token
                .zip(presented)
                .is_some_and(|(hash, text)| hash.verify(text));
            proven && client.owner == caller.owner()
        })
        .ok_or_else(|| {
            OAuthError::new(
                ErrorCode::InvalidToken,
                "the client is unknown, the registration access token is wrong, or this node is not its owner's",
            )
        })
}

/// `client` with the metadata of `request` in place of its own. Who it is, how it authenticates and whose it is stay;
/// what an administrator published stays published only if nothing changed.
///
/// # Errors
/// `invalid_client_metadata` when the request names another client, or another way to authenticate: that needs a
/// registration of its own.
pub fn replace(client: &Client, request: Request, caller: &Caller, now: OffsetDateTime) -> Result<Client, OAuthError> {
    let invalid = |description: &str| OAuthError::new(ErrorCode::InvalidClientMetadata, description);
    if request.client_id.as_deref().is_some_and(|id| id != client.id.as_str()) {
        return Err(invalid("client_id differs from the client at this address"));
    }
    if request.auth_method != client.auth_method {
        return Err(invalid(
            "token_endpoint_auth_method cannot be changed; register another client",
        ));
    }
    register::admit_tsidp_claims(&request, client.tsidp_claims, caller, now)?;
    let changed = Client {
        redirect_uris: request.redirect_uris,
        post_logout_redirect_uris: request.post_logout_redirect_uris,
        grant_types: request.grant_types,
        application_type: request.application_type,
        scope: request.scope,
        signing_alg: request.signing_alg,
        tsidp_claims: request.tsidp_claims,
        descriptions: request.descriptions,
        options: request.options,
        ..client.clone()
    };
    let published = client.published.clone().filter(|_| changed == *client);
    Ok(Client { published, ..changed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        publish::Publication,
        secret::SecretHash,
        tests_support::{alice, alice_with, bob, public_client},
    };

    fn client() -> Client {
        Client {
            registration_token: Some(SecretHash::of("token")),
            ..public_client()
        }
    }

    #[test]
    fn the_owner_with_the_token_manages_and_nobody_else() {
        let client = client();
        assert!(admit(Some(&client), Some("token"), &alice()).is_ok());
        for refused in [
            admit(Some(&client), Some("token"), &bob()),
            admit(Some(&client), Some("other"), &alice()),
            admit(Some(&client), None, &alice()),
            admit(Some(&public_client()), Some("token"), &alice()),
            admit(None, Some("token"), &alice()),
        ] {
            assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidToken);
        }
    }

    fn replaced(client: &Client, body: &str, caller: &Caller) -> Result<Client, OAuthError> {
        let request = Request::parse(body.as_bytes()).unwrap();
        replace(client, request, caller, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn metadata_is_replaced_and_identity_stays() {
        let body =
            r#"{"client_id":"c1","redirect_uris":["https://new.example/cb"],"token_endpoint_auth_method":"none"}"#;
        let changed = replaced(&client(), body, &alice()).unwrap();
        assert_eq!(changed.redirect_uris[0].as_str(), "https://new.example/cb");
        assert_eq!((&changed.id, &changed.owner), (&client().id, &client().owner));
        let published = Client {
            published: Some(Publication {
                by: "root".into(),
                at: time::OffsetDateTime::UNIX_EPOCH,
            }),
            ..changed.clone()
        };
        let put = |body: &str| replaced(&published, body, &alice()).unwrap();
        assert_eq!(put(body), published, "what was published is still the same");
        assert_eq!(put(&body.replace("new", "evil")).published, None);
        for bad in [
            body.replace("c1", "c2"),
            body.replace("\"none\"", "\"client_secret_post\""),
        ] {
            assert!(replaced(&client(), &bad, &alice()).is_err());
        }
    }

    #[test]
    fn tsidps_claims_stay_but_come_only_by_an_administrator() {
        let body =
            r#"{"redirect_uris":["https://new.example/cb"],"token_endpoint_auth_method":"none","tsidp_claims":true}"#;
        let error = replaced(&client(), body, &alice()).unwrap_err();
        assert!(error.description().contains("allow_admin_ui"), "{error:?}");
        let administrator = alice_with(&[r#"{"allow_admin_ui":true}"#]);
        let changed = replaced(&client(), body, &administrator).unwrap();
        assert!(changed.tsidp_claims);
        assert!(replaced(&changed, body, &alice()).unwrap().tsidp_claims);
        let without = body.replace("true", "false");
        assert!(!replaced(&changed, &without, &alice()).unwrap().tsidp_claims);
    }
}
