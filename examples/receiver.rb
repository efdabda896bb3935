# A webhook receiver on Ruby (3.0 or newer) with WEBrick: verify, store, answer; and then work, from the store.
#
#     apt-get install ruby ruby-webrick ruby-sqlite3    (or: gem install webrick sqlite3)
#     HOOK_SECRETS="whsec_..." ruby receiver.rb
#
# POST /hooks takes the formats event and batch, POST /pusher takes the format pusher.
require "base64"
require "json"
require "openssl"
require "sqlite3"
require "webrick"

PORT = Integer(ENV.fetch("PORT", "8080"))
STATE = ENV.fetch("STATE", "inbox.sqlite")
# Separated by spaces: the new one and the old one, while a secret is being changed.
SECRETS = ENV.fetch("HOOK_SECRETS").split
# For the format pusher, "key:secret" of each app, separated by spaces.
APPS = ENV.fetch("APPS", "").split.to_h { |pair| pair.split(":", 2) }
MAX_BODY = Integer(ENV.fetch("MAX_BODY", 16 * 1024 * 1024)) # bytes
TOLERANCE_S = 300
# How long a number may be overtaken by later ones before it counts as missing; lanes and retries make that normal.
GAP_AFTER_S = Float(ENV.fetch("GAP_AFTER", "60"))
# No retry and no replay is older, so an id is not needed longer.
KEEP_S = 7 * 86_400

$stdout.sync = true

# Your work. It may take its time; after a crash it may be asked to do the last event once more.
def handle(id, event)
  puts "#{id} #{event["event"]} #{event["data"]["channel"] || event["data"]["socket_id"] || "-"}"
end

# -- is it genuine

# Has one of our secrets signed this id, this time and these bytes, less than five minutes from now?
def genuine?(request, body)
  stamp = request["webhook-timestamp"].to_s
  signed = "#{request["webhook-id"]}.#{stamp}.".b + body
  given = request["webhook-signature"].to_s.split(" ")
  matches = SECRETS.flat_map do |secret|
    expected = "v1," + Base64.strict_encode64(OpenSSL::HMAC.digest("SHA256", key_of(secret), signed))
    given.map { |one| OpenSSL.secure_compare(one, expected) }
  end
  matches.any? && stamp.match?(/\A\d+\z/) && (Time.now.to_i - stamp.to_i).abs <= TOLERANCE_S
end

def key_of(secret)
  secret.start_with?("whsec_") ? Base64.strict_decode64(secret.delete_prefix("whsec_")) : secret
end

# Has the app whose key is given signed these bytes? It signs no time and no id: genuine? must hold too.
def genuine_pusher?(request, body)
  secret = APPS[request["x-pusher-key"]] or return false
  OpenSSL.secure_compare(request["x-pusher-signature"].to_s, OpenSSL::HMAC.hexdigest("SHA256", secret, body))
end

# What is to be kept of a body: id, event as JSON, the counter of its number, its number. Raises if it is none of ours.
def rows_of(body, request_id, is_pusher)
  parsed = JSON.parse(body)
  if is_pusher
    # Without ids and numbers; the request's id is the same in each attempt.
    return parsed.fetch("events").each_with_index.map do |data, place|
      ["#{request_id}/#{place}", JSON.generate("event" => data.fetch("name"), "data" => data), "", 0]
    end
  end
  parsed.fetch("events", [parsed]).map do |event|
    metadata = event.fetch("metadata")
    counter = "#{event["app_id"]}/#{metadata.fetch("webhook_id")}@#{metadata.fetch("node")}"
    kept = { "event" => event.fetch("event"), "data" => event.fetch("data").to_h, "timestamp" => event["timestamp"] }
    [String(event.fetch("id")), JSON.generate(kept), counter, metadata.fetch("sequence")]
  end
end

# -- the store

# What has been received. Threads take turns.
class Store
  SCHEMA = <<~SQL
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, event TEXT NOT NULL, at REAL NOT NULL, is_done INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS waiting ON inbox (is_done) WHERE is_done = 0;
    CREATE TABLE IF NOT EXISTS numbers (counter TEXT, number INTEGER, at REAL NOT NULL, PRIMARY KEY (counter, number)) WITHOUT ROWID;
  SQL

  def initialize(path)
    @db = SQLite3::Database.new(path)
    @db.execute_batch(SCHEMA)
    @turn = Mutex.new
  end

  # Keep all of them, durably, or raise. A repeat changes nothing.
  def add(rows)
    now = Time.now.to_f
    @turn.synchronize do
      @db.transaction do
        rows.each do |id, event, counter, number|
          @db.execute("INSERT OR IGNORE INTO inbox (id, event, at) VALUES (?, ?, ?)", [id, event, now])
          # Also if it is a repeat: for another endpoint the same event has another number. 0 stands outside: a test.
          next if number.zero?
          @db.execute(<<~SQL, [counter, number, now])
            INSERT OR IGNORE INTO numbers SELECT ?1, ?2, ?3
            WHERE ?2 > (SELECT ifnull(min(number), 0) FROM numbers WHERE counter = ?1)
          SQL
        end
      end
    end
  end

  def waiting
    @turn.synchronize { @db.execute("SELECT id, event FROM inbox WHERE is_done = 0 ORDER BY rowid LIMIT 100") }
  end

  def done(id)
    @turn.synchronize { @db.execute("UPDATE inbox SET is_done = 1 WHERE id = ?", [id]) }
  end

  # Forget what is old, and return each gap once, when it has lasted.
  def tidy
    @turn.synchronize do
      @db.execute(<<~SQL, [Time.now.to_f - KEEP_S])
        DELETE FROM inbox WHERE rowid IN (SELECT rowid FROM inbox ORDER BY rowid LIMIT 200) AND is_done = 1 AND at < ?
      SQL
      @db.execute("SELECT DISTINCT counter FROM numbers").flat_map { |(counter)| gaps_of(counter) }
    end
  end

  private

  def gaps_of(counter)
    gaps = []
    floor = nil
    @db.execute("SELECT number, at FROM numbers WHERE counter = ? ORDER BY number", [counter]) do |number, at|
      if floor && number > floor + 1
        break if Time.now.to_f - at < GAP_AFTER_S
        gaps << "gap #{counter} #{floor + 1} to #{number - 1}"
      end
      floor = number
    end
    # All up to the floor is settled: a number below it does not count any more.
    @db.execute("DELETE FROM numbers WHERE counter = ? AND number < ?", [counter, floor])
    gaps
  end
end

# -- the receiver

class Receiver < WEBrick::HTTPServlet::AbstractServlet
  def initialize(server, store, news)
    super(server)
    @store = store
    @news = news
  end

  def do_POST(request, response)
    response.status = receive(request)
    # What has not been read of a body must not be taken for the next request.
    response.keep_alive = false if response.status == 413
  end

  private

  def receive(request)
    return 404 unless ["/hooks", "/pusher"].include?(request.path)
    body = read(request) or return 413
    is_pusher = request.path == "/pusher"
    return 401 unless genuine?(request, body) && (!is_pusher || genuine_pusher?(request, body))
    begin
      rows = rows_of(body, request["webhook-id"], is_pusher)
    rescue JSON::ParserError, KeyError, TypeError, NoMethodError
      return 400
    end
    @store.add(rows)
    @news << true
    204
  end

  # The raw body, or nil if it is too long.
  def read(request)
    return nil if request["content-length"].to_i > MAX_BODY
    body = "".b
    request.body do |piece|
      body << piece
      return nil if body.bytesize > MAX_BODY
    end
    body
  end
end

# Handle what is stored, in the order of arrival, also what a former life has left; look for gaps each second.
def work(store, news)
  loop do
    begin
      store.waiting.each do |id, event|
        handle(id, JSON.parse(event))
        store.done(id)
        news << true
      end
    rescue StandardError => error
      warn error.full_message # It stays in the inbox. What comes after it waits, since it may depend on it.
    end
    store.tidy.each { |gap| puts "#{gap}: ask the feed, GET /apps/APP_ID/webhooks/events, what was missed" }
    news.pop
    news.clear
  end
end

store = Store.new(STATE)
news = Queue.new
Thread.new { work(store, news) }.abort_on_exception = true
Thread.new { loop { sleep 1 and news << true } }

server = WEBrick::HTTPServer.new(
  BindAddress: "127.0.0.1", Port: PORT, AccessLog: [], Logger: WEBrick::Log.new($stderr, WEBrick::BasicLog::WARN),
  StartCallback: -> { puts "listening on http://127.0.0.1:#{PORT}" }
)
server.mount("/", Receiver, store, news)
["INT", "TERM"].each { |signal| trap(signal) { server.shutdown } }
server.start
