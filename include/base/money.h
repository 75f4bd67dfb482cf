// SPDX-License-Identifier: Apache-2.0
// Money is integers (design.md §6): prices in femto-USD (1e-15) per unit, sums of products in
// __int128 femto-USD, amounts in nano-USD (1e-9). One rounding per exchange, half up. No floats.
#ifndef CH_BASE_MONEY_H
#define CH_BASE_MONEY_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

#define CH_NANO_PER_USD   INT64_C(1000000000)
#define CH_FEMTO_PER_NANO INT64_C(1000000)
#define CH_FEMTO_PER_USD  INT64_C(1000000000000000)

typedef __int128 ch_femto_sum; // femto-USD, a sum of price × count products

// Rounds a non-negative sum to nano-USD, half up; saturates at INT64_MAX.
int64_t ch_money_round(ch_femto_sum femto_usd);

// Reads a non-negative decimal, plain or with exponent ("0.01", "2.5e-06",
// "2.0000000000000003e-07"), rounds half up to 1e-13 USD (the catalogue's float noise lies below,
// wire.md §4.1) and gives femto-USD. CH_ERR_INVALID for anything else, CH_ERR_LIMIT past INT64_MAX
// femto-USD (9,223 USD).
enum ch_err ch_money_parse_femto(struct ch_span decimal, int64_t *femto_usd_out) CH_MUST_USE;

// Reads an amount of money with at most 9 decimals ("100", "0.25") as nano-USD.
enum ch_err ch_money_parse_nano(struct ch_span decimal, int64_t *nano_usd_out) CH_MUST_USE;

#define CH_MONEY_TEXT 32
// "0.005615000": always nine decimals, a leading minus where negative.
void ch_money_format(int64_t nano_usd, char out[CH_MONEY_TEXT]);
// Femto-USD as the shortest exact decimal ("0.0000025").
void ch_money_format_femto(int64_t femto_usd, char out[CH_MONEY_TEXT]);

#endif
