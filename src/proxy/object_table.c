// SPDX-License-Identifier: Apache-2.0
#include "object_table.h"

#include "base/secret.h"
#include "store/object_store.h"

#include <assert.h>
#include <pthread.h>
#include <sodium.h>

// The entries are a ring in the order of their coming; `places` finds them by hash: open addressing
// with linear probing, at most half full, each place one more than the entry's index and 0 a free
// one.
struct entry {
    uint64_t hash;
    struct object_owner owner;
    int64_t seen_at_ms;
};

struct object_table {
    pthread_mutex_t lock; // guards what follows, but for the key and the sizes
    unsigned char key[OBJECT_KEY];
    size_t limit, mask;
    size_t next;       // the entry to be written next
    int64_t forgotten; // entries that the bound cost, none of them over
    uint32_t *places;
    struct entry entries[];
};

static_assert(OBJECT_KEY == crypto_shorthash_KEYBYTES, "the key of the hash");
static_assert(sizeof(uint64_t) == crypto_shorthash_BYTES, "what it gives");

enum ch_err object_table_new(size_t limit, const unsigned char key[OBJECT_KEY],
                             struct object_table **table_out)
{
    size_t places = 2;
    CH_ASSERT(limit > 0 && limit < UINT32_MAX);
    while (places < 2 * limit)
        places *= 2;
    struct object_table *table = ch_zcalloc(1, sizeof *table + limit * sizeof table->entries[0]);
    uint32_t *index = table ? ch_zcalloc(places, sizeof *index) : NULL;
    if (!index) {
        ch_zfree(table);
        return CH_ERR_NOMEM;
    }
    table->limit = limit;
    table->mask = places - 1;
    table->places = index;
    memcpy(table->key, key, sizeof table->key);
    pthread_mutex_init(&table->lock, NULL);
    *table_out = table;
    return CH_OK;
}

void object_table_free(struct object_table *table)
{
    if (!table)
        return;
    pthread_mutex_destroy(&table->lock);
    ch_zfree(table->places);
    ch_zfree(table);
}

uint64_t object_table_hash(const struct object_table *table, int64_t provider_id, struct ch_span id)
{
    unsigned char text[sizeof provider_id + 512];
    uint64_t hash;
    CH_ASSERT(id.len <= sizeof text - sizeof provider_id);
    memcpy(text, &provider_id, sizeof provider_id);
    memcpy(text + sizeof provider_id, id.ptr, id.len);
    crypto_shorthash((unsigned char *)&hash, text, sizeof provider_id + id.len, table->key);
    return hash;
}

// The place of `hash`, or the free one where it would stand.
static size_t place_of(const struct object_table *table, uint64_t hash)
{
    size_t at = hash & table->mask;
    while (table->places[at] && table->entries[table->places[at] - 1].hash != hash)
        at = (at + 1) & table->mask;
    return at;
}

// Frees a place and moves up those behind it that could not be found past a gap.
static void free_place(struct object_table *table, size_t gap)
{
    table->places[gap] = 0;
    for (size_t at = (gap + 1) & table->mask; table->places[at]; at = (at + 1) & table->mask) {
        size_t home = table->entries[table->places[at] - 1].hash & table->mask;
        if (((at - home) & table->mask) < ((at - gap) & table->mask))
            continue;
        table->places[gap] = table->places[at];
        table->places[at] = 0;
        gap = at;
    }
}

static bool is_over(const struct entry *entry, int64_t now_ms)
{
    return now_ms - entry->seen_at_ms > CH_OBJECT_MS;
}

// The oldest entry makes room. It is in use unless `seen_at_ms` is 0: the ring has not come round.
static void put(struct object_table *table, uint64_t hash, const struct object_owner *owner,
                int64_t seen_at_ms)
{
    struct entry *entry = &table->entries[table->next];
    if (entry->seen_at_ms) {
        table->forgotten += !is_over(entry, seen_at_ms);
        free_place(table, place_of(table, entry->hash));
    }
    *entry = (struct entry){hash, *owner, seen_at_ms};
    table->places[place_of(table, hash)] = (uint32_t)table->next + 1;
    table->next = (table->next + 1) % table->limit;
}

bool object_table_add(struct object_table *table, uint64_t hash, const struct object_owner *owner,
                      int64_t seen_at_ms)
{
    CH_ASSERT(seen_at_ms > 0);
    pthread_mutex_lock(&table->lock);
    bool was_whole = table->forgotten == 0;
    uint32_t known = table->places[place_of(table, hash)];
    struct entry *entry = known ? &table->entries[known - 1] : NULL;
    if (!entry)
        put(table, hash, owner, seen_at_ms);
    else if (is_over(entry, seen_at_ms))
        *entry = (struct entry){hash, *owner, seen_at_ms};
    bool is_first_loss = was_whole && table->forgotten > 0;
    pthread_mutex_unlock(&table->lock);
    return is_first_loss;
}

int64_t object_table_forgotten(struct object_table *table)
{
    pthread_mutex_lock(&table->lock);
    int64_t forgotten = table->forgotten;
    pthread_mutex_unlock(&table->lock);
    return forgotten;
}

bool object_table_find(struct object_table *table, uint64_t hash, int64_t now_ms,
                       struct object_owner *owner_out)
{
    pthread_mutex_lock(&table->lock);
    uint32_t known = table->places[place_of(table, hash)];
    const struct entry *entry = known ? &table->entries[known - 1] : NULL;
    bool is_known = entry && !is_over(entry, now_ms);
    if (is_known)
        *owner_out = entry->owner;
    pthread_mutex_unlock(&table->lock);
    return is_known;
}
