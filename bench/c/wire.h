/* What the load and the floor share: records from a file, clocks, and the reading of a server's frames.
 *
 * Just enough for a measurement over loopback: whatever is unexpected ends the program. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct bytes { uint32_t size; char *data; };

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "not as expected");
    exit(2);
}

/* Read a file of records, each its length (32 bits, big endian) and its bytes. */
static struct bytes *records(const char *path, int *count) {
    FILE *file = fopen(path, "rb");
    struct bytes *all = NULL;
    uint32_t size;
    if (!file) die(path);
    for (*count = 0; fread(&size, 4, 1, file) == 1; ++*count) {
        if (!(*count & (*count - 1))) all = realloc(all, sizeof *all * (*count ? 2 * *count : 1));
        size = ntohl(size);
        all[*count] = (struct bytes){size, malloc(size + 1)};
        if (size && fread(all[*count].data, size, 1, file) != 1) die(path);
    }
    fclose(file);
    return all;
}

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void put(int fd, const char *data, size_t size) {
    if (send(fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) die("send");
}

/* Connect from one of many loopback addresses, for one has only some 28,000 ports to offer. */
static int dial(int port, int number) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + number % 250)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 20};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (bind(fd, (void *)&from, sizeof from)) die("bind");
    if (connect(fd, (void *)&to, sizeof to)) die("connect");
    return fd;
}

static void watch(int poll, int fd, uint64_t tag) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

/* Where in the server's stream a client is: in the head of the answer to its upgrade, or in a frame. */
struct reader { uint32_t left, pings; uint8_t head[10], have, matched, is_open, is_text; };

/* Take what was received and return how many text frames it completed. */
static inline int feed(struct reader *r, const uint8_t *p, size_t n) {
    int frames = 0;
    while (n) {
        if (!r->is_open) {
            r->matched = *p == "\r\n\r\n"[r->matched] ? r->matched + 1 : *p == '\r';
            r->is_open = r->matched == 4;
            p++, n--;
        } else if (r->left) {
            uint32_t step = n < r->left ? n : r->left;
            p += step, n -= step, r->left -= step;
            if (!r->left) frames += r->is_text;
        } else {
            r->head[r->have++] = *p++, n--;
            uint8_t code = r->head[1] & 127;
            if (r->have < 2 || r->have < (code < 126 ? 2 : code == 126 ? 4 : 10)) continue;
            /* the last four bytes of the longest form are enough for 4 GB */
            int first = code < 126 ? 1 : code == 126 ? 2 : 6;
            for (r->left = 0; first < r->have; first++) r->left = r->left << 8 | (first == 1 ? code : r->head[first]);
            r->is_text = (r->head[0] & 15) == 1;
            r->pings += (r->head[0] & 15) == 9;
            r->have = 0;
            if (!r->left) frames += r->is_text;
        }
    }
    return frames;
}
