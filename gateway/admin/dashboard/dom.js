// Elements from values. Text becomes text, never markup: there is no innerHTML in this dashboard.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const link = (parts, text) => h("a", { href: path(...parts) }, text);
export const path = (...parts) => "#/" + parts.map(encodeURIComponent).join("/");

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 1e6) return (value / 1e6).toFixed(1) + " M";
  if (Math.abs(value) >= 1e4) return (value / 1e3).toFixed(1) + " k";
  return Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 1 : 0);
}

export const letters = (count) => `${number(count)} dead ${count === 1 ? "letter" : "letters"}`;

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function time(iso) {
  const at = new Date(iso);
  const isToday = at.toDateString() === new Date().toDateString();
  return h("time", { datetime: iso, title: at.toString() }, isToday ? "" : `${at.toLocaleDateString([], { month: "short", day: "numeric" })} `, at.toLocaleTimeString([], { hour12: false }));
}

export const percent = (share) => (share === undefined ? "–" : `${(100 * share).toFixed(share < 1 && share > 0.99 ? 2 : share === 1 ? 0 : 1)} %`);

export function table(heads, rows, empty) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const cells = (row) => row.map((cell, place) => h("td", { "data-head": heads[place] }, cell ?? "–"));
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, rows.map((row) => h("tr", {}, cells(row))))));
}

export const pill = (state) => {
  const kind = { healthy: "good", delivered: "good", ready: "good", disabled: "bad", dead: "bad", "backing off": "warn", due: "warn" }[state] ?? "plain";
  return h("span", { class: `pill ${kind}` }, state);
};

export const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== undefined && value !== null).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

export const json = (value) => h("pre", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2));

export const problem = (error) => h("p", { class: "error", role: "alert" }, error.message ?? String(error));

// A question before something that cannot be taken back; resolves to the value of the button, or null.
export function ask(title, text, ...answers) {
  return new Promise((resolve) => {
    const say = (value) => { resolve(value); dialog.close(); dialog.remove(); };
    const buttons = answers.map(([value, label, kind]) => h("button", { class: kind, onclick: () => say(value) }, label));
    const dialog = h("dialog", { "aria-label": title, oncancel: () => say(null) }, h("h2", {}, title), h("p", {}, text), h("div", { class: "row" }, h("button", { class: "quiet", onclick: () => say(null) }, "Cancel"), ...buttons));
    document.body.append(dialog);
    dialog.showModal();
  });
}
