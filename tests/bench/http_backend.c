/* A server of fixed answers, as cheap as one can be: HTTP/1.1 with keep-alive, one thread, epoll.
 *
 *     http_backend HOST PORT
 *
 * The first letter of the path picks the answer: /k 1 KiB, /m 1 MiB, anything else 13 octets. Requests have no bodies.
 * It prints a line when it listens. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SMALL, KILOBYTE, MEGABYTE, ANSWERS, ROOM = 16384, EVENTS = 256 };

typedef struct {
    char *octets;
    size_t length;
} answer;

typedef struct {
    int fd, waiting; /* octets of requests that are not answered yet */
    const answer *now;
    size_t sent;
    char in[ROOM];
} connection;

static answer answers[ANSWERS];

static void make_answer(answer *a, size_t body) {
    char head[256];
    int length = snprintf(head, sizeof head,
        "HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Mon, 23 Nov 2026 03:20:16 GMT\r\nContent-Type: text/plain\r\n"
        "Content-Length: %zu\r\n\r\n", body);
    a->length = (size_t)length + body;
    a->octets = malloc(a->length);
    memcpy(a->octets, head, (size_t)length);
    memset(a->octets + length, 'x', body);
}

static const answer *answer_to(const char *request, size_t length) {
    const char *path = memchr(request, '/', length);
    char first = path && path + 1 < request + length ? path[1] : 0;
    return &answers[first == 'k' ? KILOBYTE : first == 'm' ? MEGABYTE : SMALL];
}

/* Answers what is there; -1: the connection is over. */
static int pump(connection *c) {
    for (;;) {
        if (c->now) {
            ssize_t sent = send(c->fd, c->now->octets + c->sent, c->now->length - c->sent, MSG_NOSIGNAL);
            if (sent < 0)
                return errno == EAGAIN ? 0 : -1;
            c->sent += (size_t)sent;
            if (c->sent < c->now->length)
                return 0;
            c->now = NULL;
        }
        char *end = memmem(c->in, (size_t)c->waiting, "\r\n\r\n", 4);
        if (!end)
            return c->waiting == ROOM ? -1 : 0;
        size_t used = (size_t)(end + 4 - c->in);
        c->now = answer_to(c->in, used);
        c->sent = 0;
        c->waiting -= (int)used;
        memmove(c->in, c->in + used, (size_t)c->waiting);
    }
}

static int receive(connection *c) {
    while (c->waiting < ROOM) {
        ssize_t got = recv(c->fd, c->in + c->waiting, (size_t)(ROOM - c->waiting), 0);
        if (got == 0)
            return -1;
        if (got < 0)
            return errno == EAGAIN ? 0 : -1;
        c->waiting += (int)got;
        if (c->waiting < ROOM)
            return 0;
    }
    return 0;
}

static void accept_all(int listener, int loop) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listen_at(const char *host, int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (inet_pton(AF_INET, host, &at.sin_addr) != 1 || bind(listener, (void *)&at, sizeof at) || listen(listener, 4096))
        return -1;
    return listener;
}

int main(int count, char **words) {
    if (count != 3)
        return 2;
    make_answer(&answers[SMALL], 13);
    make_answer(&answers[KILOBYTE], 1024);
    make_answer(&answers[MEGABYTE], 1 << 20);
    int loop = epoll_create1(0), listener = listen_at(words[1], atoi(words[2]));
    if (listener < 0) {
        perror("listen");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
    puts("listening");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(loop, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            connection *c = events[i].data.ptr;
            if (!c) {
                accept_all(listener, loop);
                continue;
            }
            int over = events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? receive(c) : 0;
            if (over || pump(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}
