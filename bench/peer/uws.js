// The peer uWebSockets.js, bare: its own publish/subscribe, which joins what goes to one connection. The channel is the path.
// Called with the file that holds the message; nothing parses what is posted. Prints its port.
"use strict";
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
// Installed beside the results, not beside this file.
const uws = createRequire(process.cwd() + "/")("uWebSockets.js");

const message = readFileSync(process.argv[2], "utf8");

const app = uws.App();
app.ws("/*", {
  idleTimeout: 0,
  sendPingsAutomatically: false,
  maxBackpressure: 1 << 26,
  upgrade: (response, request, context) => {
    const header = (name) => request.getHeader(`sec-websocket-${name}`);
    response.upgrade({ channel: request.getUrl() }, header("key"), header("protocol"), header("extensions"), context);
  },
  open: (socket) => socket.subscribe((socket.getUserData?.() ?? socket).channel),
});
app.post("/*", (response, request) => {
  const channel = request.getUrl();
  response.onAborted(() => {});
  response.onData((piece, isLast) => {
    if (!isLast) return;
    app.publish(channel, message);
    response.end("{}");
  });
});
app.listen("127.0.0.1", 0, (listening) => console.log(uws.us_socket_local_port(listening)));
