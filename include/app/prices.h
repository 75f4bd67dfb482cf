// SPDX-License-Identifier: Apache-2.0
// The catalogue that a process starts with: the newest imported one, else the configured file, else the one
// built in (conf/prices.json), with the contract prices of the store over it. Used by the daemon and by direct
// mode.
#ifndef CH_APP_PRICES_H
#define CH_APP_PRICES_H

#include "domain/catalogue.h"
#include "domain/config.h"
#include "store/store.h"

struct ch_span ch_prices_embedded(void); // the document; static
// `store` may be NULL, `config` too. Gives.
enum ch_err ch_prices_load(const struct ch_config *config, struct ch_store *store,
                           struct ch_catalogue **catalogue_out, struct ch_why *why) CH_MUST_USE;

#endif
