// SPDX-License-Identifier: Apache-2.0
// What the values at the paths of a usage form do to the scan: one small reader for each meaning.
// Private to the usage scan, which calls it while a document is fed and settles at its end.
#ifndef CH_WIRE_USAGE_READ_H
#define CH_WIRE_USAGE_READ_H

#include "wire/usage_scan.h"

// A ch_json_value_fn; `arg` is the scan.
bool ch_usage_read_value(void *arg, const struct ch_json_value *value);
// The type of an event, from its document or, where that has none, from its name.
void ch_usage_apply_type(struct ch_usage_scan *scan, struct ch_span type);
// Keeps the usage of another model that the event stated.
void ch_usage_settle_side(struct ch_usage_scan *scan);
// In usage_scan.c: an event is over, a document or an element of a streamed array.
void ch_usage_end_event(struct ch_usage_scan *scan);
// Sums of counts stay counts, however many a response states.
int64_t ch_usage_sum(int64_t a, int64_t b);

#endif
