import { get } from "./api.js";
import { h, problem, table } from "./dom.js";

// A searched list that comes in pages.
export async function list(view, { title, target, key, heads, row, empty, placeholder }) {
  const search = h("input", { type: "search", placeholder, "aria-label": "Search", spellcheck: "false" }), body = h("div"), more = h("button", { class: "quiet" }, "More");
  let rows = [], after, timer, turn = 0;
  const load = async (isNew) => {
    const mine = ++turn;
    if (isNew) { rows = []; after = undefined; }
    try {
      const told = await get(target, { search: search.value.trim(), after, limit: 100 });
      if (mine !== turn) return;
      rows = [...rows, ...told[key]];
      after = told.after;
      body.replaceChildren(table(heads, rows.map(row), search.value ? "Nothing is called so." : empty));
      more.hidden = after === undefined;
    } catch (error) { body.replaceChildren(problem(error)); }
  };
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => load(true), 200); });
  more.addEventListener("click", () => load(false));
  await load(true);
  view.replaceChildren(h("h1", {}, title), h("div", { class: "row" }, search, h("button", { class: "quiet", onclick: () => load(true) }, "Refresh")), body, h("p", {}, more));
  return () => clearTimeout(timer);
}
