// SPDX-License-Identifier: Apache-2.0
#include "daemon_private.h"

#include "app/capture.h"
#include "app/config_file.h"

#include "base/clock.h"
#include "base/secret.h"

#define RELOAD_WAIT_S 30 // a loop that takes longer for one turn is stuck

void settings_free(struct settings *settings)
{
    if (!settings)
        return;
    ch_capture_plan_unref(settings->capture);
    ch_tls_free(settings->upstream_tls);
    for (unsigned i = 0; i < CH_CONFIG_LISTENERS_MAX; i++)
        ch_tls_free(settings->server_tls[i]);
    ch_tls_free(settings->admin_tls);
    ch_zfree(settings);
}

// `*tls_out` is NULL without a certificate.
static enum ch_err open_tls(const struct ch_tls_server_options *options, struct ch_tls **tls_out,
                            struct ch_why *why)
{
    if (options->certificate[0])
        return ch_tls_server_new(options, tls_out, why);
    *tls_out = NULL;
    return CH_OK;
}

enum ch_err settings_open_listener_tls(const struct ch_config_listener *listener,
                                       struct ch_tls **tls_out, struct ch_why *why)
{
    const struct ch_tls_server_options options = {.certificate = listener->tls_certificate,
                                                  .key = listener->tls_key,
                                                  .client_ca = listener->tls_client_ca,
                                                  .requires_client = listener->tls_client_auth ==
                                                                     CH_CONFIG_CLIENT_AUTH_REQUIRE};
    return open_tls(&options, tls_out, why);
}

enum ch_err settings_open_admin_tls(const struct ch_config *config, struct ch_tls **tls_out,
                                    struct ch_why *why)
{
    const struct ch_tls_server_options options = {.certificate = config->admin_tls_certificate,
                                                  .key = config->admin_tls_key,
                                                  .client_ca = ""};
    return open_tls(&options, tls_out, why);
}

enum ch_err settings_make(const struct ch_config *config, struct settings **settings_out,
                          struct ch_why *why)
{
    struct settings *settings = ch_zcalloc(1, sizeof *settings);
    if (!settings)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    settings->config = *config;
    enum ch_err err = ch_capture_plan_new(config, &settings->capture, why);
    if (!err)
        err = ch_tls_client_new(config->upstream_ca, &settings->upstream_tls, why);
    for (unsigned i = 0; i < config->listener_count && !err; i++)
        err = settings_open_listener_tls(&config->listeners[i], &settings->server_tls[i], why);
    if (!err)
        err = settings_open_admin_tls(config, &settings->admin_tls, why);
    if (err) {
        settings_free(settings);
        return err;
    }
    *settings_out = settings;
    return CH_OK;
}

// ---- reload

static void configure_lane(void *arg)
{
    struct lane *lane = arg;
    struct daemon *d = lane->daemon;
    const struct settings *settings = d->new_settings;
    for (unsigned i = 0; i < CH_CONFIG_LISTENERS_MAX; i++)
        lane->doors[i].tls = settings->server_tls[i];
    ch_proxy_loop_configure(lane->proxy, &settings->config, settings->upstream_tls);
    pthread_mutex_lock(&d->settings_lock);
    if (--d->lanes_left == 0)
        pthread_cond_signal(&d->lanes_done);
    pthread_mutex_unlock(&d->settings_lock);
}

// A process that has given up executing programs cannot take up a hook.
static enum ch_err check_hook(const struct daemon *d, const struct ch_config *config,
                              struct ch_why *why)
{
    if (d->confinement != CH_CONFINEMENT_FULL || !config->capture.hook_program[0])
        return CH_OK;
    return ch_why_set(why, CH_ERR_CONFLICT,
                      "%s: capture.hook.program: the daemon started without one and has given up "
                      "executing programs; it needs a restart; nothing was changed",
                      d->config_path);
}

// Takes `settings`. They hold on every loop on return; the old ones are used by nobody then.
// Sessions and connections that were made by them go on.
static void put_in_force(struct daemon *d, struct settings *settings)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline); // a step of the wall clock must not end the wait
    deadline.tv_sec += RELOAD_WAIT_S;
    d->new_settings = settings;
    pthread_mutex_lock(&d->settings_lock);
    d->lanes_left = d->lane_count;
    pthread_mutex_unlock(&d->settings_lock);
    for (unsigned i = 0; i < d->lane_count; i++)
        CH_ASSERT(ch_loop_post(d->lanes[i].loop, configure_lane, &d->lanes[i]) == CH_OK);
    pthread_mutex_lock(&d->settings_lock);
    while (d->lanes_left)
        CH_ASSERT(pthread_cond_timedwait(&d->lanes_done, &d->settings_lock, &deadline) == 0);
    struct settings *old = d->settings;
    d->settings = settings;
    pthread_mutex_unlock(&d->settings_lock);
    ch_log_set_level(settings->config.log_level);
    ch_capturer_set_plan(d->capturer, settings->capture);
    settings->capture = NULL;
    settings_free(old);
}

// The file, whole and valid, with nothing changed that has to stay.
static enum ch_err load_settings(struct daemon *d, struct settings **settings_out,
                                 struct ch_why *why)
{
    struct ch_config *config = ch_zcalloc(1, sizeof *config);
    if (!config)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    enum ch_err err = d->config_is_found ? ch_config_file_load_found(d->config_path, config, why)
                                         : ch_config_file_load(d->config_path, config, why);
    const char *change = err ? NULL : ch_config_fixed_change(d->config, config);
    if (change)
        err = ch_why_set(why, CH_ERR_CONFLICT,
                         "%s: a change of %s needs a restart; nothing was changed", d->config_path,
                         change);
    if (!err)
        err = check_hook(d, config, why);
    if (!err)
        err = settings_make(config, settings_out, why);
    ch_zfree(config);
    return err;
}

enum ch_err settings_reload(void *arg, struct ch_why *why)
{
    struct daemon *d = arg;
    struct settings *settings;
    pthread_mutex_lock(&d->reload_lock);
    enum ch_err err = load_settings(d, &settings, why);
    if (!err)
        put_in_force(d, settings);
    pthread_mutex_unlock(&d->reload_lock);
    if (err)
        CH_LOG(CH_LOG_ERROR, "reload_refused", ch_log_text("err", why->text));
    else
        CH_LOG(CH_LOG_INFO, "reloaded", ch_log_text("config", d->config_path));
    return err;
}

void settings_copy_config(void *arg, struct ch_config *config_out)
{
    struct daemon *d = arg;
    pthread_mutex_lock(&d->settings_lock);
    *config_out = d->settings->config;
    pthread_mutex_unlock(&d->settings_lock);
}

enum ch_err settings_open_admin_session(void *arg, struct ssl_st **session_out)
{
    struct daemon *d = arg;
    *session_out = NULL;
    pthread_mutex_lock(&d->settings_lock);
    struct ch_tls *tls = d->settings->admin_tls;
    enum ch_err err = tls ? ch_tls_session_new(tls, NULL, session_out) : CH_OK;
    pthread_mutex_unlock(&d->settings_lock);
    return err;
}
