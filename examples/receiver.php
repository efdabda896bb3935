<?php
// A webhook receiver in plain PHP (8.1 or newer, with pdo_sqlite). One file, two parts: the web server verifies, stores and
// answers; a process beside it does the work, from the store.
//
//     export HOOK_SECRETS="whsec_..."
//     php -S 127.0.0.1:8080 receiver.php      (or any other server that runs it)
//     php receiver.php
//
// POST /hooks takes the formats event and batch, POST /pusher takes the format pusher.
declare(strict_types=1);

// Separated by spaces: the new one and the old one, while a secret is being changed.
define('SECRETS', preg_split('/ +/', (string) getenv('HOOK_SECRETS'), flags: PREG_SPLIT_NO_EMPTY));
// For the format pusher, "key:secret" of each app, separated by spaces.
define('APPS', array_column(array_map(fn ($pair) => explode(':', "$pair:", 3), explode(' ', (string) getenv('APPS'))), 1, 0));
define('MAX_BODY', (int) (getenv('MAX_BODY') ?: 16 * 1024 * 1024)); // bytes; post_max_size must not be smaller
define('STATE', getenv('STATE') ?: 'inbox.sqlite');
// How long a number may be overtaken by later ones before it counts as missing; lanes and retries make that normal.
define('GAP_AFTER_S', (float) (getenv('GAP_AFTER') ?: 60));
const TOLERANCE_S = 300;
// No retry and no replay is older, so an id is not needed longer.
const KEEP_S = 7 * 86_400;

// What PHP only warns of, such as a member that is missing, ends the request.
set_error_handler(fn (int $level, string $message) => throw new ErrorException($message));

// Your work. It may take its time; after a crash it may be asked to do the last event once more.
function handle(string $id, array $event): void
{
    $data = $event['data'];
    echo $id, ' ', $event['event'], ' ', $data['channel'] ?? $data['socket_id'] ?? '-', "\n";
}

// -- is it genuine

function header_of(string $name): string
{
    return $_SERVER['HTTP_' . strtoupper(strtr($name, '-', '_'))] ?? '';
}

function key_of(string $secret): string
{
    return str_starts_with($secret, 'whsec_') ? base64_decode(substr($secret, 6), strict: true) : $secret;
}

// Has one of our secrets signed this id, this time and these bytes, less than five minutes from now?
function is_genuine(string $body): bool
{
    $stamp = header_of('webhook-timestamp');
    $signed = header_of('webhook-id') . ".$stamp.$body";
    $given = explode(' ', header_of('webhook-signature'));
    $matches = 0;
    foreach (SECRETS as $secret) {
        $expected = 'v1,' . base64_encode(hash_hmac('sha256', $signed, key_of($secret), true));
        foreach ($given as $one) {
            $matches += (int) hash_equals($expected, $one);
        }
    }
    return $matches > 0 && ctype_digit($stamp) && abs(time() - (int) $stamp) <= TOLERANCE_S;
}

// Has the app whose key is given signed these bytes? It signs no time and no id: is_genuine must hold too.
function is_genuine_pusher(string $body): bool
{
    $secret = APPS[header_of('x-pusher-key')] ?? '';
    return $secret !== '' && hash_equals(hash_hmac('sha256', $body, $secret), header_of('x-pusher-signature'));
}

// What is to be kept of a body: id, event as JSON, the counter of its number, its number. Throws if it is none of ours.
function rows_of(string $body, bool $is_pusher): array
{
    $parsed = json_decode($body, true, flags: JSON_THROW_ON_ERROR);
    $rows = [];
    if ($is_pusher) {
        // Without ids and numbers; the request's id is the same in each attempt.
        foreach ($parsed['events'] as $place => $data) {
            $rows[] = [header_of('webhook-id') . "/$place", text(['event' => $data['name'], 'data' => $data]), '', 0];
        }
        return $rows;
    }
    foreach ($parsed['events'] ?? [$parsed] as $event) {
        if (!is_string($event['id']) || !is_array($event['data'])) {
            throw new UnexpectedValueException('not an envelope');
        }
        ['webhook_id' => $webhook, 'node' => $node, 'sequence' => $number] = $event['metadata'];
        $kept = ['event' => $event['event'], 'data' => $event['data'], 'timestamp' => $event['timestamp']];
        $rows[] = [$event['id'], text($kept), "{$event['app_id']}/$webhook@$node", $number];
    }
    return $rows;
}

function text(array $value): string
{
    return json_encode($value, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION);
}

// -- the store

function open_store(): PDO
{
    $db = new PDO('sqlite:' . STATE, options: [PDO::ATTR_TIMEOUT => 30]);
    $db->exec('PRAGMA journal_mode = WAL');
    $db->exec('CREATE TABLE IF NOT EXISTS inbox
        (id TEXT PRIMARY KEY, event TEXT NOT NULL, at REAL NOT NULL, is_done INTEGER NOT NULL DEFAULT 0)');
    $db->exec('CREATE INDEX IF NOT EXISTS waiting ON inbox (is_done) WHERE is_done = 0');
    $db->exec('CREATE TABLE IF NOT EXISTS numbers
        (counter TEXT, number INTEGER, at REAL NOT NULL, PRIMARY KEY (counter, number)) WITHOUT ROWID');
    return $db;
}

// Keep all of them, durably, or throw. A repeat changes nothing.
function add(PDO $db, array $rows): void
{
    $insert = $db->prepare('INSERT OR IGNORE INTO inbox (id, event, at) VALUES (?, ?, ?)');
    $count = $db->prepare('INSERT OR IGNORE INTO numbers SELECT :counter, :number, :at
        WHERE CAST(:number AS INTEGER) > (SELECT ifnull(min(number), 0) FROM numbers WHERE counter = :counter)');
    $now = microtime(true);
    $db->exec('BEGIN IMMEDIATE'); // what is not committed is rolled back with the connection
    foreach ($rows as [$id, $event, $counter, $number]) {
        $insert->execute([$id, $event, $now]);
        // Also if it is a repeat: for another endpoint the same event has another number. 0 stands outside of the count: a test.
        if ($number) {
            $count->execute(['counter' => $counter, 'number' => $number, 'at' => $now]);
        }
    }
    $db->exec('COMMIT');
}

// Forget what is old, and tell of each gap once, when it has lasted.
function tidy(PDO $db): void
{
    $now = microtime(true);
    $db->prepare('DELETE FROM inbox WHERE rowid IN (SELECT rowid FROM inbox ORDER BY rowid LIMIT 200)
        AND is_done = 1 AND at < ?')->execute([$now - KEEP_S]);
    foreach ($db->query('SELECT DISTINCT counter FROM numbers')->fetchAll(PDO::FETCH_COLUMN) as $counter) {
        $rows = $db->prepare('SELECT number, at FROM numbers WHERE counter = ? ORDER BY number');
        $rows->execute([$counter]);
        $floor = 0;
        while ([$number, $at] = $rows->fetch(PDO::FETCH_NUM)) {
            if ($floor && $number > $floor + 1) {
                if ($now - $at < GAP_AFTER_S) {
                    break;
                }
                [$first, $last] = [$floor + 1, $number - 1];
                echo "gap $counter $first to $last: ask the feed, GET /apps/APP_ID/webhooks/events, what was missed\n";
            }
            $floor = $number;
        }
        $rows->closeCursor();
        // All up to the floor is settled: a number below it does not count any more.
        $db->prepare('DELETE FROM numbers WHERE counter = ? AND number < ?')->execute([$counter, $floor]);
    }
}

// -- the receiver

function receive(): int
{
    $path = $_SERVER['REQUEST_URI'];
    if ($_SERVER['REQUEST_METHOD'] !== 'POST' || !in_array($path, ['/hooks', '/pusher'], true)) {
        return 404;
    }
    if ((int) ($_SERVER['CONTENT_LENGTH'] ?? 0) > MAX_BODY) {
        return 413;
    }
    $body = (string) file_get_contents('php://input', length: MAX_BODY + 1);
    if (strlen($body) > MAX_BODY) {
        return 413;
    }
    if (!is_genuine($body) || ($path === '/pusher' && !is_genuine_pusher($body))) {
        return 401;
    }
    try {
        $rows = rows_of($body, $path === '/pusher');
    } catch (JsonException | ErrorException | UnexpectedValueException | TypeError) {
        return 400;
    }
    add(open_store(), $rows);
    return 204;
}

// Handle what is stored, in the order of arrival, also what a former life has left; look for news and gaps ten times a second.
// Run one of these: two would handle everything twice.
function work(): never
{
    $db = open_store();
    for (;; usleep(100_000)) {
        $done = $db->prepare('UPDATE inbox SET is_done = 1 WHERE id = ?');
        $waiting = $db->query('SELECT id, event FROM inbox WHERE is_done = 0 ORDER BY rowid LIMIT 100');
        try {
            foreach ($waiting->fetchAll(PDO::FETCH_NUM) as [$id, $event]) {
                handle($id, json_decode($event, true));
                $done->execute([$id]);
            }
        } catch (Exception $error) {
            error_log((string) $error); // It stays in the inbox. What comes after it waits, since it may depend on it.
        }
        tidy($db);
    }
}

if (PHP_SAPI === 'cli') {
    work();
}
try {
    http_response_code(receive());
} catch (Exception $error) {
    error_log((string) $error);
    http_response_code(500); // not stored, so not ours yet
}
