// The peer `ws`: whoever connects is a subscriber, and what is posted goes to all of them. Prints its port.
// Called with the file that holds the message: the load posts a signed publish, which is bigger, and nothing parses it.
"use strict";
const { readFileSync } = require("node:fs");
const { createServer } = require("node:http");
const { createRequire } = require("node:module");
// Installed beside the results, not beside this file.
const { WebSocket, WebSocketServer } = createRequire(process.cwd() + "/")("ws");

const message = readFileSync(process.argv[2], "utf8");

const http = createServer((request, response) => {
  request.on("data", () => {});
  request.on("end", () => {
    for (const client of sockets.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(message);
    }
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": 2 });
    response.end("{}");
  });
});
http.keepAliveTimeout = 0;
const sockets = new WebSocketServer({ server: http, perMessageDeflate: false });
http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => console.log(http.address().port));
