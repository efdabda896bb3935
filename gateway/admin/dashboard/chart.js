// A line over the last minutes, drawn by hand in SVG: a hundred lines need no library, and a strict policy no exception.

const W = 300, H = 72, NS = "http://www.w3.org/2000/svg";

function s(tag, attributes) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function chart(title, format) {
  const value = document.createElement("output");
  const peak = document.createElement("small");
  const svg = s("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img" });
  const area = s("path", { class: "area" }), line = s("path", { class: "line", "vector-effect": "non-scaling-stroke" });
  const mark = s("line", { class: "mark", y1: 0, y2: H, "vector-effect": "non-scaling-stroke", visibility: "hidden" });
  svg.append(area, line, mark);
  const figure = document.createElement("figure");
  figure.className = "card chart";
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.append(caption, value, svg, peak);
  let points = [], hovered = null, span = 600000;

  const show = () => {
    const known = points.filter(([, y]) => y !== null);
    const one = hovered ?? known.at(-1);
    value.textContent = one ? format(one[1]) : "–";
    const top = Math.max(...known.map(([, y]) => y), 0);
    peak.textContent = hovered ? new Date(hovered[0]).toLocaleTimeString([], { hour12: false }) : known.length ? `peak ${format(top)} in ${Math.round(span / 60000)} min` : "no sample yet";
    svg.setAttribute("aria-label", `${title}: ${value.textContent}, ${peak.textContent}`);
  };

  svg.addEventListener("pointermove", (event) => {
    const known = points.filter(([, y]) => y !== null);
    if (known.length < 2) return;
    const box = svg.getBoundingClientRect();
    const end = known.at(-1)[0], at = end - span * (1 - (event.clientX - box.left) / box.width);
    hovered = known.reduce((best, one) => (Math.abs(one[0] - at) < Math.abs(best[0] - at) ? one : best));
    const x = W * (1 - (end - hovered[0]) / span);
    mark.setAttribute("x1", x);
    mark.setAttribute("x2", x);
    mark.setAttribute("visibility", "visible");
    show();
  });
  svg.addEventListener("pointerleave", () => {
    hovered = null;
    mark.setAttribute("visibility", "hidden");
    show();
  });

  function update(fresh) {
    points = fresh;
    const known = points.filter(([, y]) => y !== null);
    if (known.length < 2) return show();
    // Young gateways have a minute, which is then all of the width; it grows up to ten.
    span = Math.min(600000, Math.max(60000, known.at(-1)[0] - known[0][0]));
    show();
    const end = known.at(-1)[0], top = Math.max(...known.map(([, y]) => y), 1) * 1.1;
    const place = ([x, y]) => `${(W * (1 - (end - x) / span)).toFixed(1)},${(H - 2 - (H - 6) * (y / top)).toFixed(1)}`;
    const path = "M" + known.map(place).join("L");
    line.setAttribute("d", path);
    area.setAttribute("d", `${path}L${W},${H}L${(W * (1 - (end - known[0][0]) / span)).toFixed(1)},${H}Z`);
  }
  return { figure, update };
}
