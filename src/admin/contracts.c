// SPDX-License-Identifier: Apache-2.0
#include "admin/contracts.h"

#include "base/secret.h"
#include "store/price_store.h"

// A contract price whose texts stay.
struct contract {
    struct ch_price_override_row row;
    char prices[];
};

struct contracts {
    struct contract *items[CH_PRICE_OVERRIDES_MAX + 1]; // one more, to be refused by the domain
    struct ch_price_override overrides[CH_PRICE_OVERRIDES_MAX + 1];
    size_t count;
};

static void free_contracts(struct contracts *contracts)
{
    for (size_t i = 0; contracts && i < contracts->count; i++)
        ch_zfree(contracts->items[i]);
    ch_zfree(contracts);
}

static enum ch_err keep(void *arg, const struct ch_price_override_row *row)
{
    struct contracts *contracts = arg;
    if (contracts->count > CH_PRICE_OVERRIDES_MAX)
        return CH_OK;
    struct contract *contract = ch_zmalloc(sizeof *contract + row->prices_json.len);
    if (!contract)
        return CH_ERR_NOMEM;
    contract->row = *row;
    memcpy(contract->prices, row->prices_json.ptr, row->prices_json.len);
    contracts->items[contracts->count++] = contract;
    return CH_OK;
}

// How the list names the models of the contract's provider.
static enum ch_err find_prefix(struct ch_db *db, const struct ch_price_override_row *row,
                               const char **prefix_out, struct ch_why *why)
{
    struct ch_provider_row provider;
    *prefix_out = "";
    if (!*row->provider)
        return CH_OK;
    enum ch_err err = ch_provider_get(db, row->provider, &provider, why);
    if (!err)
        *prefix_out = ch_provider_price_prefix(provider.type, ch_span_of(provider.base_url));
    return err;
}

static enum ch_err fill(struct ch_db *db, struct contracts *contracts, struct ch_why *why)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < contracts->count && !err; i++) {
        const struct contract *contract = contracts->items[i];
        const char *prefix;
        err = find_prefix(db, &contract->row, &prefix, why);
        if (err)
            break;
        contracts->overrides[i] = (struct ch_price_override){
            .provider_id = contract->row.provider_id,
            .prefix = ch_span_of(prefix),
            .model = ch_span_of(contract->row.model),
            .prices_json = {contract->prices, contract->row.prices_json.len},
            .valid_from_ms = contract->row.valid_from_ms,
        };
    }
    return err;
}

enum ch_err ch_contracts_apply_in(struct ch_db *db, const struct ch_catalogue *base,
                                  struct ch_catalogue **catalogue_out, struct ch_why *why)
{
    int64_t revision;
    struct ch_catalogue *catalogue = NULL;
    struct contracts *contracts = ch_zcalloc(1, sizeof *contracts);
    if (!contracts)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    enum ch_err err = ch_price_override_revision(db, &revision, why);
    if (!err)
        err = ch_price_override_each(db, keep, contracts, why);
    if (!err)
        err = fill(db, contracts, why);
    if (!err && (contracts->count || revision))
        err = ch_catalogue_with_overrides(base, contracts->overrides, contracts->count, revision,
                                          &catalogue, why);
    free_contracts(contracts);
    if (!err)
        *catalogue_out = catalogue;
    return err == CH_ERR_NOMEM ? ch_why_set(why, err, "out of memory") : err;
}

struct apply_job {
    const struct ch_catalogue *base;
    struct ch_catalogue *catalogue;
};

static enum ch_err apply_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct apply_job *job = arg;
    return ch_contracts_apply_in(db, job->base, &job->catalogue, why);
}

enum ch_err ch_contracts_apply(struct ch_store *store, const struct ch_catalogue *base,
                               struct ch_catalogue **catalogue_out, struct ch_why *why)
{
    struct apply_job job = {.base = base};
    enum ch_err err = ch_store_read(store, apply_in_store, &job, why);
    if (!err)
        *catalogue_out = job.catalogue;
    return err;
}
