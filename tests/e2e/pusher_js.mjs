// The stock browser client, driven by a test, under Node or in a browser; one script may hold several, told apart by `who`.
import Pusher from "pusher-js";
import { channelAuthorization, configure, publish } from "./application.mjs";
import { obey, say } from "./lines.mjs";

const clients = new Map();

await obey({
  server(settings) {
    configure(settings);
  },
  connect({ who = "a", key, port, member, options = {} }) {
    const pusher = new Pusher(key, {
      cluster: "any",
      wsHost: "127.0.0.1",
      wsPort: port,
      forceTLS: false,
      enabledTransports: ["ws"],
      disableStats: true,
      channelAuthorization: channelAuthorization(member),
      ...options,
    });
    clients.set(who, pusher);
    pusher.connection.bind("state_change", ({ current, previous }) =>
      say({ type: "state", who, current, previous, at: performance.now(), socketId: pusher.connection.socket_id }),
    );
    pusher.connection.bind("error", (error) =>
      say({ type: "error", who, code: error?.data?.code ?? error?.error?.data?.code ?? null, at: performance.now() }),
    );
    pusher.user.bind_global((event, data) => say({ type: "user", who, event, data }));
    for (const name of ["online", "offline"]) {
      pusher.user.watchlist.bind(name, (event) => say({ type: "watchlist", who, name, ids: event.user_ids }));
    }
    pusher.connection.bind("message", (frame) => say({ type: "frame", who, event: frame.event }));
  },
  async signIn({ who = "a" }) {
    const { user } = clients.get(who);
    clients.get(who).signin();
    await user.signinDonePromise;
    return user.user_data;
  },
  subscribe({ who = "a", channel, events = [] }) {
    const subscription = clients.get(who).subscribe(channel);
    subscription.unbind();
    subscription.bind_global((event, data) => {
      const { members, me, count } = data ?? {};
      say({ type: "event", who, channel, event, data: members ? { members, me, count } : data });
    });
    for (const event of events) {
      subscription.bind(event, (data, metadata) => say({ type: "bound", who, channel, event, data, userId: metadata?.user_id ?? null }));
    }
  },
  unsubscribe({ who = "a", channel }) {
    clients.get(who).unsubscribe(channel);
  },
  trigger({ who = "a", channel, event, data }) {
    return clients.get(who).channel(channel).trigger(event, data);
  },
  members({ who = "a", channel }) {
    const { members, count, me } = clients.get(who).channel(channel).members;
    return { members, count, me };
  },
  count({ who = "a", channel }) {
    return clients.get(who).channel(channel).subscriptionCount;
  },
  disconnect({ who = "a" }) {
    clients.get(who).disconnect();
  },
  publish({ channel, event, data }) {
    return publish(channel, event, data);
  },
});
