import { get, post } from "./api.js";
import { h, path, problem } from "./dom.js";
import * as feed from "./feed.js";
import { channels } from "./channels.js";
import { connections } from "./connections.js";
import { live } from "./live.js";
import { overview } from "./overview.js";
import { webhooks } from "./webhooks.js";

// A page is a function that fills an element and returns what must be done when it is left.
const pages = { overview, live, channels, connections, webhooks };
const main = document.getElementById("main"), nav = document.getElementById("nav"), line = document.getElementById("line");
let leave = () => {}, turn = 0, hasFailed = false;

for (const name of Object.keys(pages)) nav.append(h("a", { href: path(name) }, name[0].toUpperCase() + name.slice(1)));

function decoded(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

async function go(isFirst) {
  const parts = location.hash.slice(2).split("/").map(decoded), name = Object.hasOwn(pages, parts[0]) ? parts[0] : "overview", mine = ++turn;
  leave();
  leave = () => {};
  hasFailed = false;
  for (const a of nav.children) a.hash === path(name) ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · RawPush`;
  const view = h("div", {}, h("p", { class: "dim" }, "Loading …"));
  main.replaceChildren(view);
  if (isFirst !== true) main.focus({ preventScroll: true });
  try {
    const left = (await pages[name](view, parts.slice(1))) ?? (() => {});
    if (mine === turn) leave = left;
    else left();
  } catch (error) {
    hasFailed = mine === turn;
    view.replaceChildren(problem(error), h("button", { class: "quiet", onclick: go }, "Try again"));
  }
}

feed.listen((message) => {
  if (message.type === "hello") {
    document.getElementById("node").textContent = message.node;
    if (hasFailed) go();
  }
  if (message.type === "open") line.textContent = "● live";
  if (message.type === "closed") line.textContent = "○ no connection; trying again";
});
feed.open();
const logout = document.getElementById("logout");
get("v1/session").then((session) => { logout.hidden = !session.login; }, () => {});
logout.addEventListener("click", () => post("logout").then(() => location.assign("login"), (error) => { line.textContent = error.message; }));
addEventListener("hashchange", go);
go(true);
