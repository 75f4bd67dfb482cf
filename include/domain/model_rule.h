// SPDX-License-Identifier: Apache-2.0
// The model allowlist of a key: exact names and `prefix*`, separated by commas. Empty: every model.
// Anchored and byte-exact; pure; any thread.
#ifndef CH_DOMAIN_MODEL_RULE_H
#define CH_DOMAIN_MODEL_RULE_H

#include "base/err.h"
#include "base/str.h"

#define CH_MODEL_NAME_MAX 128

// [A-Za-z0-9._:/@-]{1,128}: what a model name may look like (security.md §4.9).
bool ch_model_name_is_valid(struct ch_span model);
// Checks a list as an operator typed it and gives it normalised (blanks and empty entries dropped).
enum ch_err ch_model_rule_parse(struct ch_span list, struct ch_buf *normalised_out,
                                struct ch_why *why) CH_MUST_USE;
bool ch_model_rule_allows(struct ch_span normalised_list, struct ch_span model);

#endif
