import { get } from "./api.js";

// The one WebSocket: samples for the charts, events for whoever watches. It comes back by itself.

const listeners = new Set();
let socket = null;
let filter = null;
let wait = 500;

export const history = { fields: [], samples: [] };

export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function watch(what) {
  filter = what;
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ watch: filter }));
}

const tell = (message) => listeners.forEach((listener) => listener(message));

export function open() {
  const url = new URL("v1/live", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  socket = new WebSocket(url);
  socket.onopen = () => {
    wait = 500;
    if (filter) watch(filter);
    tell({ type: "open" });
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "hello") Object.assign(history, { fields: message.fields, samples: message.samples });
    if (message.type === "samples") history.samples = [...history.samples, ...message.samples].slice(-600);
    tell(message);
  };
  socket.onclose = ({ code }) => {
    if (code === 4401) location.assign("login");
    tell({ type: "closed" });
    // A browser does not tell why an upgrade was refused; if the login has ended, this leads to a new one.
    get("v1/session").catch(() => {});
    setTimeout(open, wait);
    wait = Math.min(2 * wait, 3000);
  };
}
