import { get, ofApp } from "./api.js";
import { h, json, link, pill, problem, time } from "./dom.js";

// One event of the feed or of a timeline: a line, and everything about it when it is opened.
export function entry(event) {
  const data = event.data, rest = { ...data };
  for (const name of ["channel", "socket_id", "span", "type", "protocol"]) delete rest[name];
  const said = Object.entries(rest).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");
  const marks = (event.webhooks ?? []).map((one) => h("span", { title: `${one.attempts} attempts` }, " ", pill(one.state), ` ${one.name}`));
  const more = h("div", { class: "more" });
  const details = h("details", { ontoggle: () => details.open && !more.childNodes.length && fill(more, event) },
    h("summary", {}, time(event.timestamp), h("b", {}, event.event), h("span", {}, h("span", { class: "mono" }, data.channel ?? data.socket_id ?? ""), " ", h("small", {}, said.slice(0, 300)), ...marks)), more);
  return h("li", { "data-id": event.id }, details);
}

async function fill(more, event) {
  const { app_id: app, data } = event;
  const links = [data.socket_id && link(["connections", app, data.socket_id], "connection"), data.channel && link(["channels", app, data.channel], "channel")].filter(Boolean);
  more.append(h("div", { class: "row" }, links), json(data), event.cut ? h("small", {}, `The payload has ${event.cut} characters; the first ones are shown.`) : "");
  if (!event.id) { more.append(h("p", { class: "dim" }, "Not recorded: no endpoint wants this kind of event.")); return; }
  try { more.append(await story(app, event.id)); } catch (error) { more.append(problem(error)); }
}

// What was sent, as HTTP has it.
export function sent(request) {
  if (request.unknown) return h("p", { class: "dim" }, `Not told here: ${request.unknown}.`);
  return h("div", {}, json(`${request.method} ${request.url}\n${Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`).join("\n")}\n\n${request.body}`), h("small", {}, "Made again from the event with the endpoint's settings of now; *** is set in the gateway's file."));
}

// What became of an event at each endpoint: why it was sent or not, and every attempt.
export async function story(app, id) {
  const told = await get(ofApp(app, "webhooks", "events", id));
  return h("div", {}, told.endpoints.map((one) => h("section", {}, h("h2", {}, "Webhook ", link(["webhooks", app, one.name], one.name)),
    one.deliveries.length ? one.deliveries.map((delivery) => h("div", {}, h("p", {}, pill(delivery.state), delivery.replay ? " sent again" : ` sequence ${delivery.sequence}`), h("ul", {}, delivery.attempts.map((attempt) => h("li", {}, time(attempt.at), ` attempt ${attempt.attempt}: ${attempt.status ?? attempt.error ?? attempt.stage ?? attempt.reason} `, attempt.latency_ms === undefined ? "" : `in ${attempt.latency_ms} ms`, attempt.body ? json(attempt.body) : ""))), h("details", {}, h("summary", {}, delivery.attempts.length ? "What was sent last" : "What will be sent"), sent(delivery.request)))) : h("p", { class: "dim" }, one.left_out_by ? `Not sent: its setting ${one.left_out_by} leaves it out.` : "Not sent."))));
}

// Beginning at a time, or for `from` undefined an hour ago, with all there is at a click.
export async function timeline(app, kind, name, from) {
  const list = h("ol", { class: "feed card" }), more = h("button", { class: "quiet" }, "Look further"), all = h("button", { class: "quiet", hidden: from !== undefined }, "From the beginning"), note = h("p", { class: "dim" });
  let after, since = from ?? Date.now() - 3600000;
  const step = async () => {
    more.disabled = true;
    try {
      let told, steps = 0;
      // One answer looks at ten thousand events of the app at most, and may hold none of these.
      do { told = await get(ofApp(app, kind, name, "timeline"), { after, from: since }); after = told.after; } while (!told.events.length && after !== undefined && ++steps < 20);
      list.append(...told.events.map(entry));
      more.hidden = after === undefined || told.events.some((event) => event.event === "connection.closed");
      list.hidden = !list.childNodes.length;
      note.textContent = list.childNodes.length ? "" : after !== undefined ? "Nothing so far." : all.hidden ? "The ledger has nothing about it: it is older than the retention, or no endpoint wants such events." : "Nothing in the last hour.";
    } catch (error) { note.replaceChildren(problem(error)); }
    more.disabled = false;
  };
  more.addEventListener("click", step);
  all.addEventListener("click", () => { all.hidden = true; list.replaceChildren(); after = undefined; since = undefined; step(); });
  await step();
  return h("div", {}, list, note, h("p", { class: "row" }, more, all));
}
