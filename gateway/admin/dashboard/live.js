import { get, ofApp, post } from "./api.js";
import { h, problem } from "./dom.js";
import { entry } from "./entry.js";
import * as feed from "./feed.js";

const SHOWN = 300;

export async function live(view, [app0 = "", channel0 = ""]) {
  const { apps } = await get("v1/apps", { limit: 500 });
  const input = (label, value = "", more = {}) => { const field = h("input", { value, spellcheck: "false", maxlength: 200, ...more }); return [field, h("label", {}, label, field)]; };
  const app = h("select", {}, h("option", { value: "" }, "all apps"), apps.map((one) => h("option", { value: one.id }, one.id)));
  app.value = app0;
  const [channel, channelLabel] = input("Channel", channel0, { placeholder: "any; * is a wildcard" }), [socket, socketLabel] = input("Connection", "", { placeholder: "socket id" }), [event, eventLabel] = input("Event", "", { placeholder: "kind or name" });
  const list = h("ol", { class: "feed card", "aria-label": "Events, newest first" }), note = h("span", { class: "dim", role: "status" }), empty = h("p", { class: "empty" }, "Waiting for something to happen …");
  let paused = false, held = 0, skipped = 0, timer;
  const pause = h("button", { class: "quiet", "aria-pressed": "false", onclick: () => { paused = !paused; held = 0; pause.setAttribute("aria-pressed", paused); pause.textContent = paused ? "Go on" : "Pause"; say(); } }, "Pause");
  const say = () => { note.textContent = [paused && `paused, ${held} not shown`, skipped && `${skipped} skipped: more happens than can be shown, narrow the filter`].filter(Boolean).join("; "); };
  const add = (events) => { empty.hidden = true; list.prepend(...events.map(entry).reverse()); while (list.childNodes.length > SHOWN) list.lastChild.remove(); };
  const refilter = () => { clearTimeout(timer); timer = setTimeout(() => { list.replaceChildren(); skipped = 0; say(); empty.hidden = false; feed.watch({ app: app.value, channel: channel.value, socket_id: socket.value.trim(), event: event.value }); }, 200); };
  const form = h("form", { class: "row", onsubmit: (submitted) => submitted.preventDefault(), oninput: refilter }, h("label", {}, "App", app), channelLabel, socketLabel, eventLabel, pause, h("button", { class: "quiet", type: "button", onclick: () => list.replaceChildren() }, "Clear"));
  const still = feed.listen((message) => {
    if (message.type !== "events") return;
    if (paused) held += message.events.length; else add(message.events);
    skipped += message.skipped;
    say();
  });
  view.replaceChildren(h("h1", {}, "Live"), publisher(apps, app0, channel0), form, h("p", {}, note), empty, list);
  feed.watch({ app: app0, channel: channel0, socket_id: "", event: "" });
  return () => { still(); clearTimeout(timer); feed.watch(null); };
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
