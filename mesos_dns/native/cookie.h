/* Server cookies that any of several servers can check (RFC 9018), as mesos_dns/cookies.py makes them. */
#ifndef PHAROS_COOKIE_H
#define PHAROS_COOKIE_H

#include "region.h"

enum { CLIENT_COOKIE = 8, SERVER_COOKIE = 16, COOKIE_SIZE = CLIENT_COOKIE + SERVER_COOKIE };

enum cookie_state { COOKIE_NONE, COOKIE_NEW, COOKIE_VALID, COOKIE_INVALID };

uint64_t siphash24(const uint8_t key[16], const uint8_t *data, uint32_t len);
enum cookie_state cookie_check(const settings *s, const uint8_t *cookie, uint32_t len, const uint8_t *client,
                               uint32_t client_len, uint32_t now);
/* Writes client and server cookie; returns what follows. */
uint8_t *put_cookie(uint8_t *at, const settings *s, const uint8_t *cookie, uint32_t len, const uint8_t *client,
                    uint32_t client_len, uint32_t now);

#endif
