// SPDX-License-Identifier: Apache-2.0
#include "app/prices.h"

#include "admin/contracts.h"
#include "base/str.h"
#include "store/price_store.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

// Linked in by cmake/embed.cmake.
extern const unsigned char ch_embedded_prices[];
extern const size_t ch_embedded_prices_len;

#define READ_STEP (256 * 1024) // bytes of one read

struct ch_span ch_prices_embedded(void)
{
    return (struct ch_span){(const char *)ch_embedded_prices, ch_embedded_prices_len};
}

static enum ch_err read_newest(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_price_store_newest(db, arg, why);
}

static enum ch_err read_file(const char *path, struct ch_buf *out, struct ch_why *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ch_why_set(why, CH_ERR_IO, "prices file %s: %s", path, strerror(errno));
    enum ch_err err = CH_OK;
    for (;;) {
        err = ch_buf_reserve(out, READ_STEP);
        ssize_t got = err ? 0 : read(fd, out->ptr + out->len, READ_STEP);
        if (got < 0)
            err = ch_why_set(why, CH_ERR_IO, "prices file %s: %s", path, strerror(errno));
        else if (err)
            err = ch_why_set(why, err, "prices file %s is too large", path);
        if (got <= 0)
            break;
        out->len += (size_t)got;
    }
    close(fd);
    return err;
}

static enum ch_err load_list(const struct ch_config *config, struct ch_store *store,
                             struct ch_catalogue **catalogue_out, struct ch_why *why)
{
    struct ch_buf text;
    ch_buf_init(&text, CH_CATALOGUE_MAX_BYTES);
    enum ch_err err = store ? ch_store_read(store, read_newest, &text, why) : CH_ERR_NOT_FOUND;
    if (!err) {
        err = ch_catalogue_load(ch_buf_span(&text), catalogue_out, why);
    } else if (err == CH_ERR_NOT_FOUND && config && config->prices[0]) {
        err = read_file(config->prices, &text, why);
        if (!err)
            err = ch_catalogue_load(ch_buf_span(&text), catalogue_out, why);
    } else if (err == CH_ERR_NOT_FOUND) {
        err = ch_catalogue_load(ch_prices_embedded(), catalogue_out, why);
    }
    ch_buf_fini(&text);
    return err;
}

enum ch_err ch_prices_load(const struct ch_config *config, struct ch_store *store,
                           struct ch_catalogue **catalogue_out, struct ch_why *why)
{
    struct ch_catalogue *list, *with_contracts = NULL;
    enum ch_err err = load_list(config, store, &list, why);
    if (err || !store) {
        if (!err)
            *catalogue_out = list;
        return err;
    }
    err = ch_contracts_apply(store, list, &with_contracts, why);
    if (!err && !with_contracts) {
        *catalogue_out = list;
        return CH_OK;
    }
    ch_catalogue_free(list);
    if (!err)
        *catalogue_out = with_contracts;
    return err;
}
