// The peer Socket.IO: its rooms, over WebSocket alone. The room is the one that the query names; what is posted to a path goes
// to the room of that name. Called with the file that holds the message; nothing parses what is posted. Prints its port.
"use strict";
const { readFileSync } = require("node:fs");
const { createServer } = require("node:http");
const { createRequire } = require("node:module");
// Installed beside the results, not beside this file.
const { Server } = createRequire(process.cwd() + "/")("socket.io");

const message = readFileSync(process.argv[2], "utf8");

const http = createServer((request, response) => {
  request.on("data", () => {});
  request.on("end", () => {
    io.to(request.url.slice(1).split("?", 1)[0]).emit("message", message);
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": 2 });
    response.end("{}");
  });
});
http.keepAliveTimeout = 0;
// A ping of its own would be counted as a message.
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, pingInterval: 1e8, serveClient: false });
io.on("connection", (socket) => socket.join(socket.handshake.query.room));
http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => console.log(http.address().port));
