// SPDX-License-Identifier: Apache-2.0
#include "app/daemon.h"

#include "daemon_private.h"

#include "app/capture.h"
#include "app/config_file.h"
#include "app/prices.h"

static enum ch_err report(struct ch_buf *out, const char *what, const char *detail)
{
    return ch_buf_append_format(out, "ok    %-10s %s\n", what, detail);
}

static enum ch_err check_tls(const struct ch_config *config, struct ch_buf *out, struct ch_why *why)
{
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct ch_config_listener *listener = &config->listeners[i];
        struct ch_tls *tls;
        if (!listener->tls_certificate[0])
            continue;
        enum ch_err err = settings_open_listener_tls(listener, &tls, why);
        if (!err)
            ch_tls_free(tls);
        if (!err)
            err = report(out, "tls", listener->tls_certificate);
        if (err)
            return err;
    }
    return CH_OK;
}

static enum ch_err check_admin_tls(const struct ch_config *config, struct ch_buf *out,
                                   struct ch_why *why)
{
    struct ch_tls *tls;
    enum ch_err err = settings_open_admin_tls(config, &tls, why);
    if (err || !tls)
        return err;
    ch_tls_free(tls);
    return report(out, "admin tls", config->admin_tls_certificate);
}

static enum ch_err check_store(const struct ch_config *config, struct ch_why *why)
{
    struct ch_secret *master_key;
    enum ch_err err = ch_config_master_key(config, &master_key, why);
    if (err)
        return err;
    err = ch_store_check(config->database, master_key, why);
    ch_secret_free(master_key);
    return err;
}

// Its patterns, its rules and its program.
static enum ch_err check_captures(const struct ch_config *config, struct ch_why *why)
{
    struct ch_capture_plan *plan = NULL;
    enum ch_err err = ch_capture_plan_new(config, &plan, why);
    ch_capture_plan_unref(plan);
    return err;
}

enum ch_err ch_daemon_check(const struct ch_config *config, struct ch_buf *report_out,
                            struct ch_why *why)
{
    struct ch_catalogue *catalogue = NULL;
    enum ch_err err = check_captures(config, why);
    if (!err)
        err = report(report_out, "config", "valid");
    if (!err)
        err = check_tls(config, report_out, why);
    if (!err)
        err = check_admin_tls(config, report_out, why);
    if (!err)
        err = check_store(config, why);
    if (!err)
        err = report(report_out, "store", config->database);
    if (!err)
        err = report(report_out, "master key", "opens the vault");
    if (!err)
        err = ch_prices_load(config, NULL, &catalogue, why);
    if (!err)
        err = report(report_out, "catalogue", ch_catalogue_version(catalogue));
    ch_catalogue_free(catalogue);
    return err;
}
