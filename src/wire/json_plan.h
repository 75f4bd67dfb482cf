// SPDX-License-Identifier: Apache-2.0
// The plan of a JSON scan: the wanted paths as a tree of names, and the question which of them a
// key begins. Private to the scanner. Immutable once built; any thread.
#ifndef CH_WIRE_JSON_PLAN_H
#define CH_WIRE_JSON_PLAN_H

#include "wire/json_scan.h"

// Node 0 is the document.
struct ch_json_node {
    int16_t path;       // index of the path that ends here; -1: none
    int16_t element;    // the node of "[]"; -1: none
    int16_t bucket[32]; // its members by hash: the first of each
    int16_t next;       // the next member of the same bucket; -1: the last
    int16_t like;       // the next top-level name of the same look; -1: the last
    uint8_t key_len;
    char key[CH_JSON_KEY_MAX];
};

struct ch_json_plan {
    int16_t count;
    int16_t looks[64]; // the top-level names by what they keep in another case: the first of each
    struct ch_json_node nodes[];
};

// The node of a parent's member, -1 when no path goes there.
int16_t ch_json_plan_find(const struct ch_json_plan *plan, int16_t parent, struct ch_span key);
// Whether a top-level key, equal to no wanted one, may be taken for one
// (ch_json_scan_is_ambiguous). A key cut behind leading blanks may be any.
bool ch_json_plan_resembles(const struct ch_json_plan *plan, struct ch_span key, bool cut);
// ch_json_unescape, with NUL allowed: a key may contain one. `*len_out` is set on failure as well,
// to what could be read.
enum ch_err ch_json_unescape_any(struct ch_span raw, char *out, size_t size, size_t *len_out);

#endif
