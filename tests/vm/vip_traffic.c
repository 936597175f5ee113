/* Backends and clients of virtual addresses, in any network namespace, in one process each: an emulated CPU has no
 * time for more.
 *
 *   vip_traffic serve                              does what lines on standard input say, and answers each by a line:
 *     open N NETNS tcp|udp ADDRESS PORT            backend number N (0..255) listens
 *     close N                                      it does no more; its connections stay
 *   vip_traffic connect NETNS RATE LOG ADDRESS:PORT...
 *     makes RATE connections a second, to each address in turn, until standard input ends; then LOG has a line for
 *     each: its start and its end (seconds of CLOCK_MONOTONIC), the number of the address, the backend's number
 *     (-1: none) and the error (errno, 0: all went well, 1000: it ended without an answer)
 *
 * A backend answers each octet by its number; after an "x" it hangs up. NETNS is a name below /run/netns, "-" stands for
 * the one that the program runs in. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_BACKENDS 256
#define MOST_FILES 4096
#define MOST_AT_ONCE 256
#define PATIENCE 15.0
#define NO_ANSWER 1000

enum { NOTHING, INPUT, LISTENER, RECEIVER, SERVED, OPENING, ASKED, ANSWERED };

struct file {
    int kind, number, backend;
    double start;
};

static struct file files[MOST_FILES];
static int poll_fd, home;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

static void watch(int fd, int kind, int number, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (fd >= MOST_FILES || epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
    files[fd] = (struct file){kind, number, -1, 0};
}

static void end(int fd)
{
    files[fd].kind = NOTHING;
    close(fd);
}

static void enter(const char *netns)
{
    char path[256];
    int there = home;
    if (strcmp(netns, "-")) {
        snprintf(path, sizeof path, "/run/netns/%s", netns);
        there = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (there < 0 || setns(there, CLONE_NEWNET))
        fail(netns);
    if (there != home)
        close(there);
}

static int new_socket(int kind)
{
    int fd = socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    return fd;
}

static struct sockaddr_in place(const char *address, int port)
{
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, address, &found.sin_addr) != 1)
        fail(address);
    return found;
}

/* --- backends ------------------------------------------------------------------------------------------------- */

static int listening[MOST_BACKENDS];

static const char *open_backend(int number, const char *netns, const char *protocol, const char *address, int port)
{
    int is_tcp = !strcmp(protocol, "tcp"), one = 1;
    struct sockaddr_in at = place(address, port);
    enter(netns);
    int fd = new_socket(is_tcp ? SOCK_STREAM : SOCK_DGRAM);
    enter("-");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&at, sizeof at) || (is_tcp && listen(fd, 1024)))
        return strerror(errno);
    watch(fd, is_tcp ? LISTENER : RECEIVER, number, EPOLLIN);
    listening[number] = fd;
    return "ok";
}

static const char *command(char *line)
{
    char netns[128], protocol[8], address[64];
    int number, port;
    if (sscanf(line, "close %d", &number) == 1 && number >= 0 && number < MOST_BACKENDS) {
        if (listening[number])
            end(listening[number]);
        listening[number] = 0;
        return "ok";
    }
    if (sscanf(line, "open %d %127s %7s %63s %d", &number, netns, protocol, address, &port) == 5 && number >= 0 &&
        number < MOST_BACKENDS)
        return listening[number] ? "ok" : open_backend(number, netns, protocol, address, port);
    return "what?";
}

static void obey(void)
{
    static char text[65536];
    static size_t held;
    char *line_end;
    ssize_t got = read(0, text + held, sizeof text - 1 - held);
    if (got <= 0)
        exit(0);
    text[held += got] = 0;
    while ((line_end = strchr(text, '\n'))) {
        *line_end = 0;
        puts(command(text));
        held -= line_end + 1 - text;
        memmove(text, line_end + 1, held + 1);
    }
    fflush(stdout);
}

static void serve_one(int fd)
{
    struct sockaddr_in client;
    socklen_t size = sizeof client;
    char octets[2048], answer = files[fd].number;
    ssize_t got;
    int accepted;
    switch (files[fd].kind) {
    case INPUT:
        obey();
        break;
    case LISTENER:
        while ((accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
            watch(accepted, SERVED, files[fd].number, EPOLLIN);
        break;
    case RECEIVER:
        got = recvfrom(fd, octets, sizeof octets, 0, (void *)&client, &size);
        if (got >= 0)
            sendto(fd, &answer, 1, 0, (void *)&client, size);
        break;
    case SERVED:
        got = read(fd, octets, sizeof octets);
        if (got > 0 && send(fd, &answer, 1, MSG_NOSIGNAL) != 1)
            got = 0;
        if (got == 0 || (got < 0 && errno != EAGAIN) || (got > 0 && octets[0] == 'x'))
            end(fd);
        break;
    }
}

static void serve(void)
{
    struct epoll_event events[64];
    fcntl(0, F_SETFL, O_NONBLOCK);
    watch(0, INPUT, 0, EPOLLIN);
    for (;;) {
        int count = epoll_wait(poll_fd, events, 64, -1);
        for (int i = 0; i < count; i++)
            serve_one(events[i].data.fd);
    }
}

/* --- clients -------------------------------------------------------------------------------------------------- */

static FILE *report;
static int open_now, is_ending;

static void ended(int fd, int error)
{
    struct file *file = &files[fd];
    fprintf(report, "%.4f %.4f %d %d %d\n", file->start, now(), file->number, file->backend, error);
    open_now--;
    end(fd);
}

static void begin(struct sockaddr_in *to, int number)
{
    int fd = new_socket(SOCK_STREAM);
    watch(fd, OPENING, number, EPOLLOUT);
    files[fd].start = now();
    open_now++;
    if (connect(fd, (void *)to, sizeof *to) && errno != EINPROGRESS)
        ended(fd, errno);
}

static void go_on(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    struct file *file = &files[fd];
    unsigned char octet;
    ssize_t got;
    if (file->kind == INPUT) {
        char octets[64];
        if (read(0, octets, sizeof octets) == 0) {
            is_ending = 1;
            epoll_ctl(poll_fd, EPOLL_CTL_DEL, 0, NULL);
        }
    } else if (file->kind == OPENING) {
        if (send(fd, "x", 1, MSG_NOSIGNAL) != 1) {
            ended(fd, errno);
            return;
        }
        file->kind = ASKED;
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
    } else {
        while ((got = read(fd, &octet, 1)) == 1) {
            file->backend = octet;
            file->kind = ANSWERED;
        }
        if (got == 0)
            ended(fd, file->kind == ANSWERED ? 0 : NO_ANSWER);
        else if (errno != EAGAIN)
            ended(fd, errno);
    }
}

static void give_up(void)
{
    double limit = now() - PATIENCE;
    for (int fd = 0; fd < MOST_FILES; fd++)
        if (files[fd].kind >= OPENING && files[fd].start < limit)
            ended(fd, ETIMEDOUT);
}

static void make_connections(const char *netns, double rate, struct sockaddr_in *to, int count)
{
    struct epoll_event events[64];
    double due = now(), look = due;
    int turn = 0;
    enter(netns);
    watch(0, INPUT, 0, EPOLLIN);
    while (!is_ending || open_now) {
        double at = now();
        while (!is_ending && due <= at && open_now < MOST_AT_ONCE) {
            begin(&to[turn % count], turn % count);
            turn++;
            due += 1 / rate;
        }
        if (due < at - 1)
            due = at; /* what this machine can't do is not made up for */
        int ready = epoll_wait(poll_fd, events, 64, is_ending ? 100 : (int)((due > at ? due - at : 0) * 1000) + 1);
        for (int i = 0; i < ready; i++)
            if (files[events[i].data.fd].kind != NOTHING)
                go_on(events[i].data.fd);
        if (at > look + 1) {
            give_up();
            look = at;
        }
    }
    fclose(report);
}

int main(int count, char **words)
{
    home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (count == 2 && !strcmp(words[1], "serve")) {
        serve();
    } else if (count > 5 && !strcmp(words[1], "connect")) {
        struct sockaddr_in *to = calloc(count, sizeof *to);
        for (int i = 5; i < count; i++) {
            char *colon = strchr(words[i], ':');
            *colon = 0;
            to[i - 5] = place(words[i], atoi(colon + 1));
        }
        report = fopen(words[4], "w");
        if (!report)
            fail(words[4]);
        make_connections(words[2], atof(words[3]), to, count - 5);
        return 0;
    }
    fprintf(stderr, "see the head of vip_traffic.c\n");
    return 2;
}
