import { get, ofApp, post } from "./api.js";
import { ask, duration, facts, h, link, number, problem, time } from "./dom.js";
import { timeline } from "./entry.js";
import { list } from "./list.js";

const carried = (messages, bytes) => `${number(messages)} ${messages === 1 ? "message" : "messages"}, ${number(bytes)} ${bytes === 1 ? "byte" : "bytes"}`;

export async function connections(view, [app, id]) {
  if (id === undefined) return list(view, { title: "Connections", target: "v1/connections", key: "connections", heads: ["Socket id", "App", "User", "Open for", "Channels", "In", "Out"], placeholder: "part of a socket id or user id", empty: "Nobody is connected now.",
    row: (one) => [h("span", { class: "mono" }, link(["connections", one.app_id, one.socket_id], one.socket_id)), one.app_id, one.user_id, duration(one.duration_ms), number(one.channels), number(one.received_messages), number(one.sent_messages)] });
  let told = null, gone = null;
  try { told = await get(ofApp(app, "connections", id)); } catch (error) { gone = error; }
  const said = h("p", { role: "status" });
  const end = h("button", { class: "danger", onclick: async () => {
    const how = await ask("Terminate this connection?", `The connection ${id} ends now.`, ["away", "Terminate for good", "danger"], ["back", "Have it reconnect", ""]);
    if (!how) return;
    try { await post(ofApp(app, "connections", id, "terminate"), { reconnect: how === "back" }); said.textContent = "Terminated."; end.disabled = true; } catch (error) { said.replaceChildren(problem(error)); }
  } }, "Terminate");
  view.replaceChildren(h("h1", { class: "mono" }, id),
    told ? h("div", { class: "card" }, facts([["App", app], ["User", told.user_id], ["Address", told.remote_ip ?? told.peer], ["Client", told.client], ["Program", told.user_agent], ["Page", told.origin], ["Opened", time(told.opened_at)], ["Open for", duration(told.duration_ms)], ["Received", carried(told.received_messages, told.received_bytes)], ["Sent", carried(told.sent_messages, told.sent_bytes)]]), h("h2", {}, "Channels"), told.subscribed.length ? h("p", {}, told.subscribed.map((one) => [link(["channels", app, one], one), " "])) : h("p", { class: "dim" }, "none"), end, said) : h("p", { class: "dim" }, gone.message),
    h("h2", {}, "From opened to closed"), await timeline(app, "connections", id, told ? Date.parse(told.opened_at) : undefined));
}
