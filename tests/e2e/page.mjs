// Runs what a page's <script> holds, as the browser would behind the stock clients' own; what it logs becomes messages.
import Echo from "laravel-echo";
import Pusher from "pusher-js";
import { obey, say } from "./lines.mjs";

await obey({
  run({ code }) {
    const log = (value, ...more) => say({ type: "log", value, more });
    new Function("Pusher", "Echo", "console", code)(Pusher, Echo, { log });
  },
});
