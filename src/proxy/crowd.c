// SPDX-License-Identifier: Apache-2.0
#include "crowd.h"

#include "base/secret.h"
#include "domain/cidr.h"

#include <pthread.h>
#include <sodium.h>
#include <string.h>

#define SHARDS        64
#define CHAINS        256 // a shard; 65,536 addresses make chains of four
#define NETWORK_BYTES 8   // of an IPv6 address
#define IPV4_BYTES    4

// Bytes of one address or network; the kind keeps 4 and 16 apart.
struct name {
    unsigned char kind;
    unsigned char bytes[NETWORK_BYTES];
};

struct crowd_place {
    struct crowd_place *next;
    int64_t count;
    uint64_t hash;
    struct name name;
};

struct shard {
    pthread_mutex_t lock; // guards the chains and the counts of their places
    struct crowd_place *chains[CHAINS];
};

struct crowd {
    unsigned char key[crypto_shorthash_KEYBYTES];
    struct shard shards[SHARDS];
};

enum ch_err crowd_new(struct crowd **crowd_out)
{
    struct crowd *crowd = ch_zcalloc(1, sizeof *crowd);
    if (!crowd)
        return CH_ERR_NOMEM;
    crypto_shorthash_keygen(crowd->key);
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_init(&crowd->shards[i].lock, NULL);
    *crowd_out = crowd;
    return CH_OK;
}

static void free_shard(struct shard *shard)
{
    for (size_t i = 0; i < CHAINS; i++)
        for (struct crowd_place *place = shard->chains[i], *next; place; place = next) {
            next = place->next;
            ch_zfree(place);
        }
    pthread_mutex_destroy(&shard->lock);
}

void crowd_free(struct crowd *crowd)
{
    if (!crowd)
        return;
    for (size_t i = 0; i < SHARDS; i++)
        free_shard(&crowd->shards[i]);
    ch_zfree(crowd);
}

// A translator from IPv6 gives each of its IPv4 clients an address of one network (RFC 6052 §2.1).
static bool is_translated(const unsigned char *bytes, size_t len)
{
    static const unsigned char prefix[12] = {0x00, 0x64, 0xff, 0x9b};
    return len == CH_ADDRESS_BYTES && memcmp(bytes, prefix, sizeof prefix) == 0;
}

static struct name name_of(const char *address)
{
    struct name name = {0};
    unsigned char bytes[CH_ADDRESS_BYTES];
    size_t len;
    if (ch_address_parse(ch_span_of(address), bytes, &len) != CH_OK)
        return name;
    size_t from = is_translated(bytes, len) ? CH_ADDRESS_BYTES - IPV4_BYTES : 0;
    len -= from;
    name.kind = (unsigned char)len;
    memcpy(name.bytes, bytes + from, len < NETWORK_BYTES ? len : NETWORK_BYTES);
    return name;
}

static uint64_t hash_of(const struct crowd *crowd, const struct name *name)
{
    uint64_t hash;
    _Static_assert(sizeof hash == crypto_shorthash_BYTES, "SipHash-2-4 gives 64 bits");
    crypto_shorthash((unsigned char *)&hash, (const unsigned char *)name, sizeof *name, crowd->key);
    return hash;
}

static struct shard *shard_of(struct crowd *crowd, uint64_t hash)
{
    return &crowd->shards[hash % SHARDS];
}

static struct crowd_place **chain_of(struct shard *shard, uint64_t hash)
{
    return &shard->chains[hash / SHARDS % CHAINS];
}

// One more in `place` or, when the address holds none, in `fresh`, which may be NULL.
static enum ch_err count(struct shard *shard, uint64_t hash, const struct name *name, int64_t max,
                         struct crowd_place *fresh, struct crowd_place **place_out)
{
    enum ch_err err = CH_OK;
    pthread_mutex_lock(&shard->lock);
    struct crowd_place **chain = chain_of(shard, hash), *place = *chain;
    while (place && memcmp(&place->name, name, sizeof *name) != 0)
        place = place->next;
    if (!place && fresh) {
        *fresh = (struct crowd_place){.next = *chain, .hash = hash, .name = *name};
        *chain = place = fresh;
    }
    if (place && place->count >= max)
        err = CH_ERR_LIMIT;
    else if (place)
        place->count++;
    pthread_mutex_unlock(&shard->lock);
    *place_out = place;
    return err;
}

enum ch_err crowd_enter(struct crowd *crowd, const char *address, int64_t max,
                        struct crowd_place **place_out)
{
    struct crowd_place *place = NULL, *fresh;
    *place_out = NULL;
    CH_ASSERT(max > 0);
    if (!address[0])
        return CH_OK;
    const struct name name = name_of(address);
    uint64_t hash = hash_of(crowd, &name);
    struct shard *shard = shard_of(crowd, hash);
    enum ch_err err = count(shard, hash, &name, max, NULL, &place);
    if (!err && !place) {
        if (!(fresh = ch_zmalloc(sizeof *fresh)))
            return CH_ERR_NOMEM;
        err = count(shard, hash, &name, max, fresh, &place);
        if (place != fresh) // another loop was faster
            ch_zfree(fresh);
    }
    if (!err)
        *place_out = place;
    return err;
}

void crowd_leave(struct crowd *crowd, struct crowd_place *place)
{
    if (!place)
        return;
    struct shard *shard = shard_of(crowd, place->hash);
    pthread_mutex_lock(&shard->lock);
    bool is_last = --place->count == 0;
    if (is_last) {
        struct crowd_place **at = chain_of(shard, place->hash);
        while (*at != place)
            at = &(*at)->next;
        *at = place->next;
    }
    pthread_mutex_unlock(&shard->lock);
    if (is_last)
        ch_zfree(place);
}

size_t crowd_size(struct crowd *crowd)
{
    size_t size = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &crowd->shards[i];
        pthread_mutex_lock(&shard->lock);
        for (size_t j = 0; j < CHAINS; j++)
            for (const struct crowd_place *place = shard->chains[j]; place; place = place->next)
                size++;
        pthread_mutex_unlock(&shard->lock);
    }
    return size;
}
