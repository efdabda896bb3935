// Runs what a page's <script> holds, as the browser would behind the stock client's own; what it logs becomes messages.
import Pusher from "pusher-js";
import { obey, say } from "./lines.mjs";

await obey({
  run({ code }) {
    const log = (value) => say({ type: "log", value });
    new Function("Pusher", "console", code)(Pusher, { log });
  },
});
