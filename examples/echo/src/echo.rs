//! The one tool: it gives back what it got, and says who asked.

use http::request::Parts;
use rmcp::{
    ErrorData, Json, ServerHandler,
    handler::server::{common::Extension, wrapper::Parameters},
    model::{Implementation, ServerCapabilities, ServerConfig},
    schemars, tool, tool_handler, tool_router,
};
use serde::{Deserialize, Serialize};
use tailnet_node::{Caller, Identity, Who};

/// The MCP server.
#[derive(Debug, Clone)]
pub(crate) struct Echo;

/// What to give back.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(crate) struct EchoRequest {
    /// Any text
    text: String,
}

/// The text, and the caller as the tailnet knows it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct EchoAnswer {
    /// The text that came in
    text: String,
    /// Login of the owner of the calling node; absent for a tagged node
    user: Option<String>,
    /// How the owner is called; absent for a tagged node
    display_name: Option<String>,
    /// Tags of the calling node; empty for a node that a user owns
    tags: Vec<String>,
    /// MagicDNS name of the calling node
    node: String,
    /// Its stable id
    node_id: String,
    /// Its tailnet addresses
    addresses: Vec<String>,
    /// Names of the application capabilities that the policy grants it here
    capabilities: Vec<String>,
}

#[tool_router]
impl Echo {
    #[tool(description = "Gives the text back, and says who is calling as the tailnet knows it")]
    fn echo(
        &self,
        Parameters(request): Parameters<EchoRequest>,
        Extension(parts): Extension<Parts>,
    ) -> Result<Json<EchoAnswer>, ErrorData> {
        let refuse = |text: String| ErrorData::invalid_request(text, None);
        let caller = parts
            .extensions
            .get::<Caller>()
            .ok_or_else(|| refuse("no caller".to_owned()))?;
        let identity = caller.identity().map_err(|withdrawn| refuse(withdrawn.to_string()))?;
        tracing::info!(node = %identity.node_name, "echo");
        Ok(Json(answer(request.text, &identity)))
    }
}

fn answer(text: String, identity: &Identity) -> EchoAnswer {
    let (user, display_name, tags) = match &identity.who {
        Who::User {
            login, display_name, ..
        } => (Some(login.to_string()), Some(display_name.to_string()), Vec::new()),
        Who::Tagged(tags) => (None, None, tags.iter().map(ToString::to_string).collect()),
    };
    EchoAnswer {
        text,
        user,
        display_name,
        tags,
        node: identity.node_name.to_string(),
        node_id: identity.stable_id.to_string(),
        addresses: identity.addresses.iter().map(ToString::to_string).collect(),
        capabilities: identity.capabilities.names().map(ToString::to_string).collect(),
    }
}

#[tool_handler]
impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("countersign-echo", env!("CARGO_PKG_VERSION")))
            .with_instructions("Ask `echo` who you are on the tailnet.")
    }
}
