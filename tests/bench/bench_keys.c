// SPDX-License-Identifier: Apache-2.0
// Fills a store with wrapped keys: bench_keys CONFIG PROVIDER FIRST COUNT
//
// Makes the keys bench-FIRST and on, as `chaperone key create` makes one, some thousands a
// transaction. The token of every hundredth goes to standard output. No daemon may be running on
// the store.
#include "app/config_file.h"
#include "store/key_store.h"

#include "http.h"

#include <stdio.h>
#include <stdlib.h>

#define BATCH   10000 // keys of one transaction
#define PRINTED 100   // one token in so many

struct batch {
    const struct ch_secret *pepper;
    const char *provider;
    int64_t first, end;
};

static void must(enum ch_err err, const struct ch_why *why)
{
    if (err) {
        fprintf(stderr, "bench_keys: %s: %s\n", ch_err_name(err), why->text);
        exit(1);
    }
}

static enum ch_err create_keys(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct batch *batch = arg;
    char token[CH_WRAPPED_KEY_MAX + 1];
    enum ch_err err = CH_OK;
    for (int64_t i = batch->first; !err && i < batch->end; i++) {
        struct ch_key_row key = {.provider_count = 1};
        snprintf(key.name, sizeof key.name, "bench-%lld", (long long)i);
        snprintf(key.slug, sizeof key.slug, "bench");
        snprintf(key.team, sizeof key.team, "team-%d", (int)(i % 50));
        snprintf(key.provider_names[0], sizeof key.provider_names[0], "%s", batch->provider);
        err = ch_key_create(db, batch->pepper, &key, token, why);
        if (!err && i % PRINTED == 0)
            puts(token);
    }
    ch_wipe(token, sizeof token);
    return err;
}

int main(int argc, char **argv)
{
    struct ch_why why = {""};
    struct ch_config config;
    struct ch_secret *master_key;
    struct ch_store *store;
    if (argc != 5)
        return 2;
    int64_t at = bench_number(argv[3], 0, 100000000);
    int64_t end = at + bench_number(argv[4], 1, 100000000);
    must(ch_secret_process_init(&why), &why);
    must(ch_store_process_init(&why), &why);
    must(ch_config_file_load(argv[1], &config, &why), &why);
    must(ch_config_master_key(&config, &master_key, &why), &why);
    must(ch_store_open(config.database, master_key, false, &store, &why), &why);
    for (; at < end; at += BATCH) {
        struct batch batch = {ch_store_pepper(store), argv[2], at,
                              end - at < BATCH ? end : at + BATCH};
        must(ch_store_write(store, create_keys, &batch, &why), &why);
    }
    ch_store_close(store);
    ch_secret_free(master_key);
    return 0;
}
