// A webhook receiver on Node alone (22.13 or newer): verify, store, answer; and then work, from the store.
//
//     HOOK_SECRETS="whsec_..." node receiver.mjs
//
// POST /hooks takes the formats event and batch, POST /pusher takes the format pusher.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";

const env = process.env;
const PORT = Number(env.PORT ?? 8080);
// Separated by spaces: the new one and the old one, while a secret is being changed.
const SECRETS = env.HOOK_SECRETS.split(" ").filter(Boolean);
// For the format pusher, "key:secret" of each app, separated by spaces.
const APPS = new Map((env.APPS ?? "").split(" ").map((pair) => pair.split(/:(.*)/s, 2)));
const MAX_BODY = Number(env.MAX_BODY ?? 16 * 1024 * 1024); // bytes
const TOLERANCE_S = 300;
// How long a number may be overtaken by later ones before it counts as missing; lanes and retries make that normal.
const GAP_AFTER_S = Number(env.GAP_AFTER ?? 60);
// No retry and no replay is older, so an id is not needed longer.
const KEEP_S = 7 * 86_400;

// Your work. It may take its time; after a crash it may be asked to do the last event once more.
async function handle(id, { event, data }) {
  console.log(id, event, data.channel ?? data.socket_id ?? "-");
}

// -- is it genuine

const equal = (one, other) => one.length === other.length && timingSafeEqual(one, other);
const keyOf = (secret) => (secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : Buffer.from(secret));
const KEYS = SECRETS.map(keyOf);
if (KEYS.some((key) => key.length === 0)) throw new Error("what follows whsec_ in HOOK_SECRETS is not base64");

// Has one of our secrets signed this id, this time and these bytes, less than five minutes from now?
function isGenuine(headers, body) {
  const stamp = headers["webhook-timestamp"] ?? "";
  const given = (headers["webhook-signature"] ?? "").split(" ").map((one) => Buffer.from(one));
  const matches = KEYS.flatMap((key) => {
    const hmac = createHmac("sha256", key).update(`${headers["webhook-id"]}.${stamp}.`).update(body);
    const expected = Buffer.from("v1," + hmac.digest("base64"));
    return given.map((one) => equal(one, expected));
  });
  return matches.includes(true) && /^\d+$/.test(stamp) && Math.abs(Date.now() / 1000 - Number(stamp)) <= TOLERANCE_S;
}

// Has the app whose key is given signed these bytes? It signs no time and no id: isGenuine must hold too.
function isGenuinePusher(headers, body) {
  const secret = APPS.get(headers["x-pusher-key"]);
  if (!secret) return false;
  const expected = createHmac("sha256", secret).update(body).digest("hex");
  return equal(Buffer.from(headers["x-pusher-signature"] ?? ""), Buffer.from(expected));
}

// What is to be kept of a body; throws if it is none of ours.
function rowsOf(body, requestId, isPusher) {
  const parsed = JSON.parse(body.toString());
  if (isPusher) {
    // Without ids and numbers; the request's id is the same in each attempt.
    return parsed.events.map((data, place) => ({
      id: `${requestId}/${place}`,
      event: JSON.stringify({ event: data.name, data }),
      number: 0,
    }));
  }
  return (parsed.events ?? [parsed]).map(({ id, event, data, timestamp, app_id, metadata }) => {
    if (typeof id !== "string" || typeof event !== "string" || !(data instanceof Object)) throw new Error("not an envelope");
    const counter = `${app_id}/${metadata.webhook_id}@${metadata.node}`;
    return { id, event: JSON.stringify({ event, data, timestamp }), counter, number: metadata.sequence };
  });
}

// -- the store

const db = new DatabaseSync(env.STATE ?? "inbox.sqlite");
db.exec(`
  PRAGMA journal_mode = WAL;
  CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, event TEXT NOT NULL, at REAL NOT NULL, is_done INTEGER NOT NULL DEFAULT 0);
  CREATE INDEX IF NOT EXISTS waiting ON inbox (is_done) WHERE is_done = 0;
  CREATE TABLE IF NOT EXISTS numbers (counter TEXT, number INTEGER, at REAL NOT NULL, PRIMARY KEY (counter, number)) WITHOUT ROWID;
`);
const insert = db.prepare("INSERT OR IGNORE INTO inbox (id, event, at) VALUES (?, ?, ?)");
const count = db.prepare(`INSERT OR IGNORE INTO numbers SELECT ?1, ?2, ?3
  WHERE ?2 > (SELECT ifnull(min(number), 0) FROM numbers WHERE counter = ?1)`);
const waiting = db.prepare("SELECT id, event FROM inbox WHERE is_done = 0 ORDER BY rowid LIMIT 100");
const done = db.prepare("UPDATE inbox SET is_done = 1 WHERE id = ?");
const forget = db.prepare(`DELETE FROM inbox
  WHERE rowid IN (SELECT rowid FROM inbox ORDER BY rowid LIMIT 200) AND is_done = 1 AND at < ?`);
const counters = db.prepare("SELECT DISTINCT counter FROM numbers");
const numbersOf = db.prepare("SELECT number, at FROM numbers WHERE counter = ? ORDER BY number");
const settle = db.prepare("DELETE FROM numbers WHERE counter = ? AND number < ?");

// Keep all of them, durably, or throw. A repeat changes nothing.
function add(rows) {
  const now = Date.now() / 1000;
  db.exec("BEGIN IMMEDIATE");
  try {
    for (const { id, event, counter, number } of rows) {
      insert.run(id, event, now);
      // Also if it is a repeat: for another endpoint the same event has another number. 0 stands outside of the count: a test.
      if (number) count.run(counter, number, now);
    }
    db.exec("COMMIT");
  } catch (error) {
    db.exec("ROLLBACK");
    throw error;
  }
}

// Forget what is old, and tell of each gap once, when it has lasted.
function tidy() {
  const now = Date.now() / 1000;
  forget.run(now - KEEP_S);
  for (const { counter } of counters.all()) {
    let floor = 0;
    for (const { number, at } of numbersOf.iterate(counter)) {
      if (floor && number > floor + 1) {
        if (now - at < GAP_AFTER_S) break;
        console.log(`gap ${counter} ${floor + 1} to ${number - 1}: ask the feed, GET /apps/APP_ID/webhooks/events, what was missed`);
      }
      floor = number;
    }
    // All up to the floor is settled: a number below it does not count any more.
    settle.run(counter, floor);
  }
}

// -- the receiver

// The raw body, or null if it is too long.
async function read(request) {
  if (Number(request.headers["content-length"]) > MAX_BODY) return null;
  const pieces = [];
  let size = 0;
  // The line stays open, for the answer.
  for await (const piece of request.iterator({ destroyOnReturn: false })) {
    size += piece.length;
    if (size > MAX_BODY) return null;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

async function receive(request) {
  if (request.method !== "POST" || !["/hooks", "/pusher"].includes(request.url)) return 404;
  const isPusher = request.url === "/pusher";
  const body = await read(request);
  if (body === null) return 413;
  if (!isGenuine(request.headers, body) || (isPusher && !isGenuinePusher(request.headers, body))) return 401;
  let rows;
  try {
    rows = rowsOf(body, request.headers["webhook-id"], isPusher);
  } catch {
    return 400;
  }
  add(rows);
  wake();
  return 204;
}

// Handle what is stored, in the order of arrival, also what a former life has left; look for gaps each second.
let wake = () => {};
async function work() {
  for (;;) {
    const news = new Promise((resolve) => (wake = resolve));
    const timer = setTimeout(wake, 1000);
    try {
      for (const { id, event } of waiting.all()) {
        await handle(id, JSON.parse(event));
        done.run(id);
        wake();
      }
    } catch (error) {
      console.error(error); // It stays in the inbox. What comes after it waits, since it may depend on it.
    }
    tidy();
    await news;
    clearTimeout(timer);
  }
}

const server = createServer(async (request, response) => {
  let status;
  try {
    status = await receive(request);
  } catch (error) {
    console.error(error);
    status = 500;
  }
  // What has not been read of a body must not be taken for the next request.
  response.writeHead(status, status === 413 ? { connection: "close" } : {}).end();
});
server.listen(PORT, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
work();
