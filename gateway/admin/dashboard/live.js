import { get, ofApp, post } from "./api.js";
import { h, problem } from "./dom.js";
import { entry } from "./entry.js";
import * as feed from "./feed.js";

const SHOWN = 300;
// Of what happened before: so many cursors back, of so many apps.
const BACK = 200, APPS = 8;

export async function live(view, [app0 = "", channel0 = ""]) {
  const { apps } = await get("v1/apps", { limit: 500 });
  const input = (label, value = "", more = {}) => { const field = h("input", { value, spellcheck: "false", maxlength: 200, ...more }); return [field, h("label", {}, label, field)]; };
  const app = h("select", {}, h("option", { value: "" }, "all apps"), apps.map((one) => h("option", { value: one.id }, one.id)));
  app.value = app0;
  const [channel, channelLabel] = input("Channel", channel0, { placeholder: "any; * is a wildcard" }), [socket, socketLabel] = input("Connection", "", { placeholder: "socket id" }), [event, eventLabel] = input("Event", "", { placeholder: "kind or name" });
  const list = h("ol", { class: "feed card", "aria-label": "Events, newest first" }), note = h("span", { class: "dim", role: "status" }), empty = h("p", { class: "empty" }, "Waiting for something to happen …");
  let paused = false, held = 0, skipped = 0, timer, turn = 0, old = new Set();
  const pause = h("button", { class: "quiet", "aria-pressed": "false", onclick: () => { paused = !paused; held = 0; pause.setAttribute("aria-pressed", paused); pause.textContent = paused ? "Go on" : "Pause"; say(); } }, "Pause");
  const say = () => { note.textContent = [paused && `paused, ${held} not shown`, skipped && `${skipped} skipped: more happens than can be shown, narrow the filter`].filter(Boolean).join("; "); };
  const add = (events) => { empty.hidden = true; list.prepend(...events.filter((one) => !old.has(one.id)).map(entry).reverse()); while (list.childNodes.length > SHOWN) list.lastChild.remove(); };
  const begin = async () => {
    const what = { app: app.value, channel: channel.value, socket_id: socket.value.trim(), event: event.value }, mine = ++turn;
    list.replaceChildren();
    skipped = 0;
    old = new Set();
    say();
    empty.hidden = false;
    feed.watch(what);
    const before = await past(what.app ? [what.app] : apps.slice(0, APPS).map((one) => one.id), what);
    if (mine !== turn || !before.length) return;
    old = new Set(before.map((one) => one.id));
    for (const line of [...list.children]) if (old.has(line.dataset.id)) line.remove();
    list.append(h("li", { class: "before" }, "Recorded before this page was opened:"), ...before.map(entry).reverse());
    empty.hidden = true;
  };
  const refilter = () => { clearTimeout(timer); timer = setTimeout(begin, 200); };
  const form = h("form", { class: "row", onsubmit: (submitted) => submitted.preventDefault(), oninput: refilter }, h("label", {}, "App", app), channelLabel, socketLabel, eventLabel, pause, h("button", { class: "quiet", type: "button", onclick: () => list.replaceChildren() }, "Clear"));
  const still = feed.listen((message) => {
    if (message.type !== "events") return;
    if (paused) held += message.events.length; else add(message.events);
    skipped += message.skipped;
    say();
  });
  view.replaceChildren(h("h1", {}, "Live"), publisher(apps, app0, channel0), form, h("p", {}, note), empty, list);
  begin();
  return () => { still(); turn++; clearTimeout(timer); feed.watch(null); };
}

// The newest of what is in the ledger and fits, oldest first; nothing where it cannot be read.
async function past(ids, { channel, socket_id: socket, event }) {
  const of = async (id) => {
    const target = ofApp(id, "webhooks", "events"), { cursor } = await get(target, { after: "latest" });
    return (await get(target, { after: Math.max(0, cursor - BACK), limit: BACK })).events;
  };
  const found = (await Promise.all(ids.map((id) => of(id).catch(() => [])))).flat();
  const fits = (pattern, name) => name !== undefined && pattern.test(name), onChannel = pattern(channel), called = pattern(event);
  return found
    .filter(({ event: kind, data }) => (!channel || fits(onChannel, data.channel)) && (!socket || data.socket_id === socket) && (!event || called.test(kind) || fits(called, data.event)))
    .sort((a, b) => (a.timestamp < b.timestamp ? -1 : a.timestamp > b.timestamp ? 1 : a.cursor - b.cursor))
    .slice(-BACK);
}

// As the gateway reads it: what has no wildcard is looked for anywhere.
function pattern(text) {
  const literal = (text.includes("*") ? text : `*${text}*`).replace(/[.+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${literal.replaceAll("*", "[^]*")}$`, "i");
}

function publisher(apps, app0, channel0) {
  const app = h("select", { id: "publish-app" }, apps.map((one) => h("option", { value: one.id }, one.id))), channel = h("input", { id: "publish-channel", required: true, value: channel0 }), name = h("input", { id: "publish-event", required: true }), data = h("textarea", { id: "publish-data" }), said = h("p", { role: "status" });
  if (app0) app.value = app0;
  data.value = '{"hello": "world"}';
  const form = h("form", { onsubmit: async (submitted) => {
    submitted.preventDefault();
    said.textContent = "";
    try { await post(ofApp(app.value, "events"), { name: name.value, channels: channel.value.split(/[\s,]+/).filter(Boolean), data: data.value }); said.textContent = "Published, and recorded."; } catch (error) { said.replaceChildren(problem(error)); }
  } }, h("div", { class: "row" }, h("label", {}, "App", app), h("label", {}, "Channels", channel), h("label", {}, "Event", name)), h("label", {}, "Data", data), h("p", {}, h("button", {}, "Publish")), said);
  return h("details", { class: "card", open: Boolean(channel0) }, h("summary", {}, "Publish an event"), form);
}
