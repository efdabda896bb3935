/* The least a server can do, as a yardstick: floor FRAMES
 *
 * FRAMES holds four records: what a new WebSocket is told, what a subscription is told, the message, what a publish is told.
 * Prints its port. Whatever begins with G is an upgrade and gets a constant answer; whatever begins with P is a publish: the
 * message goes to every subscriber there is, one `send` each. What a subscriber sends after its subscription is a client event:
 * the message goes to all others. A ping gets its pong. Nothing is parsed, checked, or kept beyond the descriptor. */

#include "wire.h"

enum { MOST = 65536 };

static int subscribers[MOST], place[MOST], count;

static void leave(int fd) {
    if (place[fd]) {
        int last = subscribers[--count];
        subscribers[place[fd] - 1] = last;
        place[last] = place[fd];
        place[fd] = 0;
    }
    close(fd);
}

/* Several may wait in one read, and each is a client event or a subscription. */
static ssize_t client_frame_size(const char *frame) {
    int code = frame[1] & 127;
    return code < 126 ? 6 + code : 8 + ((uint8_t)frame[2] << 8 | (uint8_t)frame[3]);
}

static void serve(int fd, struct bytes *say) {
    static char buffer[1 << 20];
    ssize_t size = recv(fd, buffer, sizeof buffer, 0);
    if (size <= 0) {
        leave(fd);
    } else if (buffer[0] == 'G') {
        put(fd, say[0].data, say[0].size);
    } else if (buffer[0] == 'P') {
        for (int i = 0; i < count; i++) put(subscribers[i], say[2].data, say[2].size);
        put(fd, say[3].data, say[3].size);
    } else if ((buffer[0] & 15) == 8) {
        put(fd, "\x88\x02\x03\xe8", 4);
        leave(fd);
    } else if ((buffer[0] & 15) == 9) {
        for (ssize_t at = 0; at + 1 < size; at += client_frame_size(buffer + at)) put(fd, "\x8a\x00", 2);
    } else if (place[fd]) {
        for (ssize_t at = 0; at + 1 < size; at += client_frame_size(buffer + at))
            for (int i = 0; i < count; i++)
                if (subscribers[i] != fd) put(subscribers[i], say[2].data, say[2].size);
    } else {
        subscribers[count++] = fd, place[fd] = count;
        for (ssize_t at = 0; at + 1 < size; at += client_frame_size(buffer + at)) put(fd, say[1].data, say[1].size);
    }
}

int main(int argc, char **argv) {
    struct epoll_event events[256];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int records_there = 0, on = 1, door = socket(AF_INET, SOCK_STREAM, 0), poll_fd = epoll_create1(0);
    if (argc != 2) die("usage");
    struct bytes *say = records(argv[1], &records_there);
    if (records_there != 4) die(argv[1]);
    if (bind(door, (void *)&at, sizeof at) || listen(door, 4096)) die("listen");
    getsockname(door, (void *)&at, &length);
    watch(poll_fd, door, door);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(poll_fd, events, 256, -1);
        for (int k = 0; k < n; k++) {
            int fd = events[k].data.u64;
            if (fd != door) {
                serve(fd, say);
                continue;
            }
            int fresh = accept(door, NULL, NULL);
            if (fresh < 0 || fresh >= MOST) die("accept");
            setsockopt(fresh, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            watch(poll_fd, fresh, fresh);
        }
    }
}
