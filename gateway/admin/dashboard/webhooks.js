import { get, ofApp, post } from "./api.js";
import { ask, duration, facts, h, json, letters, link, number, path, percent, pill, problem, table, time } from "./dom.js";
import { sent, story } from "./entry.js";
import { endpointsOf, everything, lines } from "./overview.js";

export async function webhooks(view, [app, name, tab = "deliveries", id]) {
  const told = await everything();
  const all = endpointsOf(told);
  if (name === undefined) { view.replaceChildren(h("h1", {}, "Webhooks"), lines(all)); return; }
  const one = all.find(([owner, endpoint]) => owner.id === app && endpoint.name === name)?.[1];
  if (!one) throw new Error(`There is no endpoint ${name} of app ${app}.`);
  const base = ofApp(app, "webhooks", "endpoints", name), said = h("div", { role: "status" });
  const order = (label, kind, what) => { const button = h("button", { class: kind, onclick: async () => { button.disabled = true; try { said.replaceChildren(...(await what())); } catch (error) { said.replaceChildren(problem(error)); } button.disabled = false; } }, label); return button; };
  const test = order("Send test", "", async () => { const back = await post(`${base}/test`); return [h("div", { class: `health ${back.ok ? "good" : "bad"}` }, `${back.ok ? "The test was accepted" : "The test failed"}: ${back.status ?? back.error ?? back.stage}, in ${duration(back.latency_ms)}`), back.body ? json(back.body) : ""]; });
  const enable = one.state === "healthy" ? "" : order("Enable", "quiet", async () => { await post(`${base}/enable`); return [h("p", {}, "Enabled.")]; });
  const body = h("div"), tabs = ["deliveries", "dead", "settings"];
  view.replaceChildren(h("h1", {}, name, " ", pill(one.state)), one.why ? h("p", { class: "error" }, one.why) : "",
    h("div", { class: "card" }, facts([["App", app], ["Sends to", one.url], ["Backlog", number(one.backlog)], ["Oldest waits for", one.oldest_age_ms === undefined ? "–" : duration(one.oldest_age_ms)], ["Success, 5 min", `${percent(one.recent.success_rate)} of ${one.recent.attempts}`], ["Latency p50 / p95", `${duration(one.recent.p50_ms)} / ${duration(one.recent.p95_ms)}`], ["Dead letters", number(one.dead_letters)], ["Failures in a row", one.failures]])),
    h("p", { class: "row" }, test, enable), said,
    h("div", { class: "tabs" }, tabs.map((each) => h("a", { href: path("webhooks", app, name, each), ...(each === tab ? { "aria-current": "page" } : {}) }, { deliveries: "Deliveries", dead: "Dead letters", settings: "Settings" }[each]))), body);
  if (tab === "settings") body.append(h("div", { class: "card" }, facts([["Format", one.format], ["Events", one.events.join(", ")], ["URL", one.url]]), h("p", {}, "The secret stands in ", h("code", {}, "secrets"), " of the entry ", h("code", {}, `[[apps.webhooks]] name = "${name}"`), ` of app ${app} in the gateway's file, and is never shown. `, h("code", {}, "rawpush check --resolved"), " tells whether it comes from the environment or from a file.")));
  else if (tab === "dead") await dead(body, base, said);
  else await deliveries(body, base, app, id);
}

async function deliveries(body, base, app) {
  const list = h("div"), more = h("button", { class: "quiet" }, "Older");
  let rows = [], before;
  const load = async () => {
    const told = await get(`${base}/deliveries`, { before, limit: 50 }).catch((error) => { list.replaceChildren(problem(error)); });
    if (!told) return;
    rows = [...rows, ...told.deliveries];
    before = told.before;
    more.hidden = before === undefined;
    list.replaceChildren(table(["At", "Request", "Attempt", "State", "Answer", "Took"], rows.map((one) => [time(one.at), delivery(one, app, base), number(one.attempt), pill(one.state), String(one.status ?? one.error ?? one.reason ?? one.stage), one.latency_ms === undefined ? "–" : h("span", { class: "nowrap" }, duration(one.latency_ms))]), "Nothing has been sent yet."));
  };
  more.addEventListener("click", load);
  await load();
  body.append(list, h("p", {}, more));
}

function delivery(one, app, base) {
  const more = h("div");
  const details = h("details", { ontoggle: async () => {
    if (!details.open || more.childNodes.length) return;
    more.append(h("h2", {}, "Request"));
    try { more.append(sent((await get(`${base}/request`, { number: one.number })).request)); } catch (error) { more.append(problem(error)); }
    more.append(h("h2", {}, "Response"), json(one.body || "(empty)"));
    if (one.request_id.startsWith("evt_")) try { more.append(h("h2", {}, "Every attempt"), await story(app, one.request_id)); } catch (error) { more.append(problem(error)); }
  } }, h("summary", { class: "mono" }, one.request_id), more);
  return details;
}

async function dead(body, base, said) {
  const event = h("input", { placeholder: "kind, * is a wildcard" }), channel = h("input", { placeholder: "channel, * is a wildcard" }), list = h("div"), count = h("p", { class: "dim" }), more = h("button", { class: "quiet" }, "More");
  let rows = [], after;
  const chosen = () => Object.fromEntries([["event", event.value.trim()], ["channel", channel.value.trim()]].filter(([, value]) => value));
  const load = async (isNew) => {
    if (isNew) { rows = []; after = undefined; }
    try {
      const told = await get(`${base}/dead_letters`, { ...chosen(), after, limit: 50 });
      rows = [...rows, ...told.dead_letters];
      after = told.after;
      more.hidden = after === undefined;
      count.textContent = `${letters(told.count)} in all.`;
      list.replaceChildren(table(["Given up", "Event", "Why", "Attempts", "Last answer", ""], rows.map((one) => [time(one.given_up_at), h("details", {}, h("summary", {}, one.event), json(one.envelope)), one.reason, number(one.attempts), String(one.status ?? one.error ?? one.stage ?? "–"), h("button", { class: "quiet", onclick: () => again({ dead_letters: [one.number] }) }, "Re-deliver")]), "No dead letter."));
    } catch (error) { list.replaceChildren(problem(error)); }
  };
  const again = async (what) => {
    try {
      let sent = 0, resume;
      do { const told = await post(`${base}/replay`, resume ? { ...what, resume } : what); sent += told.replayed; resume = told.resume; said.replaceChildren(h("p", {}, `${sent} sent again${resume ? " so far …" : "."}`)); } while (resume);
    } catch (error) { said.replaceChildren(problem(error)); }
    await load(true);
  };
  more.addEventListener("click", () => load(false));
  const all = h("button", { onclick: async () => { if (await ask("Re-deliver these dead letters?", Object.keys(chosen()).length ? "All that fit the filter are sent again, in order." : "All dead letters of this endpoint are sent again, in order.", ["yes", "Re-deliver", ""])) await again({ dead_letters: "all", ...chosen() }); } }, "Re-deliver all");
  body.append(h("form", { class: "row", onsubmit: (submitted) => { submitted.preventDefault(); load(true); } }, h("label", {}, "Event", event), h("label", {}, "Channel", channel), h("button", { class: "quiet" }, "Filter"), h("span", {}, all)), count, list, h("p", {}, more));
  all.type = "button";
  await load(true);
}
