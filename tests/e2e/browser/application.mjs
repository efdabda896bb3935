// The application's half in a browser: the endpoints of the server that this page came from, over what pusher-js has for it.
export function configure(settings) {
  const request = new XMLHttpRequest();
  // not asynchronous: what follows relies on it
  request.open("POST", "/server", false);
  request.send(JSON.stringify(settings));
}

export const channelAuthorization = (member) => ({
  endpoint: "/pusher/auth",
  transport: "ajax",
  params: member ? { member: JSON.stringify(member) } : {},
});

export const publish = async (channel, event, data) =>
  (await fetch("/publish", { method: "POST", body: JSON.stringify({ channel, event, data }) })).status;
