// The stock server SDK, and the Standard Webhooks library, driven by a test.
import Server from "pusher";
import { Webhook } from "standardwebhooks";
import { obey } from "./lines.mjs";

let server;
const shown = async (response) => ({ status: response.status, body: await response.json() });

await obey({
  server({ appId, key, secret, port }) {
    server = new Server({ appId, key, secret, host: "127.0.0.1", port: String(port), useTLS: false });
    return true;
  },
  trigger: async ({ channels, event, data, params }) => shown(await server.trigger(channels, event, data, params)),
  triggerBatch: async ({ batch }) => shown(await server.triggerBatch(batch)),
  get: async ({ path, params }) => shown(await server.get({ path, params })),
  sendToUser: async ({ user, event, data }) => shown(await server.sendToUser(user, event, data)),
  refused: async ({ channels, event, data }) => {
    try {
      await server.trigger(channels, event, data);
      return null;
    } catch (error) {
      return { status: error.status, body: error.body };
    }
  },
  verify: ({ secret, body, headers }) => {
    new Webhook(secret).verify(body, headers);
    return true;
  },
});
