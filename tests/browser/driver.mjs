// Drives Chromium through one scenario and prints what was seen, as JSON: node driver.mjs SCENARIO SETTING
import { createServer } from "node:http";
import { createRequire } from "node:module";

const { chromium } = createRequire(`${process.env.COUNTERSIGN_NPM}/`)("playwright-core");
const [scenario, text] = process.argv.slice(2);
const setting = JSON.parse(text);

// The application that waits on loopback; it notes every answer that reaches it.
const answers = [];
const callback = createServer(async (request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  let body = "";
  for await (const chunk of request) body += chunk;
  const answer = request.method === "POST" ? new URLSearchParams(body) : url.searchParams;
  if (url.pathname === "/callback") answers.push({ ...Object.fromEntries(answer), method: request.method });
  if (url.pathname === "/onward") {
    response.writeHead(303, { location: `http://localhost:${callback.address().port}/callback?${answer}` });
  }
  response.end("<!doctype html><title>Back in the application</title>");
});
await new Promise((resolve) => callback.listen(0, "127.0.0.1", resolve));
const callback6 = createServer((request, response) => callback.emit("request", request, response));
await new Promise((resolve) => callback6.listen(0, "::1", resolve));
const redirect = `http://127.0.0.1:${callback.address().port}/callback`;
const asked = (client_id, redirect_uri) => new URLSearchParams({
  response_type: "code",
  client_id,
  redirect_uri,
  resource: "https://mcp.example.com/mcp",
  state: "af0ifjsldkj",
  code_challenge: setting.challenge,
  code_challenge_method: "S256",
});
const link = (client_id, redirect_uri) => `${setting.issuer}/authorize?${asked(client_id, redirect_uri)}`;
const authorize = link(setting.client, redirect);

const mallory = JSON.stringify({ redirect_uris: ["https://evil.example/cb"], client_name: "Mallory" });

// Runs in a page: what is wider than the window or its own box, and text whose contrast is below 4.5 (WCAG 2.2 AA).
const unreadable = () => {
  const faults = [];
  const beyond = document.documentElement.scrollWidth - window.innerWidth;
  if (beyond > 0) faults.push(`the page is ${beyond} px wider than the window`);
  const colour = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const found = colour(getComputedStyle(element).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.checkVisibility?.() === false) continue;
    const name = `${element.localName} "${element.textContent.trim().slice(0, 40)}"`;
    if (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline") {
      faults.push(`${name} scrolls sideways`);
    }
    const [a, b] = [colour(getComputedStyle(element).color), ground(element)].map(luminance);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faults.push(`${name} has a contrast of ${contrast.toFixed(2)}`);
  }
  return faults;
};

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

const web = () => link(setting.web.client, setting.web.redirect);
// Alice consents to the application on the web and has that remembered.
const remember = async (link = web()) => {
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (request.url().startsWith(setting.web.redirect)) answers.push(Object.fromEntries(url.searchParams));
  });
  const visit = await context.newPage();
  await visit.goto(link);
  await visit.getByRole("checkbox").check();
  await visit.getByRole("button", { name: "Continue as alice" }).click();
  await until(() => answers.length > 0);
  // Nobody is there, and Chromium would try again after a while.
  await visit.close();
};
// The application is a page on this computer, and pushes what it asks for; the link that is left to open.
const push = async (client_id, redirect_uri) => {
  await page.goto(new URL(redirect).origin);
  const pushed = await page.evaluate(async ([url, form]) => {
    const answer = await fetch(url, { method: "POST", body: new URLSearchParams(form) });
    return [answer.status, await answer.json()];
  }, [`${setting.issuer}/par`, asked(client_id, redirect_uri).toString()]);
  const { request_uri } = pushed[1];
  return { pushed, link: `${setting.issuer}/authorize?${new URLSearchParams({ client_id, request_uri })}` };
};
// Sends a form as another page would: from its top window, and from a sandboxed frame, whose Origin is "null".
const forge = async (action, fields) => {
  const post = ([url, fields]) => {
    const form = Object.assign(document.createElement("form"), { method: "post", action: url, target: "_top" });
    for (const [name, value] of Object.entries(fields)) {
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
    }
    document.body.append(form);
    form.submit();
  };
  // Later, so that nobody waits in a page that goes away.
  const script = `setTimeout(() => (${post})(${JSON.stringify([setting.issuer + action, fields])}))`;
  statuses.length = 0;
  for (const [attempt, sandboxed] of [false, true].entries()) {
    const other = await context.newPage();
    await other.goto(setting.evil);
    await other.evaluate(([script, sandboxed]) => {
      const frame = {
        sandbox: "allow-scripts allow-forms allow-top-navigation", srcdoc: `<body><script>${script}</script>`,
      };
      const element = document.createElement(sandboxed ? "iframe" : "script");
      document.body.append(Object.assign(element, sandboxed ? frame : { text: script }));
    }, [script, sandboxed]);
    await until(() => statuses.length > attempt);
  }
  return [...statuses];
};

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

  // The same with a reference in place of the request, which is opened once more when it has been answered.
  async pushed() {
    const { pushed, link } = await push(setting.client, redirect);
    await page.goto(link);
    const question = await page.innerText("main");
    await page.getByRole("button", { name: "Continue as alice" }).click();
    await until(() => answers.length > 0);
    await page.waitForURL(`${redirect}?**`);
    const title = await page.title();
    await page.goto(link);
    return { ...seen(), pushed, link, question, title, again: await page.innerText("main") };
  },

  // Pushed requests of the application on the web: one with a click that is remembered, one that needs none.
  async pushed_remembered() {
    await remember((await push(setting.web.client, setting.web.redirect)).link);
    const { link } = await push(setting.web.client, setting.web.redirect);
    statuses.length = 0;
    await page.goto(link).catch(() => page.waitForURL("chrome-error://chromewebdata/"));
    await until(() => answers.length > 1);
    const silent = [...statuses];
    await page.goto(link);
    await pause(300);
    return { ...seen(), silent, again: await page.innerText("main") };
  },

  async cancel() {
    await page.goto(authorize);
    await page.getByRole("button", { name: "Cancel" }).click();
    await until(() => answers.length > 0);
    return seen();
  },

  // Every page, wide and on the narrowest phone, light and dark: what a person could not read of it.
  async pages() {
    await remember();
    const all = [
      ["landing", "/"],
      ["trust", "/ca"],
      ["refusal", "/authorize?client_id=nobody"],
      ["consent", authorize.slice(setting.issuer.length)],
      ["consent-remember", `${web().slice(setting.issuer.length)}&prompt=consent`],
      ["me", "/me"],
      ["logout", "/logout"],
      ["explain", "/policy/explain"],
      ["explained", `/policy/explain?client=${setting.client}&resource=https://mcp.example.com/mcp`],
    ];
    statuses.length = 0;
    const faults = [];
    for (const [name, path] of all) {
      await page.setViewportSize({ width: 900, height: 760 });
      await page.goto(setting.issuer + path);
      await shoot(page, name);
      await page.setViewportSize({ width: 360, height: 760 });
      await shoot(page, `${name}-phone`);
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        for (const fault of await page.evaluate(unreadable)) faults.push(`${name}, ${colorScheme}: ${fault}`);
      }
    }
    return { ...seen(), faults };
  },

  // An application behind a web server, from the first click to logout; its answers are seen on their way there.
  async session() {
    const app = "https://app.example/callback";
    context.on("request", (request) => {
      if (request.url().startsWith(app)) answers.push(Object.fromEntries(new URL(request.url()).searchParams));
    });
    const login = new URL(authorize);
    login.searchParams.set("redirect_uri", app);
    login.searchParams.set("scope", "openid profile mcp:read");
    const silent = new URL(login);
    silent.searchParams.set("prompt", "none");
    // Nobody is at the application's address: the browser shows an error page of its own.
    const open = (url) => page.goto(url.href).catch(() => page.waitForURL("chrome-error://chromewebdata/"));

    await open(silent);
    await until(() => answers.length === 1);
    await open(login);
    await page.getByLabel("Do not ask me this again").check();
    await shoot(page, "consent-remember");
    await page.getByRole("button", { name: "Continue as alice" }).click();
    await until(() => answers.length === 2);
    await open(silent);
    await until(() => answers.length === 3);
    await open(login);
    await until(() => answers.length === 4);

    // Bob's page tries the same as a part of itself, where nobody would notice.
    const evil = await context.newPage();
    await evil.goto(setting.evil);
    await evil.evaluate(async (url) => {
      await fetch(url, { mode: "no-cors", credentials: "include" }).catch(() => {});
      for (const name of ["img", "iframe"]) {
        const part = document.createElement(name);
        await new Promise((resolve) => {
          part.onload = part.onerror = resolve;
          part.src = url;
          document.body.append(part);
        });
      }
    }, silent.href);
    const before = answers.length;

    const faults = [];
    const look = async (name) => {
      await page.setViewportSize({ width: 900, height: 760 });
      await shoot(page, name);
      await page.setViewportSize({ width: 360, height: 760 });
      await shoot(page, `${name}-phone`);
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        for (const fault of await page.evaluate(unreadable)) faults.push(`${name}, ${colorScheme}: ${fault}`);
      }
    };
    await page.goto(`${setting.issuer}/me`);
    await look("me");
    const mine = await page.innerText("main");
    const cookies = (await context.cookies()).map(({ name, httpOnly, sameSite, secure }) => [name, httpOnly, sameSite, secure]);
    await page.goto(`${setting.issuer}/logout?client_id=${setting.client}`);
    await look("logout");
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByText("Logged out").first().waitFor();
    await look("logged-out");
    await open(silent);
    await until(() => answers.length > before);
    await page.goto(`${setting.issuer}/me`);
    await page.getByRole("button", { name: "End everything" }).click();
    await page.getByText("None: every application asks you each time.").waitFor();
    await look("me-empty");
    return { answers, before, mine, cookies, faults };
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

  // The page that posts the answer: by its script, and by its button where scripts are off.
  async form_post() {
    await page.goto(`${authorize}&response_mode=form_post`);
    await page.getByRole("button", { name: "Continue as alice" }).click();
    await until(() => answers.length > 0);
    const still = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 360, height: 760 } });
    const scriptless = await still.newPage();
    await scriptless.goto(`${authorize}&response_mode=form_post`);
    await scriptless.getByRole("button", { name: "Continue as alice" }).click();
    await scriptless.getByRole("button", { name: "Continue", exact: true }).waitFor();
    await shoot(scriptless, "form-post-phone");
    const faults = await scriptless.evaluate(unreadable);
    await scriptless.getByRole("button", { name: "Continue", exact: true }).click();
    await until(() => answers.length > 1);
    return { ...seen(), faults };
  },

  // The application sends the browser on to another host of its own, and listens on IPv6.
  async onward() {
    const onward = redirect.replace("/callback", "/onward");
    const links = [
      link(setting.client, onward),
      `${link(setting.client, onward)}&response_mode=form_post`,
      link(setting.client, `http://[::1]:${callback6.address().port}/callback`),
    ];
    for (const [before, link] of links.entries()) {
      await page.goto(link);
      await page.getByRole("button", { name: "Continue as alice" }).click();
      await until(() => answers.length > before);
      await page.waitForURL("**/callback?**");
    }
    return seen();
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

  // The most that alice can give away: a session, and a consent that is remembered, to an application on the web. Its
  // site does not exist; what counts is which answers the browser was sent there with, from whatever part of a page.
  async remembered() {
    await remember();
    const asked = web();
    const visit = await context.newPage();
    await visit.goto(`${asked}&prompt=none`).catch(() => {});
    await until(() => answers.length > 1);
    const whole = answers.splice(0).at(-1);
    const cats = await context.newPage();
    await cats.goto(setting.evil);
    await cats.evaluate(async (urls) => {
      const element = (name, src) => new Promise((resolve) => {
        const made = Object.assign(document.createElement(name), { src });
        made.onload = made.onerror = resolve;
        document.body.append(made);
      });
      for (const url of urls) {
        await element("iframe", url);
        await element("img", url);
        await element("script", url);
        await fetch(url, { mode: "no-cors", credentials: "include" }).catch(() => {});
      }
    }, [asked, `${asked}&prompt=none`]);
    await pause(300);
    return { ...seen(), whole };
  },

  // The worst case: the page knows the ticket, and the cookie is in this browser.
  async forgery() {
    await page.goto(authorize);
    const ticket = await page.inputValue("input[name=ticket]");
    await forge("/authorize/consent", { ticket, choice: "allow" });
    const forged = { answers: [...answers], statuses: [...statuses] };
    await page.getByRole("button", { name: "Continue as alice" }).click();
    await until(() => answers.length > 0);
    return { forged, ...seen() };
  },

  // The same on the pages by which alice takes back what she gave, and logs out.
  async takeaway() {
    await remember();
    await page.goto(`${setting.issuer}/me`);
    const forms = await page.locator("form:has(button[name=end])").evaluateAll((forms) =>
      forms.map((form) => ({ ...Object.fromEntries(new FormData(form)), end: form.querySelector("button[name=end]").value })));
    const ended = await forge("/me", forms[0]);
    await page.goto(`${setting.issuer}/logout`);
    const ticket = await page.inputValue("input[name=ticket]");
    const left = await forge("/logout/answer", { ticket, choice: "leave" });
    await page.goto(`${setting.issuer}/me`);
    const still = await page.locator("form:has(button[name=end])").count();
    // Her own click does what the forged ones did not.
    await page.goto(`${setting.issuer}/logout`);
    await page.getByRole("button", { name: "Log out" }).click();
    await page.waitForURL("**/logout/answer");
    await page.goto(`${setting.issuer}/me`);
    return { forms: forms.length, ended, left, still, after: await page.locator("form:has(button[name=end])").count() };
  },

  // Requests that a page may send to anybody without asking (a form's, or a text), and without reading the answer.
  async simple_registration() {
    await page.goto(setting.evil);
    const read = await page.evaluate(async ([url, body]) => {
      const simple = { method: "POST", mode: "no-cors", credentials: "include", body };
      const types = [undefined, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];
      for (const type of types) {
        await fetch(url, { ...simple, headers: type ? { "content-type": type } : {} }).catch(() => {});
      }
      return fetch(url, { method: "POST", body }).then((response) => response.text(), () => null);
    }, [`${setting.issuer}/register`, mallory]);
    return { ...seen(), read };
  },

  // The right content type, for which the browser asks the server first.
  async registration_fetch() {
    await page.goto(setting.evil);
    const read = await page.evaluate(async ([url, body]) => {
      const json = { method: "POST", body, headers: { "content-type": "application/json" } };
      return fetch(url, json).then((response) => response.text(), () => null);
    }, [`${setting.issuer}/register`, mallory]);
    return { ...seen(), read };
  },

  // A name of bob's own leads to his page, and from then on to the server: for the browser it is one origin.
  async rebinding() {
    await page.goto(`http://${setting.rebinding}/`);
    const query = new URL(authorize).search;
    const replies = await page.evaluate(async ([query, body]) => {
      await fetch("/rebind");
      const ask = (path, options) =>
        fetch(path, options).then(async (response) => [response.status, await response.text()], (error) => [0, String(error)]);
      const json = { "content-type": "application/json" };
      return {
        landing: await ask("/"),
        authorize: await ask(`/authorize${query}`),
        register: await ask("/register", { method: "POST", body, headers: json }),
        token: await ask("/token", { method: "POST", body: new URLSearchParams({ grant_type: "client_credentials" }) }),
      };
    }, [query, mallory]);
    return { ...seen(), replies };
  },

  // The same where the server speaks https: bob's name must already fail in the TLS handshake.
  async rebinding_https() {
    await page.goto(`http://${setting.rebinding}/`);
    await page.evaluate(() => fetch("/rebind"));
    const other = await context.newPage();
    const opened = await other.goto(`https://${setting.rebinding}/`).then(() => "opened", (error) => String(error));
    const read = await page.evaluate(
      (url) => fetch(url).then((response) => response.text(), () => null), `https://${setting.rebinding}/register`);
    return { ...seen(), opened, read };
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
  for (const server of [callback, callback6]) {
    server.close();
    server.closeAllConnections();
  }
}
