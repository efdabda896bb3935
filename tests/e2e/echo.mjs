// Laravel Echo, driven by a test, under Node or in a browser; one script may hold several, told apart by `who`.
import Echo from "laravel-echo";
import Pusher from "pusher-js";
import { obey, say } from "./lines.mjs";

const echoes = new Map();
const KINDS = { public: "channel", private: "private", encrypted: "encryptedPrivate", presence: "join" };
// Echo keeps one object per channel: asking for it again subscribes to nothing.
const channelOf = ({ who, kind, channel }) => echoes.get(who)[KINDS[kind]](channel);

await obey({
  // `url` is the application, whose endpoints know the user by the token
  connect({ who, broadcaster, key, port, url }) {
    const echo = new Echo({
      broadcaster,
      Pusher,
      key,
      // the broadcaster reverb needs no cluster
      ...(broadcaster === "pusher" ? { cluster: "any" } : {}),
      wsHost: "127.0.0.1",
      wsPort: port,
      forceTLS: false,
      enabledTransports: ["ws", "wss"],
      authEndpoint: `${url}/broadcasting/auth`,
      bearerToken: who,
      // else all Echoes of a page share the headers of the last one
      auth: { headers: {} },
      userAuthentication: { endpoint: `${url}/broadcasting/user-auth`, headers: {} },
    });
    echoes.set(who, echo);
    echo.connector.onConnectionChange((status) => say({ type: "status", who, status, socketId: echo.socketId() ?? null }));
  },
  subscribe({ who, kind, channel, listen = [], whispers = [], notifications = false }) {
    const tell = (event) => (data) => say({ type: "heard", who, channel, event, data: data ?? null });
    const subscription = channelOf({ who, kind, channel }).subscribed(tell("subscribed")).error(tell("error"));
    if (kind === "presence") subscription.here(tell("here")).joining(tell("joining")).leaving(tell("leaving"));
    for (const event of listen) subscription.listen(event, tell(event));
    for (const event of whispers) subscription.listenForWhisper(event, tell(event));
    if (notifications) subscription.notification(tell("notification"));
  },
  whisper({ event, data, ...of }) {
    channelOf(of).whisper(event, data);
  },
  leave({ who, channel }) {
    echoes.get(who).leave(channel);
  },
  disconnect({ who }) {
    echoes.get(who).disconnect();
  },
});
