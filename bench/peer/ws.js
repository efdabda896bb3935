// The peer `ws`: whoever connects subscribes to the channel that the path names, and what is posted to a path goes to its
// subscribers. Called with the file that holds the message: what the load posts is bigger, and nothing parses it. Prints its port.
"use strict";
const { readFileSync } = require("node:fs");
const { createServer } = require("node:http");
const { createRequire } = require("node:module");
// Installed beside the results, not beside this file.
const { WebSocket, WebSocketServer } = createRequire(process.cwd() + "/")("ws");

const message = readFileSync(process.argv[2], "utf8");
const channels = new Map();

const http = createServer((request, response) => {
  request.on("data", () => {});
  request.on("end", () => {
    for (const client of channels.get(request.url.split("?", 1)[0]) ?? []) {
      if (client.readyState === WebSocket.OPEN) client.send(message);
    }
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": 2 });
    response.end("{}");
  });
});
http.keepAliveTimeout = 0;
const sockets = new WebSocketServer({ server: http, perMessageDeflate: false, clientTracking: false });
sockets.on("connection", (client, request) => {
  const subscribers = channels.get(request.url) ?? new Set();
  channels.set(request.url, subscribers.add(client));
  client.on("close", () => subscribers.delete(client));
});
http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => console.log(http.address().port));
