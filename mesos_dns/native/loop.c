#define _GNU_SOURCE
#include "loop.h"
#include "cookie.h"
#include "limit.h"
#include "reply.h"
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 64, /* datagrams per call into the kernel */
    REPLY_ROOM = 4096,
    CONTROL_ROOM = 64,
    APART = 128, /* so that the beginnings of buffers do not all share a few cache lines */
    MARK_EVERY = 4, /* a mark of use is a line of memory of its own: some are enough to tell what is used much */
    NOBODY = 65534,
    SLICE_NS = 100000, /* the shortest that Linux gives */
};

static volatile sig_atomic_t told_to_end;

static void on_end(int signal) {
    (void)signal;
    told_to_end = 1;
}

typedef struct {
    struct mmsghdr in[BATCH], out[BATCH];
    struct iovec in_parts[BATCH][2], out_part[BATCH];
    struct sockaddr_in6 address[BATCH];
    uint8_t control[BATCH][CONTROL_ROOM] __attribute__((aligned(8)));
    uint8_t packet[BATCH][QUERY_SIZE + APART];
    uint8_t rest[BATCH][LARGEST_QUERY - QUERY_SIZE]; /* hardly ever touched */
    uint8_t replies[BATCH * REPLY_ROOM]; /* one behind the other: so they lie in as few pages as can be */
    query query[BATCH];
    uint32_t since_logged;
} batch;

static void batch_init(batch *b, int wildcard) {
    for (uint32_t i = 0; i < BATCH; i++) {
        b->in_parts[i][0] = (struct iovec){b->packet[i], QUERY_SIZE};
        b->in_parts[i][1] = (struct iovec){b->rest[i], sizeof b->rest[i]};
        b->in[i].msg_hdr.msg_iov = b->in_parts[i];
        b->in[i].msg_hdr.msg_iovlen = 2;
        b->in[i].msg_hdr.msg_name = &b->address[i];
        b->in[i].msg_hdr.msg_namelen = sizeof b->address[i];
        b->in[i].msg_hdr.msg_control = wildcard ? b->control[i] : NULL;
        b->in[i].msg_hdr.msg_controllen = wildcard ? CONTROL_ROOM : 0;
        b->out[i].msg_hdr.msg_iov = &b->out_part[i];
        b->out[i].msg_hdr.msg_iovlen = 1;
    }
}

/* Turns the packet information that came into the one to send with: from the address that was asked, by
 * whatever way leads to the client. */
static void answer_from_asked(struct msghdr *message) {
    size_t kept = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *info = (struct in_pktinfo *)CMSG_DATA(c);
            info->ipi_ifindex = 0;
            kept = CMSG_SPACE(sizeof *info);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo *info = (struct in6_pktinfo *)CMSG_DATA(c);
            info->ipi6_ifindex = 0;
            kept = CMSG_SPACE(sizeof *info);
        }
        break; /* nothing else was asked for */
    }
    message->msg_controllen = kept;
    if (!kept)
        message->msg_control = NULL;
}

static void client_of(query *q, const struct sockaddr_in6 *address) {
    if (address->sin6_family == AF_INET6) {
        q->client = address->sin6_addr.s6_addr;
        q->client_len = 16;
    } else {
        q->client = (const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr;
        q->client_len = 4;
    }
}

static void hand_over(const worker *w, const batch *b, uint32_t i, uint8_t kind, uint8_t rcode) {
    uint64_t *counts = w->desk->worker[w->number].counts;
    const struct msghdr *message = &b->in[i].msg_hdr;
    handed to = {.kind = kind, .rcode = rcode, .address_len = (uint8_t)message->msg_namelen};
    memcpy(to.address, &b->address[i], message->msg_namelen < sizeof to.address ? message->msg_namelen : sizeof to.address);
    if (message->msg_control && message->msg_controllen <= sizeof to.control) {
        to.control_len = (uint8_t)message->msg_controllen;
        memcpy(to.control, message->msg_control, message->msg_controllen);
    }
    size_t first = b->in[i].msg_len < QUERY_SIZE ? b->in[i].msg_len : QUERY_SIZE;
    struct iovec parts[3] = {
        {&to, sizeof to}, {(void *)b->packet[i], first}, {(void *)b->rest[i], b->in[i].msg_len - first}};
    struct msghdr whole = {.msg_iov = parts, .msg_iovlen = 3};
    if (sendmsg(w->writer, &whole, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        counts[COUNT_OVERLOAD]++;
    else if (kind == HANDED_QUERY)
        counts[COUNT_PASSED]++;
    else if (kind == HANDED_REFRESH)
        counts[COUNT_REFRESH]++;
}

/* How the answer goes out; -1 when it does not. */
static int form_of(const context *c, desk *d, uint64_t *counts, query *q, uint64_t now_ms) {
    enum cookie_state cookie = COOKIE_NONE;
    if (q->cookie_len) {
        cookie = cookie_check(c->settings, q->cookie, q->cookie_len, q->client, q->client_len, c->now);
        counts[COUNT_COOKIE_NEW + cookie - COOKIE_NEW]++;
    }
    if (!c->settings->rate || cookie == COOKIE_VALID)
        return WHOLE;
    switch (limit_check(c, d->buckets, q, now_ms)) {
    case LIMIT_PASS:
        return WHOLE;
    case LIMIT_SLIP:
        counts[cookie == COOKIE_NONE ? COUNT_LIMIT_SLIPPED : COUNT_LIMIT_BADCOOKIE]++;
        return cookie == COOKIE_NONE ? SLIPPED : BADCOOKIE;
    default:
        counts[COUNT_LIMIT_DROPPED]++;
        return -1;
    }
}

static void tell_of_age(const worker *w, const batch *b, const context *c, uint32_t i) {
    const answer *a = b->query[i].found;
    w->desk->worker[w->number].counts[COUNT_STALE] += a->flags & ANSWER_STALE ? 1 : 0;
    if (answer_due(c, a, w->desk))
        hand_over(w, b, i, HANDED_REFRESH, 0);
}

/* What is not looked up: one that gets an answer all the same is refused. */
static int is_answered(const worker *w, const batch *b, const context *c, uint32_t i, uint64_t now_ms) {
    uint64_t *counts = w->desk->worker[w->number].counts;
    enum verdict verdict = b->query[i].verdict;
    if (verdict != PASS)
        counts[verdict == DROP ? COUNT_DROPPED : COUNT_PROHIBITED]++;
    else if (pass_allowed(c, w->desk->buckets, &b->query[i], now_ms))
        hand_over(w, b, i, HANDED_QUERY, 0);
    else
        counts[COUNT_HELD_BACK]++;
    return verdict == PROHIBITED;
}

/* Answers one query of the batch at `to`; the answer's octets, 0 when nothing is sent. */
static uint32_t answer_one(const worker *w, batch *b, const context *c, uint32_t i, uint8_t *to, uint64_t now_ms) {
    worker_desk *own = &w->desk->worker[w->number];
    query *q = &b->query[i];
    if (q->verdict < ANSWER && !is_answered(w, b, c, i, now_ms))
        return 0;
    if (q->found && i % MARK_EVERY == 0 && !atomic_load_explicit(&w->desk->used[q->found->id], memory_order_relaxed))
        atomic_store_explicit(&w->desk->used[q->found->id], USED_READ, memory_order_relaxed);
    int form = form_of(c, w->desk, own->counts, q, now_ms);
    if (form < 0)
        return 0;
    uint32_t zone, type, rcode, len;
    query_labels(q, &zone, &type, &rcode);
    own->turn += c->settings->turn_step;
    len = query_reply(c, q, own->turn, (enum form)form, to);
    own->counts[COUNT_ANSWERED]++;
    own->counts[COUNT_TRUNCATED] += form == WHOLE && to[2] & 2;
    own->answers[zone][type][form == BADCOOKIE ? 23 : rcode]++;
    if (q->found && q->found->flags & ANSWER_AGED && form == WHOLE)
        tell_of_age(w, b, c, i);
    if (c->settings->log_every && ++b->since_logged >= c->settings->log_every) {
        b->since_logged = 0;
        hand_over(w, b, i, HANDED_LOG, (uint8_t)rcode);
    }
    return len;
}

/* Answers what was read; returns how many answers are ready to be sent. */
static uint32_t answer_batch(const worker *w, batch *b, context *c, uint32_t count) {
    struct timespec wall, since_boot;
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    clock_gettime(CLOCK_MONOTONIC_COARSE, &since_boot);
    uint64_t now_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
    uint32_t ready = 0;
    uint8_t *to = b->replies;
    c->now = (uint32_t)wall.tv_sec;
    c->mono = (uint32_t)since_boot.tv_sec;
    context_read(c, w->table);
    for (uint32_t i = 0; i < count; i++) {
        client_of(&b->query[i], &b->address[i]);
        query_read(c, &b->query[i], b->packet[i], b->in[i].msg_len < QUERY_SIZE ? b->in[i].msg_len : QUERY_SIZE);
        if (b->in[i].msg_len > QUERY_SIZE && b->query[i].verdict != DROP)
            b->query[i].verdict = b->query[i].verdict == PROHIBITED ? DROP : PASS;
    }
    queries_find(c, b->query, count);
    for (uint32_t i = 0; i < count; i++) {
        if (b->in[i].msg_hdr.msg_control)
            answer_from_asked(&b->in[i].msg_hdr);
        uint32_t len = answer_one(w, b, c, i, to, now_ms);
        if (!len)
            continue;
        b->out_part[ready] = (struct iovec){to, len};
        to += (len + 63) & ~63u;
        b->out[ready].msg_hdr.msg_name = &b->address[i];
        b->out[ready].msg_hdr.msg_namelen = b->in[i].msg_hdr.msg_namelen;
        b->out[ready].msg_hdr.msg_control = b->in[i].msg_hdr.msg_control;
        b->out[ready].msg_hdr.msg_controllen = b->in[i].msg_hdr.msg_controllen;
        ready++;
    }
    return ready;
}

static void send_batch(const worker *w, batch *b, uint32_t ready) {
    for (uint32_t sent = 0; sent < ready;) {
        int done = sendmmsg(w->socket, b->out + sent, ready - sent, 0);
        if (done > 0) {
            sent += (uint32_t)done;
        } else if (errno == EAGAIN) {
            /* Nothing goes out any more, as when the device's queue is stopped: late answers are of no use. */
            w->desk->worker[w->number].counts[COUNT_SEND_ERRORS] += ready - sent;
            return;
        } else if (errno != EINTR) {
            /* One answer that can't be sent (an unreachable client) is no reason to keep the others back. */
            w->desk->worker[w->number].counts[COUNT_SEND_ERRORS]++;
            sent++;
        }
    }
}

static int writer_gone(int writer) {
    char one;
    return recv(writer, &one, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static int harmless(int error) {
    /* Nothing to read, a signal, or the ICMP error of an earlier answer. */
    return error == EAGAIN || error == EINTR || error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH ||
           error == EMSGSIZE || error == ENOBUFS || error == ENOMEM;
}

/* Where the worker shares a core with the writer or others, it gets its turn at once instead of after their
 * slice of some milliseconds: a short slice of its own makes it first to be picked when it wakes (Linux 6.12
 * and later; before, this changes nothing). */
static void ask_for_short_slices(void) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } ordinary = {.size = 48, .nice = getpriority(PRIO_PROCESS, 0), .runtime = SLICE_NS};
    if (sched_getscheduler(0) == SCHED_OTHER) /* another policy is somebody's choice */
        syscall(SYS_sched_setattr, 0, &ordinary, 0);
}

/* Some sandboxes forbid to give up what there is not. */
static int holds_capabilities(struct __user_cap_header_struct *head) {
    struct __user_cap_data_struct held[2];
    return syscall(SYS_capget, head, held) || held[0].permitted || held[1].permitted;
}

int worker_confine(int writer_pid) {
    struct sigaction end = {.sa_handler = on_end}; /* no SA_RESTART: it interrupts the wait for queries */
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    sigaction(SIGTERM, &end, NULL);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "pharos-dns");
    ask_for_short_slices();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    /* In a container that lacks the right to change its user it stays root without capabilities. */
    if (geteuid() == 0 && (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)))
        errno = 0;
    if (syscall(SYS_capset, &head, none) && holds_capabilities(&head))
        return EPERM;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL)) /* after the change of user, which clears it */
        return errno;
    return getppid() == writer_pid ? 0 : ESRCH;
}

int worker_run(const worker *w) {
    worker_desk *own = &w->desk->worker[w->number];
    int error = 0;
    context c = {.stream = 0, .table = w->table};
    batch *b = calloc(1, sizeof *b);
    if (!b)
        return ENOMEM;
    batch_init(b, w->wildcard);
    while (!told_to_end) {
        int count = recvmmsg(w->socket, b->in, BATCH, MSG_WAITFORONE, NULL);
        atomic_fetch_add_explicit(&own->heartbeat, 1, memory_order_relaxed);
        if (count < 0) {
            error = errno;
            if (!harmless(error) || (error == EAGAIN && writer_gone(w->writer)))
                break;
            error = 0;
            continue;
        }
        own->counts[COUNT_QUERIES] += (uint64_t)count;
        own->counts[COUNT_BATCHES]++;
        /* From here to the end of the batch nothing that the table shows is taken back. */
        atomic_store(&own->epoch, atomic_load(&w->table->epoch));
        atomic_thread_fence(memory_order_seq_cst);
        uint32_t ready = answer_batch(w, b, &c, (uint32_t)count);
        atomic_store_explicit(&own->epoch, 0, memory_order_release);
        send_batch(w, b, ready);
        for (int i = 0; i < count; i++) {
            b->in[i].msg_hdr.msg_namelen = sizeof b->address[i];
            b->in[i].msg_hdr.msg_control = w->wildcard ? b->control[i] : NULL;
            b->in[i].msg_hdr.msg_controllen = w->wildcard ? CONTROL_ROOM : 0;
        }
    }
    free(b);
    return error == EAGAIN ? 0 : error;
}

int handed_send(int socket, const handed *to, const uint8_t *packet, uint32_t len) {
    struct iovec part = {(void *)packet, len};
    struct msghdr message = {.msg_name = (void *)to->address, .msg_namelen = to->address_len, .msg_iov = &part, .msg_iovlen = 1};
    if (to->control_len) {
        message.msg_control = (void *)to->control;
        message.msg_controllen = to->control_len;
    }
    if (to->address_len > sizeof to->address || to->control_len > sizeof to->control)
        return EINVAL;
    return sendmsg(socket, &message, MSG_DONTWAIT) < 0 ? errno : 0;
}
