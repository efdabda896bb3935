/* Connections that come, subscribe and go: churn PORT SUBSCRIBERS REQUESTS AT_ONCE
 *
 * Arguments, input and output are those of load.c; REQUESTS is not used. `published` counts whole lives: connect, upgrade,
 * first frame, subscription, its confirmation, closing handshake, end of the stream. Times are those of a life. */

#include "wire.h"

enum { SLOWEST_US = 1 << 20 };

struct life { int fd, frames; int64_t begun_at; struct reader reader; };

/* FIN and close, masked with zeros, code 1000 (RFC 6455 section 5.5.1) */
static const char CLOSE[] = {(char)0x88, (char)0x82, 0, 0, 0, 0, 0x03, (char)0xe8};

static struct bytes *scripts;
static struct life *lives;
static int n_scripts, poll_fd, port, number;
static uint32_t *histogram;
static int64_t lived, slowest_us;

static void begin(int i) {
    lives[i] = (struct life){.fd = dial(port, number), .begun_at = now_ns()};
    struct bytes *hello = &scripts[2 * (number++ % n_scripts)];
    put(lives[i].fd, hello->data, hello->size);
    watch(poll_fd, lives[i].fd, i);
}

/* Without a subscription, being connected is being subscribed. */
static int frames_due(int i) { return scripts[2 * (i % n_scripts) + 1].size ? 2 : 0; }

/* Return whether the life is over. */
static int go_on(int i) {
    static uint8_t buffer[65536];
    struct life *life = &lives[i];
    ssize_t size = recv(life->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0) die("recv");
    if (size == 0) {
        if (life->frames < frames_due(i)) die("a connection was turned away");
        close(life->fd);
        int64_t us = (now_ns() - life->begun_at) / 1000;
        if (us > slowest_us) slowest_us = us;
        histogram[us < SLOWEST_US ? us : SLOWEST_US - 1]++;
        lived++;
        return 1;
    }
    int was_open = life->reader.is_open, frames = feed(&life->reader, buffer, size);
    if (!frames_due(i)) {
        if (life->reader.is_open && !was_open) put(life->fd, CLOSE, sizeof CLOSE);
    } else if (frames && (life->frames += frames) == 1) {
        struct bytes *subscription = &scripts[2 * (i % n_scripts) + 1];
        put(life->fd, subscription->data, subscription->size);
    } else if (frames) {
        put(life->fd, CLOSE, sizeof CLOSE);
    }
    return 0;
}

static long percentile(double share) {
    int64_t rest = lived * share;
    for (long us = 0; us < SLOWEST_US; us++)
        if ((rest -= histogram[us]) < 0) return us;
    return 0;
}

int main(int argc, char **argv) {
    struct epoll_event events[256];
    if (argc != 5) die("usage");
    port = atoi(argv[1]);
    scripts = records(argv[2], &n_scripts);
    n_scripts /= 2;
    int at_once = atoi(argv[4]);
    lives = calloc(at_once, sizeof *lives);
    histogram = calloc(SLOWEST_US, sizeof *histogram);
    poll_fd = epoll_create1(0);
    puts("ready");
    fflush(stdout);
    double seconds, rate;
    while (scanf("%lf %lf", &seconds, &rate) == 2) {
        memset(histogram, 0, sizeof *histogram * SLOWEST_US);
        lived = slowest_us = 0;
        double cpu = cpu_s();
        int64_t start = now_ns(), end = start + seconds * 1e9;
        int open = at_once;
        for (int i = 0; i < at_once; i++) begin(i);
        while (open) {
            int n = epoll_wait(poll_fd, events, 256, 10000);
            if (n == 0) die("nothing happens any more");
            for (int k = 0; k < n; k++) {
                int i = events[k].data.u64;
                if (!go_on(i)) continue;
                if (now_ns() < end) begin(i);
                else open--;
            }
        }
        printf("%ld 0 0 %.6f %.6f %ld %ld %ld\n", lived, (now_ns() - start) / 1e9, cpu_s() - cpu, percentile(0.5),
               percentile(0.99), slowest_us);
        fflush(stdout);
    }
    return 0;
}
