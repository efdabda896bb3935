// What the stock libraries of Node make of a webhook that a test has received.
import Server from "pusher";
import { Webhook } from "standardwebhooks";
import { obey } from "./lines.mjs";

await obey({
  // The events of a webhook that the Pusher SDK accepts, or null.
  pusher({ key, secret, body, headers }) {
    const webhook = new Server({ appId: "1", key, secret, host: "127.0.0.1" }).webhook({ headers, rawBody: body });
    return webhook.isValid() ? webhook.getEvents() : null;
  },
  standard({ secret, body, headers }) {
    new Webhook(secret).verify(body, headers);
    return true;
  },
});
