/* The floor of UDP: sends every datagram back with the QR bit set. No look-up, no parsing.
 *
 *   dns_echo ADDRESS PORT
 *
 * It reads and writes 64 datagrams per system call, like a native DNS worker, so the difference
 * to such a worker is what answering costs beyond the kernel's sockets. Prints "ready" when bound;
 * runs until it is killed. One thread; Linux only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, ROOM = 4096 };

static int bound(const char *address, int port) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    int six = inet_pton(AF_INET6, address, &v6.sin6_addr) == 1;
    int fd = socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM, 0), room = 4 << 20;
    if (!six && inet_pton(AF_INET, address, &v4.sin_addr) != 1) return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    return bind(fd, six ? (void *)&v6 : (void *)&v4, six ? sizeof v6 : sizeof v4) ? -1 : fd;
}

int main(int count, char **words) {
    static uint8_t buffers[BATCH][ROOM];
    static struct sockaddr_storage clients[BATCH];
    static struct iovec vectors[BATCH];
    static struct mmsghdr messages[BATCH];
    int fd = count == 3 ? bound(words[1], atoi(words[2])) : -1;
    if (fd < 0) {
        perror("dns_echo ADDRESS PORT");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (int i = 0; i < BATCH; i++) {
        vectors[i].iov_base = buffers[i];
        messages[i].msg_hdr = (struct msghdr){.msg_name = &clients[i], .msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            vectors[i].iov_len = ROOM;
            messages[i].msg_hdr.msg_namelen = sizeof clients[i];
        }
        int got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; i < got; i++) {
            if (messages[i].msg_len > 2) buffers[i][2] |= 0x80;
            vectors[i].iov_len = messages[i].msg_len;
        }
        for (int sent = 0, now = 1; sent < got && now > 0; sent += now)
            now = sendmmsg(fd, messages + sent, (unsigned)(got - sent), 0);
    }
}
