// SPDX-License-Identifier: Apache-2.0
// One real request to a provider with its credential, to see that it answers: `provider test`,
// `check`. Blocks the calling thread (its own small loop) for at most `timeout_ms`. Any thread but
// a loop's.
#ifndef CH_PROXY_PROBE_H
#define CH_PROXY_PROBE_H

#include "domain/config.h"
#include "store/provider_store.h"

struct ch_probe_result {
    int status;         // of the provider's answer to its models listing
    int64_t latency_us; // connect to head
};

// CH_ERR_UNAVAILABLE (unreachable), CH_ERR_TIMEOUT, CH_ERR_DENIED (the provider refused the
// credential: 401, 403), CH_ERR_CORRUPT (the sealed credential does not open), CH_ERR_INVALID (it
// does not speak HTTP). `config`: trusted certificates, addresses and pins, as for every
// connection.
enum ch_err ch_probe_provider(const struct ch_vault *vault, const struct ch_provider_row *provider,
                              const struct ch_config *config, int64_t timeout_ms,
                              struct ch_probe_result *result_out, struct ch_why *why) CH_MUST_USE;

#endif
