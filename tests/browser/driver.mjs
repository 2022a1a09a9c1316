// Drives Chromium through one scenario and prints what was seen, as JSON: node driver.mjs SCENARIO SETTING
import { createServer } from "node:http";
import { createRequire } from "node:module";

const { chromium } = createRequire(`${process.env.COUNTERSIGN_NPM}/`)("playwright-core");
const [scenario, text] = process.argv.slice(2);
const setting = JSON.parse(text);

// The application that waits on loopback; it notes every answer that reaches it.
const answers = [];
const callback = createServer((request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  if (url.pathname === "/callback") answers.push(Object.fromEntries(url.searchParams));
  response.end("<!doctype html><title>Back in the application</title>");
});
await new Promise((resolve) => callback.listen(0, "127.0.0.1", resolve));
const redirect = `http://127.0.0.1:${callback.address().port}/callback`;
const authorize = `${setting.issuer}/authorize?${new URLSearchParams({
  response_type: "code",
  client_id: setting.client,
  redirect_uri: redirect,
  resource: "https://mcp.example.com/mcp",
  state: "af0ifjsldkj",
  code_challenge: setting.challenge,
  code_challenge_method: "S256",
})}`;

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", `--proxy-server=${setting.proxy}`, ...(setting.flags ?? []),
  ],
});
const context = await browser.newContext({ viewport: { width: 900, height: 760 } });
const page = await context.newPage();
// The statuses with which the server answered, by path.
const statuses = [];
context.on("response", (response) => {
  const url = new URL(response.url());
  if (url.origin === setting.issuer && url.pathname !== "/style.css") statuses.push([url.pathname, response.status()]);
});

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const until = async (condition) => {
  for (let waited = 0; !condition() && waited < 20_000; waited += 20) await pause(20);
};
const shoot = async (target, name) => {
  for (const colorScheme of ["light", "dark"]) {
    await target.emulateMedia({ colorScheme });
    await target.screenshot({ path: `${setting.shots}/${name}-${colorScheme}.png`, fullPage: true });
  }
};
const seen = () => ({ answers, statuses });

const scenarios = {
  async person() {
    await page.goto(authorize);
    await shoot(page, "consent");
    const question = await page.innerText("main");
    await page.getByRole("button", { name: "Continue as alice" }).click();
    await until(() => answers.length > 0);
    await page.waitForURL(`${redirect}?**`);
    return { ...seen(), question, title: await page.title() };
  },

  async cancel() {
    await page.goto(authorize);
    await page.getByRole("button", { name: "Cancel" }).click();
    await until(() => answers.length > 0);
    return seen();
  },

  async pages() {
    for (const [path, name] of [["/", "landing"], ["/ca", "trust"], ["/authorize?client_id=nobody", "refusal"]]) {
      await page.goto(setting.issuer + path);
      await shoot(page, name);
    }
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto(authorize);
    await shoot(page, "consent-phone");
    // A page wider than its window cannot be read on a phone.
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    return { ...seen(), overflow };
  },

  // A newcomer does what `countersign demo` says.
  async demo() {
    await page.goto(setting.start);
    await shoot(page, "demo-welcome");
    await page.getByRole("link", { name: "Use echo as me" }).click();
    const title = await page.title();
    const question = await page.innerText("main");
    if (await page.getByRole("button").count() === 0) {
      await shoot(page, "demo-refused");
      return { title, question };
    }
    await shoot(page, "demo-consent");
    await page.getByRole("button", { name: "Continue as alice" }).click();
    await page.waitForURL(`${setting.start}callback?**`);
    await shoot(page, "demo-done");
    return { title, question, received: await page.innerText("main") };
  },

  async iframe() {
    await page.goto(setting.evil);
    await page.evaluate((url) => {
      const frame = Object.assign(document.createElement("iframe"), { src: url });
      document.body.append(frame);
      return new Promise((resolve) => (frame.onload = frame.onerror = resolve));
    }, authorize);
    const button = await page.frames().at(-1).getByRole("button").count();
    return { ...seen(), button };
  },

  async image() {
    await page.goto(setting.evil);
    // Chromium keeps the answer from the page, and from Playwright too: only its raw headers tell the status.
    const devtools = await context.newCDPSession(page);
    await devtools.send("Network.enable");
    let sent;
    devtools.on("Network.requestWillBeSent", ({ requestId, request }) => {
      if (request.url === authorize) sent = requestId;
    });
    devtools.on("Network.responseReceivedExtraInfo", ({ requestId, statusCode }) => {
      if (requestId === sent) statuses.push(["/authorize", statusCode]);
    });
    const loaded = await page.evaluate((url) => {
      const image = Object.assign(document.createElement("img"), { src: url });
      document.body.append(image);
      return new Promise((resolve) => {
        image.onload = () => resolve(true);
        image.onerror = () => resolve(false);
      });
    }, authorize);
    await until(() => statuses.length > 0);
    return { ...seen(), loaded };
  },

  async fetch() {
    await page.goto(setting.evil);
    const read = await page.evaluate(async (url) => {
      await fetch(url, { mode: "no-cors", credentials: "include" }).catch(() => {});
      return fetch(url, { credentials: "include" }).then((response) => response.text(), () => null);
    }, authorize);
    return { ...seen(), read };
  },

  // The worst case: the page knows the ticket, and the cookie is in this browser.
  async forgery() {
    await page.goto(authorize);
    const ticket = await page.inputValue("input[name=ticket]");
    const other = await context.newPage();
    await other.goto(setting.evil);
    statuses.length = 0;
    const post = ([url, ticket]) => {
      const form = Object.assign(document.createElement("form"), { method: "post", action: url, target: "_top" });
      for (const [name, value] of Object.entries({ ticket, choice: "allow" })) {
        form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
      }
      document.body.append(form);
      form.submit();
    };
    const target = [`${setting.issuer}/authorize/consent`, ticket];
    await Promise.all([other.waitForURL(target[0]), other.evaluate(post, target)]);
    // The same from a sandboxed frame, whose Origin is "null".
    await other.goto(setting.evil);
    await other.evaluate(([script, target]) => {
      const frame = document.createElement("iframe");
      frame.sandbox = "allow-scripts allow-forms allow-top-navigation";
      frame.srcdoc = `<body><script>(${script})(${JSON.stringify(target)})</script>`;
      document.body.append(frame);
    }, [post.toString(), target]);
    await until(() => statuses.length > 1);
    const forged = { answers: [...answers], statuses: [...statuses] };
    await page.getByRole("button", { name: "Continue as alice" }).click();
    await until(() => answers.length > 0);
    return { forged, ...seen() };
  },

  async registration() {
    await page.goto(setting.evil);
    const read = await page.evaluate(async (url) => {
      const body = JSON.stringify({ redirect_uris: ["https://evil.example/cb"], client_name: "Mallory" });
      const simple = { method: "POST", mode: "no-cors", credentials: "include", body };
      await fetch(url, simple).catch(() => {});
      await fetch(url, { ...simple, headers: { "content-type": "text/plain" } }).catch(() => {});
      const json = { method: "POST", body, headers: { "content-type": "application/json" } };
      return fetch(url, json).then((response) => response.text(), () => null);
    }, `${setting.issuer}/register`);
    return { ...seen(), read };
  },

  // The page has the code of a flow that the user completed, though not the verifier, which never leaves the client.
  async token() {
    await scenarios.person();
    const code = answers[0].code;
    await page.goto(setting.evil);
    statuses.length = 0;
    const replies = await page.evaluate(async ([issuer, client_id, code, redirect_uri]) => {
      const ask = (path, form) =>
        fetch(issuer + path, { method: "POST", body: new URLSearchParams(form) })
          .then(async (response) => [response.status, await response.json()], (error) => [0, String(error)]);
      const grant = { grant_type: "authorization_code", client_id, code, redirect_uri };
      return [
        await ask("/token", grant),
        await ask("/token", { ...grant, code_verifier: "a".repeat(43) }),
        await ask("/token", { grant_type: "client_credentials", client_id }),
        await ask("/introspect", { token: code }),
      ];
    }, [setting.issuer, setting.client, code, redirect]);
    return { ...seen(), replies };
  },
};

try {
  console.log(JSON.stringify(await scenarios[scenario]()));
} finally {
  await browser.close();
  callback.close();
  callback.closeAllConnections();
}
