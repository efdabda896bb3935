import { get, ofApp } from "./api.js";
import { facts, h, link, number, table } from "./dom.js";
import { timeline } from "./entry.js";
import { list } from "./list.js";

export async function channels(view, [app, name]) {
  if (name === undefined) return list(view, { title: "Channels", target: "v1/channels", key: "channels", heads: ["Channel", "App", "Type", "Subscribers", "Users"], placeholder: "part of a name", empty: "No channel has a subscriber now.",
    row: (one) => [h("span", { class: "mono" }, link(["channels", one.app_id, one.channel], one.channel)), one.app_id, one.type, number(one.subscribers), number(one.users)] });
  const told = await get(ofApp(app, "channels", name));
  view.replaceChildren(h("h1", { class: "mono" }, name), h("div", { class: "card" }, facts([["App", app], ["Type", told.type], ["Subscribers", number(told.subscribers)], ["Users", told.users]])), h("p", {}, link(["live", app, name], "Watch it live, or publish to it")),
    told.members ? h("div", {}, h("h2", {}, "Members"), table(["User"], told.members.map((one) => [one]), "Nobody is here.")) : "",
    h("h2", {}, "Connections"), table(["Socket id"], told.connections.map((one) => [link(["connections", app, one], one)]), "No connection of this node is subscribed."), told.after ? h("p", { class: "dim" }, `The first ${told.connections.length} are shown.`) : "",
    h("h2", {}, "What has happened"), await timeline(app, "channels", name));
}
