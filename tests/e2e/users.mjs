// pusher-js as users, and the stock server SDK beside it, driven by a test; clients are told apart by `who`.
import Pusher from "pusher-js";
import Server from "pusher";
import { obey, say } from "./lines.mjs";

const clients = new Map();
let server;

await obey({
  server({ appId, key, secret, port }) {
    server = new Server({ appId, key, secret, host: "127.0.0.1", port: String(port), useTLS: false });
  },
  // signed with the secret given here, which need not be the app's
  connect({ who = "a", key, port, user, secret }) {
    const backend = secret ? new Server({ appId: "1", key, secret, host: "127.0.0.1" }) : server;
    const pusher = new Pusher(key, {
      cluster: "any",
      wsHost: "127.0.0.1",
      wsPort: port,
      forceTLS: false,
      enabledTransports: ["ws"],
      userAuthentication: { customHandler: ({ socketId }, done) => done(null, backend.authenticateUser(socketId, user)) },
      channelAuthorization: {
        customHandler: ({ socketId, channelName }, done) => done(null, backend.authorizeChannel(socketId, channelName)),
      },
    });
    clients.set(who, pusher);
    pusher.connection.bind("state_change", ({ current }) => say({ type: "state", who, current }));
    pusher.connection.bind("error", (error) => say({ type: "error", who, code: error?.data?.code ?? error?.error?.data?.code ?? null }));
    pusher.connection.bind("message", (frame) => say({ type: "frame", who, event: frame.event, channel: frame.channel ?? null }));
    pusher.user.bind_global((event, data) => say({ type: "user", who, event, data }));
    for (const name of ["online", "offline"]) {
      pusher.user.watchlist.bind(name, (event) => say({ type: "watchlist", who, name, ids: event.user_ids }));
    }
  },
  signin({ who = "a" }) {
    clients.get(who).signin();
  },
  join({ who = "a", channel }) {
    const subscription = clients.get(who).subscribe(channel);
    subscription.bind("pusher:subscription_succeeded", ({ me }) => say({ type: "joined", who, channel, me }));
    subscription.bind("pusher:subscription_error", (error) => say({ type: "refused", who, channel, error }));
  },
  disconnect({ who = "a" }) {
    clients.get(who).disconnect();
  },
  connectAgain({ who = "a" }) {
    clients.get(who).connect();
  },
  sendToUser: async ({ user, event, data }) => (await server.sendToUser(user, event, data)).status,
  terminate: async ({ user }) => (await server.terminateUserConnections(user)).status,
});
