/* Subscribers and publishers: load PORT[:PUBLISH_PORT] SUBSCRIBERS REQUESTS PUBLISHERS [CONNECTS]
 *
 * SUBSCRIBERS holds two records each (upgrade request, subscriptions), REQUESTS one HTTP request per channel; subscriber i
 * is on channel i % channels, or on as many channels in turn as its record has subscriptions; then nothing is timed. Without
 * a subscription, being connected is being subscribed. A record of SUBSCRIBERS that is "#FD" is a connection that the parent
 * has made and subscribed. Where the request is a frame it is a client event: the first PUBLISHERS of the subscribers send
 * it, and all others receive it. CONNECTS is how many subscribers connect per second, 0: as fast as it goes. Says "ready"; then each line "SECONDS RATE" on standard input (RATE: publishes per second;
 * 0: as fast as the window of one publish per publisher lets) makes a round, answered by a line
 *
 *     published delivered refused seconds cpu_s p50_us p99_us max_us
 *
 * A subscriber answers pings while others are still coming, and while a round lasts. Without publishers that is all that
 * happens, and `published` counts it.
 *
 * A publisher whose server closes the connection after each answer connects again each time.
 * A publish leaves the window when it was answered and has reached all its subscribers, so a round loses nothing. */

#include "wire.h"

/* AT_ONCE: how many are on their way while nobody says how many are to come */
enum { MARKS = 256, SLOWEST_US = 1 << 20, AT_ONCE = 32 };

/* A slow server with many subscribers may have much to do when the last publish is out. */
static const int64_t PATIENCE_NS = 60000000000LL;

struct subscriber { int fd; uint32_t seen; struct reader reader; };
struct publisher { int fd, is_busy; size_t have; char answer[4096]; };

static struct subscriber *subscribers;
static struct publisher *publishers;
static struct bytes *requests;
static int n_subscribers, n_publishers, n_channels, n_subscriptions, poll_fd, publish_port, are_client_events;
static int64_t (*sent_at)[MARKS];
static uint32_t *sent, *histogram;
static int64_t published, answered, delivered, refused, slowest_us, pongs;

/* FIN and pong, masked with zeros; all pings are empty (RFC 6455 section 5.5.3) */
static const char PONG[] = {(char)0x8a, (char)0x80, 0, 0, 0, 0};
static unsigned next_publisher;
static int next_channel;

/* Count a client's frames, all of the short form. */
static int count_frames(struct bytes *script) {
    int count = 0;
    for (uint32_t at = 0; at + 1 < script->size; count++) at += 6 + (script->data[at + 1] & 127);
    return count;
}

/* Wait until the connection is open and so many frames have come. */
static void hear_until(struct subscriber *s, uint8_t *buffer, size_t room, int frames) {
    while (frames > 0 || !s->reader.is_open) {
        ssize_t size = recv(s->fd, buffer, room, 0);
        if (size <= 0) die("a subscriber was turned away");
        frames -= feed(&s->reader, buffer, size);
        if ((s->reader.head[0] & 15) == 8) die("a subscriber was turned away");
    }
}

static void hear_frames(int i, int64_t at);

static int hear(int64_t wait_ns) {
    struct epoll_event events[512];
    struct timespec timeout = {wait_ns / 1000000000, wait_ns % 1000000000};
    int n = epoll_pwait2(poll_fd, events, 512, &timeout, NULL);
    for (int k = 0; k < n; k++) hear_frames(events[k].data.u64, now_ns());
    return n;
}

/* Many take their time to come, and the first ones may be asked meanwhile whether they are alive. */
static void hear_early_ones(int64_t until) {
    for (int64_t now; (now = now_ns()) < until;) hear(until - now);
    while (hear(0) == 512) continue;
}

static int is_made(struct bytes *hello) { return hello->size && *hello->data == '#'; }

/* Subscribe those from first to last, in steps that all of them take together: the server has the next one's while we have this one's. */
static void subscribe(int port, struct bytes *scripts, int first, int last) {
    uint8_t buffer[65536];
    for (int i = first; i < last; i++) {
        struct bytes *hello = &scripts[2 * i];
        subscribers[i].fd = is_made(hello) ? atoi(hello->data + 1) : dial(port, i);
        subscribers[i].reader.is_open = is_made(hello);
        if (!is_made(hello)) put(subscribers[i].fd, hello->data, hello->size);
    }
    for (int step = 0; step < 2; step++) {
        for (int i = first; i < last; i++) {
            struct bytes *subscription = &scripts[2 * i + 1];
            int channels = count_frames(subscription);
            if (step) n_subscriptions += channels ? channels : 1;
            if (is_made(&scripts[2 * i])) continue;
            hear_until(&subscribers[i], buffer, sizeof buffer, step ? channels : channels ? 1 : 0);
            if (!step) put(subscribers[i].fd, subscription->data, subscription->size);
        }
    }
    for (int i = first; i < last; i++) watch(poll_fd, subscribers[i].fd, i);
}

static void subscribe_all(int port, struct bytes *scripts, double per_s) {
    int64_t start = now_ns();
    for (int i = 0, step = per_s ? 1 : AT_ONCE; i < n_subscribers; i += step) {
        hear_early_ones(per_s ? start + i / per_s * 1e9 : 0);
        subscribe(port, scripts, i, i + step < n_subscribers ? i + step : n_subscribers);
    }
}

static void publish(struct publisher *p, int64_t at) {
    int channel = next_channel++ % n_channels;
    published++;
    if (are_client_events) {
        put(subscribers[p - publishers].fd, requests->data, requests->size);
        answered++;
        return;
    }
    if (sent_at) sent_at[channel][sent[channel]++ % MARKS] = at;
    p->is_busy = 1;
    put(p->fd, requests[channel].data, requests[channel].size);
}

static void call(struct publisher *p) {
    if (p->fd) close(p->fd);
    p->fd = dial(publish_port, answered + (p - publishers));
    watch(poll_fd, p->fd, n_subscribers + (p - publishers));
}

static int was_cut_off(int fd) {
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 || errno != EAGAIN;
}

static void hear_answer(struct publisher *p) {
    ssize_t size = recv(p->fd, p->answer + p->have, sizeof p->answer - 1 - p->have, MSG_DONTWAIT);
    if (size <= 0) die("a publisher was cut off");
    p->have += size;
    p->answer[p->have] = 0;
    char *body = strstr(p->answer, "\r\n\r\n"), *length = strcasestr(p->answer, "content-length:");
    if (!body || !length || p->have < (size_t)(body + 4 - p->answer) + atoi(length + 15)) return;
    if (strncmp(p->answer, "HTTP/1.1 2", 10)) {
        if (!refused++) fprintf(stderr, "refused: %s\n", p->answer);
    }
    answered++;
    p->have = p->is_busy = 0;
    if (strcasestr(p->answer, "connection: close")) call(p);
}

static void hear_frames(int i, int64_t at) {
    static uint8_t buffer[1 << 18];
    struct subscriber *s = &subscribers[i];
    ssize_t size = recv(s->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size <= 0) die("a subscriber was cut off");
    int frames = feed(&s->reader, buffer, size);
    delivered += frames;
    for (; s->reader.pings; s->reader.pings--, pongs++) put(s->fd, PONG, sizeof PONG);
    if (are_client_events && memmem(buffer, size, "pusher:error", 12)) die("a client event was refused");
    for (; frames && sent_at; frames--) {
        int64_t us = (at - sent_at[i % n_channels][s->seen++ % MARKS]) / 1000;
        if (us > slowest_us) slowest_us = us;
        histogram[us < SLOWEST_US ? us : SLOWEST_US - 1]++;
    }
}

static long percentile(double share) {
    int64_t rest = delivered * share;
    for (long us = 0; us < SLOWEST_US && sent_at; us++)
        if ((rest -= histogram[us]) < 0) return us;
    return 0;
}

static void run(double seconds, double rate) {
    struct epoll_event events[512];
    /* Only now: while others have their rounds, this server may have cut off whoever had nothing to say. */
    for (int i = 0; i < n_publishers && !are_client_events; i++)
        if (!publishers[i].fd || was_cut_off(publishers[i].fd)) call(&publishers[i]);
    int64_t audience = are_client_events ? n_subscribers - 1 : n_subscriptions / n_channels, per_publish = audience ? audience : 1, every = rate ? 1e9 / rate : 0;
    memset(histogram, 0, sizeof *histogram * SLOWEST_US);
    published = answered = delivered = refused = slowest_us = pongs = 0;
    double cpu = cpu_s();
    int64_t start = now_ns(), end = start + seconds * 1e9, due = start, now;
    for (;;) {
        now = now_ns();
        if (now > end + PATIENCE_NS) die("a round does not come to its end");
        int64_t complete = audience ? delivered / per_publish : answered;
        int64_t open = published - refused - (complete < answered - refused ? complete : answered - refused);
        for (int i = 0; i < n_publishers && now < end && open < n_publishers && due <= now; i++) {
            /* In turn, also where one would do: a server may cut off whoever has nothing to say. */
            struct publisher *p = &publishers[next_publisher++ % n_publishers];
            if (p->is_busy) continue;
            publish(p, rate ? due : now);
            open++;
            due += every;
        }
        if (now >= end && (!n_publishers || (answered == published && delivered == (published - refused) * audience))) break;
        int64_t next = n_publishers ? due : end, wait = now < end && next > now ? next - now : 1000000;
        struct timespec timeout = {0, wait < 100000000 ? wait : 100000000};
        int n = epoll_pwait2(poll_fd, events, 512, &timeout, NULL);
        now = now_ns();
        for (int k = 0; k < n; k++) {
            uint64_t tag = events[k].data.u64;
            if (tag < (uint64_t)n_subscribers) hear_frames(tag, now);
            else hear_answer(&publishers[tag - n_subscribers]);
        }
    }
    printf("%ld %ld %ld %.6f %.6f %ld %ld %ld\n", n_publishers ? published : pongs, delivered, refused, (now - start) / 1e9, cpu_s() - cpu,
           percentile(0.5), percentile(0.99), slowest_us);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 6) die("usage");
    int port = atoi(argv[1]);
    char *other = strchr(argv[1], ':');
    publish_port = other ? atoi(other + 1) : port;
    struct bytes *scripts = records(argv[2], &n_subscribers);
    n_subscribers /= 2;
    requests = records(argv[3], &n_channels);
    n_publishers = atoi(argv[4]);
    are_client_events = n_channels && (uint8_t)*requests->data == 0x81;
    if (are_client_events && (n_channels > 1 || n_publishers > n_subscribers)) die("usage");
    subscribers = calloc(n_subscribers + 1, sizeof *subscribers);
    publishers = calloc(n_publishers + 1, sizeof *publishers);
    histogram = calloc(SLOWEST_US, sizeof *histogram);
    poll_fd = epoll_create1(0);
    subscribe_all(port, scripts, argc > 5 ? atof(argv[5]) : 0);
    if (!are_client_events && n_subscriptions == n_subscribers) {
        sent_at = calloc(n_channels + 1, sizeof *sent_at);
        sent = calloc(n_channels + 1, sizeof *sent);
    }
    puts("ready");
    fflush(stdout);
    double seconds, rate;
    while (scanf("%lf %lf", &seconds, &rate) == 2) run(seconds, rate);
    return 0;
}
