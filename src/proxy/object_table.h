// SPDX-License-Identifier: Apache-2.0
// Whose the objects are that providers keep: a bounded table from a keyed hash of provider and id
// to the owner that was seen first.
//
// All loops share it under one lock, held for a few memory accesses and never across a system
// call; only exchanges that name an object come here. When the table is full the object that was
// seen first goes, and one seen CH_OBJECT_DAYS ago is not found.
#ifndef CH_PROXY_OBJECT_TABLE_H
#define CH_PROXY_OBJECT_TABLE_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

#define OBJECT_KEY 16 // bytes of the key of the hash: crypto_shorthash's

struct attribution;

struct object_owner {
    int64_t key_id;
    const struct attribution *attribution; // borrowed for the table's life
};

struct object_table;

// Memory for `limit` objects is set aside, and touched as it fills: 40 to 48 bytes each.
enum ch_err object_table_new(size_t limit, const unsigned char key[OBJECT_KEY],
                             struct object_table **table_out) CH_MUST_USE;
void object_table_free(struct object_table *table);

uint64_t object_table_hash(const struct object_table *table, int64_t provider_id,
                           struct ch_span id);
// An object that is known already keeps its owner. True: for the first time another had to go
// before its days were over.
bool object_table_add(struct object_table *table, uint64_t hash, const struct object_owner *owner,
                      int64_t seen_at_ms);
// How many had to.
int64_t object_table_forgotten(struct object_table *table);
bool object_table_find(struct object_table *table, uint64_t hash, int64_t now_ms,
                       struct object_owner *owner_out);

#endif
