// SPDX-License-Identifier: Apache-2.0
// A usage record as bytes: what the journal frames and checks. Private to the store floor.
//
// A fixed part in the machine's own layout (the file never leaves the machine), then what only few
// records have, then the texts one after another, then as many objects as there is room for. Pure;
// any thread.
#ifndef CH_STORE_USAGE_RECORD_H
#define CH_STORE_USAGE_RECORD_H

#include "store/usage_journal.h"

#define CH_RECORD_ADDRESS   46 // bytes: INET6_ADDRSTRLEN
#define CH_RECORD_RULE      48
#define CH_RECORD_CATALOGUE 48
#define CH_RECORD_TEXTS     8
#define CH_RECORD_OBJECT    8 // bytes of one

// Bytes of the longest encoded record.
#define CH_RECORD_FIXED 208
#define CH_RECORD_RARE  80
#define CH_RECORD_ENCODED_MAX                                                                      \
    (CH_RECORD_FIXED + CH_RECORD_RARE + 3 * CH_RECORD_MODEL + CH_RECORD_UPSTREAM_ID +              \
     CH_RECORD_AGENT + CH_RECORD_ADDRESS + CH_RECORD_RULE + CH_RECORD_CATALOGUE +                  \
     CH_RECORD_OBJECT)

// Writes the record, texts cut at their limits, and gives its size.
size_t ch_usage_record_encode(const struct ch_usage_record *record,
                              unsigned char out[CH_RECORD_ENCODED_MAX]);

// Reads one back; the spans borrow `bytes`. CH_ERR_CORRUPT when a length or an enum is out of
// range.
enum ch_err ch_usage_record_decode(struct ch_span bytes,
                                   struct ch_usage_record *record_out) CH_MUST_USE;

#endif
