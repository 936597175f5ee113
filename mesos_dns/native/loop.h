/* One worker: reads a socket in batches, answers from the table, hands the rest to the writer. */
#ifndef PHAROS_LOOP_H
#define PHAROS_LOOP_H

#include "region.h"

enum {
    WAIT_MS = 200,        /* set on the socket for both directions; how soon a worker sees that it is to stop */
    QUERY_SIZE = 1472,    /* octets of a datagram that a worker looks at, what Ethernet carries */
    LARGEST_QUERY = 4096, /* larger than that one it hands over, and cuts them here, as udp.py does */
};

/* In front of each message to the writer: what it needs to send the answer. */
typedef struct {
    uint8_t kind; /* HANDED_QUERY, HANDED_LOG, HANDED_REFRESH */
    uint8_t address_len, control_len, rcode;
    uint8_t address[28]; /* struct sockaddr_in or sockaddr_in6 */
    uint8_t control[40]; /* the packet information to send with */
} handed;

/* To be answered; answered with `rcode`; answered out of what will soon be too old. */
enum { HANDED_QUERY = 0, HANDED_LOG = 1, HANDED_REFRESH = 2 };

typedef struct {
    const table_head *table;
    desk *desk;
    uint32_t number; /* of this worker */
    int socket, writer, wildcard;
} worker;

/* Before anything is read: ends with the writer, gives up every privilege, and does not end by signals that
 * are meant for the writer. 0, or errno. */
int worker_confine(int writer_pid);
/* Runs until it is told to stop or the writer is gone (0), or until the socket fails (errno). */
int worker_run(const worker *w);
/* Sends one answer as a message of `handed` says; 0, or errno. */
int handed_send(int socket, const handed *to, const uint8_t *packet, uint32_t len);

#endif
