// SPDX-License-Identifier: Apache-2.0
#include "echo.h"

#include <sodium.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define CREDENTIAL_MIN 16
#define BUF_MAX        (256 * 1024) // one read and one credential

// Per process: digests of credentials mean nothing outside it.
static unsigned char digest_key[crypto_shorthash_KEYBYTES];

__attribute__((constructor)) static void make_digest_key(void)
{
    randombytes_buf(digest_key, sizeof digest_key);
}

static uint64_t digest(const void *bytes, size_t size)
{
    uint64_t value;
    _Static_assert(sizeof value == crypto_shorthash_BYTES, "SipHash gives 64 bits");
    crypto_shorthash((unsigned char *)&value, bytes, size, digest_key);
    return value;
}

uint64_t echo_digest(struct ch_span credential)
{
    return digest(credential.ptr, credential.len);
}

void echo_guard_init(struct echo_guard *guard, struct ch_span credential, uint64_t its_digest)
{
    *guard = (struct echo_guard){0};
    ch_buf_init(&guard->buf, BUF_MAX);
    if (credential.len < CREDENTIAL_MIN)
        return;
    guard->len = credential.len;
    memcpy(guard->lead, credential.ptr, ECHO_LEAD);
    guard->digest = its_digest;
}

void echo_guard_fini(struct echo_guard *guard)
{
    ch_buf_fini(&guard->buf);
}

#ifdef __SSE2__
// 0xff where the two leading bytes begin, at one of the 16 places from `at`.
static inline __m128i leads_at(const char *at, __m128i first, __m128i second)
{
    __m128i here = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i next = _mm_loadu_si128((const __m128i *)(const void *)(at + 1));
    return _mm_and_si128(_mm_cmpeq_epi8(here, first), _mm_cmpeq_epi8(next, second));
}
#endif

// The first place at or behind `from` where the two leading bytes stand, or the last byte is the
// first of them; `size` when there is none. This walks every byte of every answer, hence the
// vectors, and four of them at a time as long as nothing is found.
static size_t find_lead(const struct echo_guard *guard, const char *bytes, size_t size, size_t from)
{
    size_t i = from;
#ifdef __SSE2__
    __m128i first = _mm_set1_epi8((char)guard->lead[0]),
            second = _mm_set1_epi8((char)guard->lead[1]);
    for (; i + 65 <= size; i += 64) {
        const char *at = bytes + i;
        __m128i half = _mm_or_si128(leads_at(at, first, second), leads_at(at + 16, first, second));
        __m128i rest =
            _mm_or_si128(leads_at(at + 32, first, second), leads_at(at + 48, first, second));
        if (_mm_movemask_epi8(_mm_or_si128(half, rest)))
            break;
    }
    for (; i + 17 <= size; i += 16) {
        int hits = _mm_movemask_epi8(leads_at(bytes + i, first, second));
        if (hits)
            return i + (size_t)__builtin_ctz((unsigned)hits);
    }
#endif
    for (; i < size; i++)
        if ((unsigned char)bytes[i] == guard->lead[0] &&
            (i + 1 == size || (unsigned char)bytes[i + 1] == guard->lead[1]))
            return i;
    return size;
}

enum candidate {
    CANDIDATE_NO,
    CANDIDATE_YES,
    CANDIDATE_UNFINISHED, // it may be one if the next bytes say so
};

static enum candidate judge(const struct echo_guard *guard, const char *at, size_t left)
{
    size_t lead = left < ECHO_LEAD ? left : ECHO_LEAD;
    if (memcmp(at, guard->lead, lead) != 0)
        return CANDIDATE_NO;
    if (left < guard->len)
        return CANDIDATE_UNFINISHED;
    return digest(at, guard->len) == guard->digest ? CANDIDATE_YES : CANDIDATE_NO;
}

// Finds the first whole or unfinished copy.
static size_t find_copy(const struct echo_guard *guard, struct ch_span bytes, size_t from,
                        enum candidate *kind)
{
    for (size_t at = find_lead(guard, bytes.ptr, bytes.len, from); at < bytes.len;
         at = find_lead(guard, bytes.ptr, bytes.len, at + 1)) {
        *kind = judge(guard, bytes.ptr + at, bytes.len - at);
        if (*kind != CANDIDATE_NO)
            return at;
    }
    *kind = CANDIDATE_NO;
    return bytes.len;
}

void echo_guard_mask(const struct echo_guard *guard, char *bytes, size_t size)
{
    enum candidate kind;
    struct ch_span all = {bytes, size};
    if (guard->len == 0)
        return;
    for (size_t at = find_copy(guard, all, 0, &kind); at < size;
         at = find_copy(guard, all, at + 1, &kind))
        if (kind == CANDIDATE_YES)
            memset(bytes + at, '*', guard->len);
}

// Where the first unfinished copy begins; size when there is none. Whole copies are masked by now.
static size_t find_unfinished(const struct echo_guard *guard, struct ch_span bytes)
{
    enum candidate kind;
    size_t from = bytes.len < guard->len ? 0 : bytes.len - guard->len + 1;
    return find_copy(guard, bytes, from, &kind);
}

enum ch_err echo_guard_filter(struct echo_guard *guard, struct ch_span bytes, bool is_last,
                              struct ch_span *pass_out)
{
    enum candidate kind = CANDIDATE_NO;
    bool is_joined = guard->held > 0;
    if (guard->len == 0 || (bytes.len == 0 && !is_joined)) {
        *pass_out = bytes;
        return CH_OK;
    }
    if (is_joined)
        ch_buf_consume(&guard->buf, guard->buf.len - guard->held);
    else
        ch_buf_clear(&guard->buf);
    guard->held = 0;
    if (is_joined || find_copy(guard, bytes, 0, &kind) < bytes.len) {
        enum ch_err err = ch_buf_append_span(&guard->buf, bytes);
        if (err)
            return err;
        echo_guard_mask(guard, guard->buf.ptr, guard->buf.len);
        bytes = ch_buf_span(&guard->buf);
        size_t end = is_last ? bytes.len : find_unfinished(guard, bytes);
        guard->held = bytes.len - end;
        bytes.len = end;
    } else if (guard->buf.ptr) {
        ch_buf_fini(&guard->buf);
    }
    *pass_out = bytes;
    return CH_OK;
}
