// SPDX-License-Identifier: Apache-2.0
#include "proxy/probe.h"

#include "base/clock.h"
#include "net/upstream_pool.h"
#include "wire/http1.h"
#include "wire/url.h"

#define HEAD_MAX 4096 // bytes of the request we send

struct probe {
    struct ch_loop *loop;
    struct ch_resolver *resolver;
    struct ch_tls *tls;
    struct ch_upstream_pool *pool;
    struct ch_upstream *upstream;
    struct ch_timer timer;
    struct ch_buf request;
    struct ch_http1_head_parser parser;
    struct ch_http1_head head;
    enum ch_upstream_fault fault;
    enum ch_address_class refused_class;
    enum ch_err err; // CH_ERR_AGAIN while it runs
    int status;
};

static void finish(struct probe *probe, enum ch_err err)
{
    if (probe->err == CH_ERR_AGAIN)
        probe->err = err;
    ch_loop_stop(probe->loop);
}

static void on_probe_ready(void *arg)
{
    struct probe *probe = arg;
    struct iovec part = {probe->request.ptr, probe->request.len};
    ch_http1_response_init(&probe->parser, false);
    if (ch_peer_write(&probe->upstream->peer, &part, 1) != CH_OK)
        finish(probe, CH_ERR_UNAVAILABLE);
}

static size_t on_probe_bytes(void *arg, struct ch_span bytes)
{
    struct probe *probe = arg;
    struct ch_http1_error error;
    switch (ch_http1_head_parse(&probe->parser, bytes, &probe->head, &error)) {
    case CH_HTTP1_MORE:
        return 0;
    case CH_HTTP1_ERROR:
        finish(probe, CH_ERR_INVALID);
        return bytes.len;
    case CH_HTTP1_DONE:
        probe->status = probe->head.status;
        finish(probe, probe->status == 401 || probe->status == 403 ? CH_ERR_DENIED : CH_OK);
        return bytes.len;
    }
    return bytes.len;
}

static void on_probe_writable(void *arg)
{
    (void)arg; // the request is small; the kernel takes it when it can
}

static void on_probe_end(void *arg, enum ch_peer_end end)
{
    struct probe *probe = arg;
    probe->fault = probe->upstream->fault;
    probe->refused_class = probe->upstream->refused_class;
    finish(arg, end == CH_PEER_TIMEOUT ? CH_ERR_TIMEOUT
                : end == CH_PEER_TLS   ? CH_ERR_CONFLICT
                                       : CH_ERR_UNAVAILABLE);
}

static const struct ch_peer_handler probe_handler = {.on_ready = on_probe_ready,
                                                     .on_bytes = on_probe_bytes,
                                                     .on_writable = on_probe_writable,
                                                     .on_end = on_probe_end};

static void on_probe_timeout(void *arg)
{
    finish(arg, CH_ERR_TIMEOUT);
}

static enum ch_err build_request(struct probe *probe, const struct ch_vault *vault,
                                 const struct ch_provider_row *row, const struct ch_url *url)
{
    unsigned char credential[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    struct ch_vault_reader *reader;
    struct ch_vault_binding binding;
    const char *authority = strstr(row->base_url, "://") + 3;
    ch_buf_init(&probe->request, HEAD_MAX);
    enum ch_err err = ch_vault_reader_new(vault, &reader);
    if (err)
        return err;
    ch_provider_binding(row, &binding);
    err = ch_vault_open(reader, &binding,
                        (struct ch_span){(const char *)row->sealed, row->sealed_size}, credential,
                        &size);
    ch_vault_reader_free(reader);
    if (err)
        return err;
    struct ch_span models = ch_provider_models_path(row->type);
    struct ch_span field = ch_provider_credential_field(row->type, false);
    err = ch_buf_append_format(
        &probe->request,
        "GET %.*s%.*s HTTP/1.1\r\nHost: %.*s\r\nUser-Agent: chaperone\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n%s%.*s",
        CH_SPAN_ARG(url->path), CH_SPAN_ARG(models), (int)strcspn(authority, "/"), authority,
        row->type == CH_PROVIDER_ANTHROPIC ? "anthropic-version: 2023-06-01\r\n" : "",
        CH_SPAN_ARG(field));
    if (!err)
        err = ch_buf_append(&probe->request, credential, size);
    if (!err)
        err = ch_buf_append_span(&probe->request, CH_SPAN("\r\n\r\n"));
    ch_wipe(credential, size);
    return err;
}

static enum ch_err run(struct probe *probe, const struct ch_provider_row *row,
                       const struct ch_url *url, const struct ch_config *config, int64_t timeout_ms,
                       struct ch_why *why)
{
    struct ch_upstream_target target = {.id = 1, .group = 1, .port = url->port, .tls = url->tls};
    struct ch_upstream_settings settings;
    ch_span_copy(url->host, target.host, sizeof target.host);
    ch_span_copy(ch_span_of(row->name), target.name, sizeof target.name);
    probe->err = CH_ERR_AGAIN;
    enum ch_err err = ch_loop_new(0, &probe->loop);
    if (!err)
        err = ch_resolver_start(1, &probe->resolver);
    if (!err)
        err = ch_tls_client_new(config->upstream_ca, &probe->tls, why);
    settings = ch_upstream_settings_of(config, probe->tls);
    settings.connect_ms = timeout_ms;
    if (!err)
        err = ch_upstream_pool_new(probe->loop, probe->resolver, &settings, &probe->pool);
    if (!err)
        err = ch_timer_start(probe->loop, &probe->timer, timeout_ms, on_probe_timeout, probe);
    if (!err)
        err = ch_upstream_acquire(probe->pool, &target, &probe_handler, probe, &probe->upstream);
    if (err)
        return err;
    ch_loop_run(probe->loop);
    return probe->err;
}

static void tear_down(struct probe *probe)
{
    // The resolver's threads post into the loop, so they end first.
    ch_resolver_stop(probe->resolver);
    if (probe->upstream)
        ch_upstream_release(probe->upstream, false);
    if (probe->loop) {
        ch_loop_settle(probe->loop);
        ch_timer_stop(&probe->timer);
    }
    ch_upstream_pool_free(probe->pool);
    ch_loop_free(probe->loop);
    ch_tls_free(probe->tls);
    ch_buf_fini(&probe->request);
}

static enum ch_err explain(enum ch_err err, const struct ch_provider_row *row, int status,
                           struct ch_why *why)
{
    switch (err) {
    case CH_OK:
        return CH_OK;
    case CH_ERR_DENIED:
        return ch_why_set(why, err, "%s refuses the credential: HTTP %d", row->base_url, status);
    case CH_ERR_TIMEOUT:
        return ch_why_set(why, err, "%s does not answer in time", row->base_url);
    case CH_ERR_CORRUPT:
        return ch_why_set(why, err, "the sealed credential of provider %s does not open",
                          row->name);
    case CH_ERR_CONFLICT:
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "%s has no certificate that is trusted here",
                          row->base_url);
    case CH_ERR_INVALID:
        return ch_why_set(why, err, "%s does not answer in HTTP", row->base_url);
    case CH_ERR_NOMEM:
    case CH_ERR_IO:
    case CH_ERR_LIMIT:
    case CH_ERR_NOT_FOUND:
    case CH_ERR_UNAVAILABLE:
    case CH_ERR_AGAIN:
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "%s cannot be reached", row->base_url);
    }
    return err;
}

enum ch_err ch_probe_provider(const struct ch_vault *vault, const struct ch_provider_row *provider,
                              const struct ch_config *config, int64_t timeout_ms,
                              struct ch_probe_result *result_out, struct ch_why *why)
{
    struct probe probe = {0};
    struct ch_url url;
    int64_t start_ns = ch_clock_mono_ns();
    enum ch_err err = ch_url_parse(ch_span_of(provider->base_url), &url, why);
    if (err)
        return err;
    err = build_request(&probe, vault, provider, &url);
    if (!err)
        err = run(&probe, provider, &url, config, timeout_ms, why);
    enum ch_upstream_fault fault = probe.fault;
    tear_down(&probe);
    *result_out = (struct ch_probe_result){
        .status = probe.status, .latency_us = (ch_clock_mono_ns() - start_ns) / CH_NS_PER_US};
    if (fault == CH_UPSTREAM_ADDRESS_REFUSED)
        return ch_why_set(why, CH_ERR_UNAVAILABLE,
                          "%s leads to a %s address, which upstream.allow_addresses does not name",
                          provider->base_url, ch_address_class_name(probe.refused_class));
    if (fault == CH_UPSTREAM_PIN_MISMATCH)
        return ch_why_set(why, CH_ERR_UNAVAILABLE,
                          "%s does not have a public key that upstream.pins names",
                          provider->base_url);
    return explain(err, provider, probe.status, why);
}
