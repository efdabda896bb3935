// Runs a piece of a backend, with the stock server SDK at hand, and answers when it is done.
import Server from "pusher";
import { obey } from "./lines.mjs";

const AsyncFunction = (async () => {}).constructor;

await obey({
  async run({ code }) {
    await new AsyncFunction("Server", code)(Server);
    return true;
  },
});
