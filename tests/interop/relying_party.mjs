// An application that is written with openid-client, one step a run: node relying_party.mjs STEP SETTING.
// Prints what the step gave as JSON; what the application keeps from step to step comes in and goes out as `held`.
import { createRequire } from "node:module";

const require = createRequire(`${process.env.COUNTERSIGN_NPM}/`);
const oidc = require("openid-client");
const jose = require("jose");
const [step, text] = process.argv.slice(2);
const setting = JSON.parse(text);
const held = setting.held;

// The bodies that the library sent, as somebody who saw them would have them.
const sent = [];
const recorded = (url, options) => {
  if (options.body) sent.push([new URL(url).pathname, String(options.body)]);
  return fetch(url, options);
};
const options = { [oidc.customFetch]: recorded };
const issuer = new URL(setting.issuer);

// The server as its metadata describes it, with the application's own key as its proof.
const discovered = async () => {
  const key = await crypto.subtle.importKey("jwk", held.key, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
  const proof = oidc.PrivateKeyJwt({ key, kid: held.key.kid });
  const config = await oidc.discovery(issuer, held.client.client_id, held.client, proof, options);
  // Without this the library takes the id_token's word because of whom it has it from.
  oidc.enableNonRepudiationChecks(config);
  return config;
};
const given = (tokens) => ({
  access_token: tokens.access_token, refresh_token: tokens.refresh_token, scope: tokens.scope, id: tokens.claims(), sent,
});

const steps = {
  async register() {
    const { publicKey, privateKey } = await jose.generateKeyPair("ES256", { extractable: true });
    const kid = "application-1";
    const jwks = { keys: [{ ...(await jose.exportJWK(publicKey)), kid, alg: "ES256", use: "sig" }] };
    const metadata = { ...setting.metadata, token_endpoint_auth_method: "private_key_jwt", jwks };
    const config = await oidc.dynamicClientRegistration(issuer, metadata, oidc.None(), options);
    const client = config.clientMetadata();
    return { client, held: { client, key: { ...(await jose.exportJWK(privateKey)), kid } } };
  },

  async push() {
    const verifier = oidc.randomPKCECodeVerifier();
    const [state, nonce] = [oidc.randomState(), oidc.randomNonce()];
    const link = await oidc.buildAuthorizationUrlWithPAR(await discovered(), {
      redirect_uri: held.client.redirect_uris[0], scope: "openid offline_access mcp:tools", state, nonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256",
    });
    return { path: link.pathname + link.search, sent, held: { ...held, verifier, state, nonce } };
  },

  async redeem() {
    return given(await oidc.authorizationCodeGrant(await discovered(), new URL(setting.location), {
      pkceCodeVerifier: held.verifier, expectedState: held.state, expectedNonce: held.nonce, idTokenExpected: true,
    }));
  },

  refresh: async () => given(await oidc.refreshTokenGrant(await discovered(), setting.token)),
  introspect: async () => oidc.tokenIntrospection(await discovered(), setting.token),
  revoke: async () => oidc.tokenRevocation(await discovered(), setting.token).then(() => ({})),

  // What a resource server does with a signed token: the published key, the type, the issuer, the audience, the time.
  async verify() {
    const keys = new URL((await discovered()).serverMetadata().jwks_uri);
    const checks = { issuer: setting.issuer, audience: setting.audience, typ: "at+jwt", algorithms: ["ES256"] };
    const { payload, protectedHeader } = await jose.jwtVerify(setting.token, jose.createRemoteJWKSet(keys), checks);
    return { claims: payload, kid: protectedHeader.kid };
  },

  async keys() {
    const answer = await fetch((await discovered()).serverMetadata().jwks_uri);
    return { kids: (await answer.json()).keys.filter((key) => key.alg === "ES256").map((key) => key.kid) };
  },

  // The same body once more, from the same machine.
  async resend() {
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const answer = await fetch(issuer.origin + setting.path, { method: "POST", headers, body: setting.body });
    return { status: answer.status, ...(await answer.json()) };
  },
};

// A refusal by the server is an answer; whatever else goes wrong ends the run.
const refusal = (error) => {
  if (!(error instanceof oidc.ResponseBodyError)) throw error;
  return { refused: error.error, status: error.status, why: error.error_description };
};
console.log(JSON.stringify(await steps[step]().catch(refusal)));
