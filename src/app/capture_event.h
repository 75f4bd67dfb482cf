// SPDX-License-Identifier: Apache-2.0
// One captured event: the columns of its usage row and its bodies, scrubbed, as one JSON object.
// Private to the capture thread.
#ifndef CH_APP_CAPTURE_EVENT_H
#define CH_APP_CAPTURE_EVENT_H

#include "domain/record_rule.h"
#include "proxy/capture.h"

#include <jansson.h>

// Adds the bodies to `event`, a usage row, and scrubs what clients and providers chose of it. After
// an error the event is not scrubbed and must not be kept. A body that is no text is left out.
enum ch_err ch_capture_event_fill(json_t *event, const struct ch_capture *capture,
                                  const struct ch_scrub_rules *rules) CH_MUST_USE;
// ch_record_rules_apply over it.
enum ch_err ch_capture_event_apply(json_t *event, const struct ch_record_rules *rules,
                                   const unsigned char key[CH_RECORD_RULE_KEY],
                                   bool *keep_out) CH_MUST_USE;
// Appends it as one line without an end.
enum ch_err ch_capture_event_write(const json_t *event, struct ch_buf *out) CH_MUST_USE;

#endif
