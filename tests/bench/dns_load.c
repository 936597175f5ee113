/* A DNS load generator for loopback: asks from a file, checks every answer, prints one JSON object.
 *
 *   dns_load --host 127.0.0.1 --port 53 --queries FILE [--seconds 1.5] [--sockets 8] [--window 192]
 *            [--passes N] [--rate N] [--timeout 0.5] [--tcp]
 *
 * FILE holds messages, each behind its length (two octets, little endian); their IDs are replaced.
 * Without --rate at most `window` questions are outstanding, spread evenly over the sockets: the
 * server is always busy, and the latencies are those of its queue. With --rate so many questions
 * are sent each second whatever comes back: the latencies are those that a client sees, and
 * `longest_gap_ms` is the longest time in which no answer came. `longest_send_gap_ms` says how
 * long this program itself did not send: below it, a gap says nothing about the server.
 * --tcp: each socket is one connection that stays open, with its share of the window in flight.
 * --passes: end when each question was asked so often. The run is bounded by --seconds always.
 *
 * An answer counts when its ID is outstanding on the socket that it came to, QR is set, and the
 * question section is octet for octet what was asked; otherwise it is `unexpected` (no such ID) or
 * `wrong`. A question without an answer for `timeout` seconds is `lost`. One thread; Linux only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dns_latency.h"
#include "dns_questions.h"

enum {
    BATCH = 32,           /* datagrams per system call */
    MAX_SOCKETS = 64,
    MAX_ANSWER = 65535,
    IDS = 65536,
    TICK_NS = 100000,     /* with --rate: sleep at most so long, so that questions leave evenly */
};

struct channel { /* one socket, and what is outstanding on it */
    int fd;
    unsigned outstanding;
    uint16_t next_id, oldest_id;
    uint32_t asked[IDS];   /* by ID: 1 + the question's number; 0: not outstanding */
    uint64_t sent_at[IDS]; /* ns */
    uint8_t *in, *out;     /* TCP: what is not a whole answer yet, and what is not written yet */
    size_t in_used, out_from, out_used;
};

static struct {
    const char *host, *file;
    int port, sockets, window;
    long passes, rate;
    double seconds, timeout;
    bool tcp;
} opt = {.host = "127.0.0.1", .sockets = 8, .window = 192, .seconds = 1.5, .timeout = 0.5};

static struct {
    uint64_t sent, answers, wrong, unexpected, lost, truncated, octets, rcodes[16];
    struct latencies latencies;
    uint64_t started, last_answer, longest_gap, last_send, longest_send_gap;
} seen;

static size_t next_query;
static struct channel *channels[MAX_SOCKETS];

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- questions --------------------------------------------------------------------------------- */

/* Puts the next question at `to` under an ID of the channel; returns its length. */
static uint16_t next_question(struct channel *c, uint8_t *to, uint64_t now) {
    const struct query *query = &queries[next_query];
    uint16_t id = c->next_id++;
    if (c->asked[id]) { /* 65,536 questions later still no answer */
        seen.lost++;
        c->outstanding--;
    }
    c->asked[id] = (uint32_t)next_query + 1;
    c->sent_at[id] = now;
    c->outstanding++;
    seen.sent++;
    next_query = next_query + 1 == query_count ? 0 : next_query + 1;
    memcpy(to, query->wire, query->length);
    to[0] = (uint8_t)(id >> 8);
    to[1] = (uint8_t)id;
    return query->length;
}

/* The last `count` questions of the channel never left. */
static void take_back(struct channel *c, int count) {
    for (; count > 0; count--) {
        c->asked[--c->next_id] = 0;
        c->outstanding--;
        seen.sent--;
        next_query = next_query ? next_query - 1 : query_count - 1;
    }
}

static bool all_asked(void) { return opt.passes && seen.sent >= (uint64_t)opt.passes * query_count; }

/* How many of `wanted` may still be asked. */
static int limited(int wanted) {
    if (!opt.passes) return wanted;
    uint64_t left = (uint64_t)opt.passes * query_count - seen.sent;
    return (uint64_t)wanted > left ? (int)left : wanted;
}

/* --- answers ----------------------------------------------------------------------------------- */

static void take_answer(struct channel *c, const uint8_t *answer, size_t length, uint64_t now) {
    uint16_t id = (uint16_t)(length < HEADER ? 0 : answer[0] << 8 | answer[1]);
    if (length < HEADER || !c->asked[id]) {
        seen.unexpected++;
        return;
    }
    const struct query *query = &queries[c->asked[id] - 1];
    c->asked[id] = 0;
    c->outstanding--;
    if (!(answer[2] & 0x80) || length < query->question_end || memcmp(answer + 4, query->wire + 4, 2) ||
        memcmp(answer + HEADER, query->wire + HEADER, (size_t)query->question_end - HEADER)) {
        seen.wrong++;
        return;
    }
    seen.answers++;
    seen.octets += length;
    seen.rcodes[answer[3] & 15]++;
    if (answer[2] & 2) seen.truncated++;
    count_latency(&seen.latencies, now - c->sent_at[id]);
    if (seen.last_answer && now - seen.last_answer > seen.longest_gap) seen.longest_gap = now - seen.last_answer;
    seen.last_answer = now;
}

static void give_up(struct channel *c, uint64_t now) {
    for (; c->outstanding && c->oldest_id != c->next_id; c->oldest_id++) {
        if (!c->asked[c->oldest_id]) continue;
        if ((double)(now - c->sent_at[c->oldest_id]) < opt.timeout * 1e9) return;
        c->asked[c->oldest_id] = 0;
        c->outstanding--;
        seen.lost++;
    }
    if (!c->outstanding) c->oldest_id = c->next_id;
}

/* --- sockets ----------------------------------------------------------------------------------- */

static struct channel *open_channel(void) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)opt.port)};
    bool six = inet_pton(AF_INET6, opt.host, &v6.sin6_addr) == 1;
    if (!six && inet_pton(AF_INET, opt.host, &v4.sin_addr) != 1) die(opt.host);
    struct channel *c = calloc(1, sizeof *c);
    if (!c) die("memory");
    c->fd = socket(six ? AF_INET6 : AF_INET, opt.tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    int room = 4 << 20, yes = 1;
    if (!opt.tcp && setsockopt(c->fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (connect(c->fd, six ? (void *)&v6 : (void *)&v4, six ? sizeof v6 : sizeof v4)) die("connect");
    if (opt.tcp) {
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        c->in = malloc(2 * (MAX_ANSWER + 2));
        c->out = malloc((size_t)(opt.window / opt.sockets + BATCH) * (MAX_QUERY + 2));
    }
    return c;
}

static bool receive_udp(struct channel *c) {
    static uint8_t buffers[BATCH][4096 + 1];
    static struct iovec vectors[BATCH];
    static struct mmsghdr messages[BATCH];
    for (int i = 0; i < BATCH && !vectors[i].iov_base; i++) {
        vectors[i] = (struct iovec){buffers[i], sizeof buffers[i]};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    bool any = false;
    int got;
    do {
        got = recvmmsg(c->fd, messages, BATCH, MSG_DONTWAIT, NULL);
        uint64_t now = now_ns();
        for (int i = 0; i < got; i++) take_answer(c, buffers[i], messages[i].msg_len, now);
        any |= got > 0;
    } while (got == BATCH);
    return any;
}

static void send_udp(struct channel *c, int count, uint64_t now) {
    static uint8_t buffers[BATCH][MAX_QUERY];
    static struct iovec vectors[BATCH];
    static struct mmsghdr messages[BATCH];
    for (int i = 0; i < count; i++) {
        vectors[i] = (struct iovec){buffers[i], next_question(c, buffers[i], now)};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    int left = sendmmsg(c->fd, messages, (unsigned)count, MSG_DONTWAIT);
    take_back(c, count - (left < 0 ? 0 : left));
}

static bool receive_tcp(struct channel *c) {
    ssize_t got = recv(c->fd, c->in + c->in_used, 2 * (MAX_ANSWER + 2) - c->in_used, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) die("the server closed a connection");
    if (got < 0) return false;
    c->in_used += (size_t)got;
    size_t at = 0;
    uint64_t now = now_ns();
    while (c->in_used - at >= 2) {
        size_t length = (size_t)(c->in[at] << 8 | c->in[at + 1]);
        if (c->in_used - at - 2 < length) break;
        take_answer(c, c->in + at + 2, length, now);
        at += 2 + length;
    }
    memmove(c->in, c->in + at, c->in_used - at);
    c->in_used -= at;
    return true;
}

/* Queues `count` more questions when all earlier ones are written, and writes what the socket takes. */
static void send_tcp(struct channel *c, int count, uint64_t now) {
    if (c->out_from == c->out_used) {
        c->out_from = c->out_used = 0;
        for (int i = 0; i < count; i++) {
            uint16_t length = next_question(c, c->out + c->out_used + 2, now);
            c->out[c->out_used] = (uint8_t)(length >> 8);
            c->out[c->out_used + 1] = (uint8_t)length;
            c->out_used += 2u + length;
        }
    }
    ssize_t wrote = send(c->fd, c->out + c->out_from, c->out_used - c->out_from, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (wrote < 0 && errno != EAGAIN && errno != EINTR) die("send");
    if (wrote > 0) c->out_from += (size_t)wrote;
}

/* --- the run ----------------------------------------------------------------------------------- */

static bool receive_all(uint64_t now) {
    bool any = false;
    for (int i = 0; i < opt.sockets; i++) {
        any |= opt.tcp ? receive_tcp(channels[i]) : receive_udp(channels[i]);
        give_up(channels[i], now);
    }
    return any;
}

static void send_some(struct channel *c, int count, uint64_t now) {
    count = limited(count > BATCH ? BATCH : count);
    if (opt.tcp) {
        if (count || c->out_from < c->out_used) send_tcp(c, count, now);
    } else if (count) {
        send_udp(c, count, now);
    }
}

/* Fill each socket's share of the window once a quarter of it is free: few system calls, a steady queue. */
static bool fill_windows(uint64_t now) {
    int share = opt.window / opt.sockets < 1 ? 1 : opt.window / opt.sockets;
    bool any = false;
    for (int i = 0; i < opt.sockets; i++) {
        int room = share - (int)channels[i]->outstanding;
        bool pending = channels[i]->out_from < channels[i]->out_used;
        if (room < 1 || (room < share / 4 && !pending)) continue;
        send_some(channels[i], room, now);
        any = true;
    }
    return any;
}

/* Send what is due by now, over the sockets in turn. */
static bool send_due(uint64_t now) {
    static int turn;
    int64_t due = (int64_t)((double)(now - seen.started) * (double)opt.rate / 1e9) - (int64_t)seen.sent;
    if (due < 1) return false;
    if (seen.last_send && now - seen.last_send > seen.longest_send_gap) seen.longest_send_gap = now - seen.last_send;
    seen.last_send = now;
    for (int i = 0; i < opt.sockets && due > 0; i++, due -= BATCH) {
        send_some(channels[turn], due > BATCH ? BATCH : (int)due, now);
        turn = (turn + 1) % opt.sockets;
    }
    return true;
}

static void wait_for_news(void) {
    struct pollfd polled[MAX_SOCKETS];
    for (int i = 0; i < opt.sockets; i++) {
        bool pending = channels[i]->out_from < channels[i]->out_used;
        polled[i] = (struct pollfd){channels[i]->fd, (short)(pending ? POLLIN | POLLOUT : POLLIN), 0};
    }
    struct timespec limit = {0, opt.rate ? TICK_NS : 1000000};
    ppoll(polled, (nfds_t)opt.sockets, &limit, NULL);
}

static void run(void) {
    uint64_t now = seen.started = now_ns(), length = (uint64_t)(opt.seconds * 1e9);
    while (now - seen.started < length && !all_asked()) {
        bool worked = receive_all(now);
        worked |= opt.rate ? send_due(now) : fill_windows(now);
        if (!worked || opt.rate) wait_for_news();
        now = now_ns();
    }
    unsigned outstanding = 1;
    while (outstanding) { /* ends: what does not come is lost after the time-out */
        outstanding = 0;
        if (!receive_all(now)) wait_for_news();
        for (int i = 0; i < opt.sockets; i++) {
            if (opt.tcp) send_some(channels[i], 0, now);
            outstanding += channels[i]->outstanding;
        }
        now = now_ns();
    }
}

static void report(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    double seconds = seen.last_answer > seen.started ? (double)(seen.last_answer - seen.started) / 1e9 : 0;
    printf("{\"sent\":%lu,\"answers\":%lu,\"wrong\":%lu,\"unexpected\":%lu,\"lost\":%lu,\"truncated\":%lu,", seen.sent,
           seen.answers, seen.wrong, seen.unexpected, seen.lost, seen.truncated);
    printf("\"rcodes\":{");
    for (int code = 0, any = 0; code < 16; code++)
        if (seen.rcodes[code]) printf("%s\"%d\":%lu", any++ ? "," : "", code, seen.rcodes[code]);
    printf("},\"octets\":%lu,\"seconds\":%.6f,\"qps\":%.1f,", seen.octets, seconds,
           seconds > 0 ? (double)seen.answers / seconds : 0);
    printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,", latency_us(&seen.latencies, 0.5),
           latency_us(&seen.latencies, 0.99), latency_us(&seen.latencies, 0.999),
           (double)seen.latencies.longest / 1e3);
    printf("\"longest_gap_ms\":%.3f,\"longest_send_gap_ms\":%.3f,\"client_cpu_s\":%.4f}\n",
           (double)seen.longest_gap / 1e6, (double)seen.longest_send_gap / 1e6, cpu);
}

static void read_options(int count, char **words) {
    static const struct option known[] = {
        {"host", 1, 0, 'h'},    {"port", 1, 0, 'p'},    {"queries", 1, 0, 'q'}, {"seconds", 1, 0, 's'},
        {"tcp", 0, 0, 't'},     {"sockets", 1, 0, 'n'}, {"window", 1, 0, 'w'},  {"passes", 1, 0, 'c'},
        {"rate", 1, 0, 'r'},    {"timeout", 1, 0, 'l'}, {0, 0, 0, 0},
    };
    int letter;
    while ((letter = getopt_long(count, words, "", known, NULL)) != -1) switch (letter) {
            case 'h': opt.host = optarg; break;
            case 'p': opt.port = atoi(optarg); break;
            case 'q': opt.file = optarg; break;
            case 's': opt.seconds = atof(optarg); break;
            case 't': opt.tcp = true; break;
            case 'n': opt.sockets = atoi(optarg); break;
            case 'w': opt.window = atoi(optarg); break;
            case 'c': opt.passes = atol(optarg); break;
            case 'r': opt.rate = atol(optarg); break;
            case 'l': opt.timeout = atof(optarg); break;
            default: exit(2);
        }
    bool usable = opt.file && opt.port > 0 && opt.port < 65536 && opt.sockets > 0 && opt.sockets <= MAX_SOCKETS &&
                  opt.window > 0 && opt.window / opt.sockets < IDS / 2 && opt.seconds > 0 && opt.timeout > 0 &&
                  opt.passes >= 0 && opt.rate >= 0;
    if (!usable) die("options");
}

int main(int count, char **words) {
    read_options(count, words);
    prctl(PR_SET_TIMERSLACK, 1000);
    read_queries(opt.file);
    for (int i = 0; i < opt.sockets; i++) channels[i] = open_channel();
    run();
    report();
    return 0;
}
