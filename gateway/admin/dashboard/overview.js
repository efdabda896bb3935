import { get } from "./api.js";
import { chart } from "./chart.js";
import { duration, h, letters, link, number, percent, pill, problem, table } from "./dom.js";
import * as feed from "./feed.js";

const CHARTS = [["connections", "Connections"], ["channels", "Channels"], ["received", "Messages in, per second"], ["sent", "Messages out, per second"], ["events", "Events, per second"], ["backlog", "Webhook backlog"]];

const SHOWN = 100;

export async function overview(view) {
  const charts = CHARTS.map(([field, title]) => [field, chart(title, number)]);
  const health = h("div"), endpoints = h("div"), apps = h("div"), box = h("div");
  const draw = () => charts.forEach(([field, one]) => {
    const place = feed.history.fields.indexOf(field);
    one.update(feed.history.samples.map((sample) => [sample[0], sample[place]]));
  });
  const ask = async () => {
    try {
      const told = await everything();
      health.replaceChildren(verdict(told));
      endpoints.replaceChildren(lines(endpointsOf(told)));
      apps.replaceChildren(table(["App", "Connections", "Channels", "Backlog", "Dead letters"], told.apps.slice(0, SHOWN).map((app) => [app.id, number(app.connections), number(app.channels), number(app.backlog), number(app.dead_letters)]), "The file has no app."), told.apps.length > SHOWN ? h("p", { class: "dim" }, `The first ${SHOWN} of ${told.apps.length} apps are shown; the verdict above is about all.`) : "");
      const disk = told.outbox.used_bytes === undefined ? "in memory" : `${(told.outbox.used_bytes / 1048576).toFixed(1)} of ${Math.round(told.outbox.limit_bytes / 1048576)} MiB`;
      box.replaceChildren(`Version ${told.version}, up since ${new Date(told.started_at).toLocaleString()}. Event loop at most ${told.loop_lag_ms} ms late. Recorder ${told.recorder.queued} of ${told.recorder.limit} waiting. Outbox ${disk}.`);
    } catch (error) {
      health.replaceChildren(problem(error));
    }
  };
  await ask();
  draw();
  view.replaceChildren(h("h1", {}, "Overview"), health, h("div", { class: "grid" }, charts.map(([, one]) => one.figure)), h("h2", {}, "Endpoints"), endpoints, h("h2", {}, "Apps"), apps, h("h2", {}, "This process"), h("div", { class: "card dim" }, box));
  const timer = setInterval(() => document.hidden || ask(), 3000), still = feed.listen((message) => /samples|hello/.test(message.type) && draw());
  return () => { clearInterval(timer); still(); };
}

function verdict(told) {
  const bad = [...told.reasons], warn = [];
  if (!told.outbox.readable) warn.push("the outbox cannot be read now: backlog and dead letters are not known");
  for (const app of told.apps) for (const one of app.endpoints ?? []) {
    const name = `${app.id}/${one.name}`;
    if (one.state === "disabled") bad.push(`endpoint ${name} is disabled${one.why ? `: ${one.why}` : ""}`);
    else if (one.state !== "healthy") warn.push(`endpoint ${name} is ${one.state}${one.why ? `: ${one.why}` : ""}`);
    if (one.dead_letters) warn.push(`endpoint ${name} has ${letters(one.dead_letters)}`);
    if (one.oldest_age_ms > 300000) warn.push(`endpoint ${name} is ${duration(one.oldest_age_ms)} behind`);
  }
  const kind = bad.length ? "bad" : warn.length ? "warn" : "good";
  const title = { bad: "Something is wrong", warn: "Working, with something to look at", good: "All is well" }[kind];
  return h("div", { class: `health ${kind}`, role: "status" }, h("div", {}, title, bad.length + warn.length ? h("ul", {}, [...bad, ...warn].slice(0, 12).map((line) => h("li", {}, line))) : null));
}

// The overview with all its pages: a fault at the last app is a fault.
export async function everything() {
  const told = await get("v1/overview", { limit: 500 });
  for (let after = told.after; after !== undefined;) {
    const next = await get("v1/overview", { limit: 500, after });
    told.apps.push(...next.apps);
    after = next.after;
  }
  return told;
}

// Each endpoint with its app, and with how it has answered lately.
export const endpointsOf = (told) => told.apps.flatMap((app) => (app.endpoints ?? []).map((one) => [app, { ...one, recent: app.recent[one.name] }]));

export function lines(all) {
  // What needs a look comes first; the order is otherwise that of the apps.
  const urgency = ([, one]) => (one.state === "disabled" ? 3 : one.state !== "healthy" ? 2 : one.dead_letters ? 1 : 0);
  if (all.length > SHOWN) all = [...all].sort((a, b) => urgency(b) - urgency(a)).slice(0, SHOWN);
  return table(["Endpoint", "State", "Backlog", "Oldest", "Success, 5 min", "p50 / p95", "Dead", "Last answer"], all.map(([app, one]) => [
    h("span", {}, link(["webhooks", app.id, one.name], one.name), h("br"), h("small", { class: "nowrap" }, `app ${app.id}`)), pill(one.state), number(one.backlog), one.oldest_age_ms === undefined ? "–" : h("span", { class: "nowrap" }, duration(one.oldest_age_ms)),
    percent(one.recent.success_rate), one.recent.p50_ms === undefined ? "–" : h("span", { class: "nowrap" }, `${duration(one.recent.p50_ms)} / ${duration(one.recent.p95_ms)}`), number(one.dead_letters), one.last ? String(one.last.status ?? one.last.error ?? one.last.stage) : "none yet",
  ]), "No app has a webhook yet: add [[apps.webhooks]] to the file and reload.");
}
