// SPDX-License-Identifier: Apache-2.0
// The gate: who is asking, for what, and may it. The head decides key and route, the whole request
// the model and the money.
#include "shared.h"

#include "base/secret.h"
#include "domain/cidr.h"
#include "domain/model_rule.h"

#include <assert.h>

#define BEARER CH_SPAN("Bearer ")

CH_COLD static bool deny(struct exchange *x, int status, const char *code, const char *message)
{
    respond_denial(x, &(struct denial){.status = status, .code = code, .message = message},
                   CH_END_DENIED);
    return false;
}

// One wording for every reason: an outsider learns nothing from it.
CH_COLD static bool deny_key(struct exchange *x)
{
    client_doubt(x->client);
    return deny(x, 401, "invalid_api_key",
                "Invalid API key. Use an active chaperone key (ch_…) as the API key.");
}

// ---- the key

struct carriers {
    struct ch_span token;
    bool is_present, is_conflicting;
};

static void see_token(struct carriers *found, struct ch_span token)
{
    if (found->is_present && !ch_span_eq(found->token, token))
        found->is_conflicting = true;
    found->token = token;
    found->is_present = true;
}

// RFC 6750 §2.1: the scheme ignores case, one space, then the token.
static void see_authorization(struct carriers *found, struct ch_span value)
{
    struct ch_span scheme = BEARER;
    bool is_bearer =
        value.len > scheme.len && ch_span_ieq((struct ch_span){value.ptr, scheme.len}, scheme);
    see_token(found, is_bearer ? ch_span_sub(value, scheme.len) : CH_SPAN(""));
}

static void collect_carriers(const struct exchange *x, struct carriers *found)
{
    struct ch_span whole, value;
    for (uint32_t i = 0; i < x->head.field_count; i++) {
        const struct ch_http1_field *field = &x->head.fields[i];
        if (field->id == CH_FIELD_AUTHORIZATION)
            see_authorization(found, ch_http1_value(x->head_base, field));
        else if (field->id == CH_FIELD_X_API_KEY || field->id == CH_FIELD_X_GOOG_API_KEY ||
                 field->id == CH_FIELD_API_KEY)
            see_token(found, ch_http1_value(x->head_base, field));
    }
    // Old Gemini clients put the key into the URL (wire.md §1.1); nobody else may (security.md
    // §4.15), which gate_head sees to when the dialect is settled.
    struct ch_span query = x->target.query;
    while (query.len && ch_query_find(query, CH_SPAN("key"), &value, &whole)) {
        see_token(found, value);
        query = ch_span_sub(query, (size_t)(value.ptr + value.len - query.ptr));
    }
}

// A connection carries the same key again and again: what was verified is remembered as a 128-bit
// digest under a key of this process, of the whole token, together with the hash it was verified
// against. The record itself is looked up every time, so revocation, expiry and a new secret count
// at once.
static const struct key_record *recall(const struct exchange *x,
                                       const struct remembered_key *memory,
                                       const unsigned char digest[REMEMBERED_DIGEST])
{
    if (!memory->is_set || !ch_secret_equal(memory->digest, digest, REMEMBERED_DIGEST))
        return NULL;
    const struct key_record *key =
        registry_find(x->pl->proxy->options.registry,
                      (struct ch_span){memory->public_id, sizeof memory->public_id});
    if (!key)
        return NULL;
    if (!memory->is_previous)
        return memcmp(key->hash, memory->hash, sizeof memory->hash) == 0 ? key : NULL;
    const struct key_policy *policy = key->policy;
    return policy && x->started_at_ms < policy->previous_expires_at_ms &&
                   memcmp(policy->previous_hash, memory->hash, sizeof memory->hash) == 0
               ? key
               : NULL;
}

static void remember(struct remembered_key *memory, const struct key_record *key, bool is_previous,
                     const unsigned char digest[REMEMBERED_DIGEST])
{
    memory->is_set = true;
    memory->is_previous = is_previous;
    memcpy(memory->digest, digest, sizeof memory->digest);
    memcpy(memory->public_id, key->public_id, sizeof memory->public_id);
    memcpy(memory->hash, is_previous ? key->policy->previous_hash : key->hash, sizeof memory->hash);
}

static const struct key_record *verify(struct exchange *x, struct ch_span token)
{
    struct ch_wrapped_key parsed;
    unsigned char digest[REMEMBERED_DIGEST];
    struct remembered_key *memory = &x->client->remembered;
    crypto_shorthash_siphashx24(digest, (const unsigned char *)token.ptr, token.len,
                                x->pl->proxy->digest_key);
    const struct key_record *key = recall(x, memory, digest);
    if (key || ch_wrapped_key_parse(token, &parsed) != CH_OK)
        return key;
    bool is_previous;
    key = registry_verify(x->pl->proxy->options.registry, parsed.id, token, &is_previous);
    if (key)
        remember(memory, key, is_previous, digest);
    return key;
}

static const struct key_record *authenticate(struct exchange *x)
{
    struct carriers found = {0};
    collect_carriers(x, &found);
    if (!found.is_present || found.is_conflicting || found.token.len > CH_WRAPPED_KEY_MAX)
        return NULL;
    const struct key_record *key = verify(x, found.token);
    if (key)
        memcpy(x->public_id, key->public_id, sizeof x->public_id);
    return key;
}

static bool key_is_valid(const struct exchange *x, const struct key_record *key)
{
    return key->status == CH_KEY_ACTIVE &&
           (key->expires_at_ms == 0 || x->started_at_ms < key->expires_at_ms);
}

// ---- the dialect and the route

static enum ch_dialect dialect_by_fields(const struct exchange *x)
{
    if (ch_http1_find(&x->head, CH_FIELD_ANTHROPIC_VERSION) ||
        ch_http1_find(&x->head, CH_FIELD_X_API_KEY))
        return CH_DIALECT_ANTHROPIC;
    if (ch_http1_find(&x->head, CH_FIELD_X_GOOG_API_KEY))
        return CH_DIALECT_GEMINI;
    return CH_DIALECT_OPENAI;
}

struct routing {
    struct ch_span path;  // without dialect prefix
    bool is_pinned;       // the prefix said which dialect
    unsigned candidates;  // bit per dialect that knows the path
    unsigned known_paths; // bit per dialect that knows it with the other method
    struct ch_route_match match[3];
};

// Finds every dialect that could be meant. Done before the key is known, so that a refusal already
// speaks the caller's dialect; nothing but the shape of errors depends on it before authentication.
static void find_routes(struct exchange *x, struct routing *r)
{
    enum ch_dialect pinned;
    bool is_post = x->head.method == CH_METHOD_POST;
    bool is_served = is_post || x->head.method == CH_METHOD_GET;
    *r = (struct routing){.path = x->target.path};
    r->is_pinned = ch_route_prefix(x->target.path, &pinned, &r->path);
    for (int d = CH_DIALECT_OPENAI; d <= CH_DIALECT_GEMINI; d++) {
        if (r->is_pinned && pinned != (enum ch_dialect)d)
            continue;
        enum ch_route_result result =
            ch_route_find((enum ch_dialect)d, r->path, is_post, &r->match[d]);
        r->candidates |= (unsigned)(result == CH_ROUTE_FOUND && is_served) << d;
        r->known_paths |= (unsigned)(result != CH_ROUTE_UNKNOWN) << d;
    }
    enum ch_dialect hint = dialect_by_fields(x);
    unsigned possible = r->candidates ? r->candidates : r->known_paths;
    if (r->is_pinned)
        x->dialect = pinned;
    else if (possible == 0 || possible & 1u << hint)
        x->dialect = hint;
    else
        x->dialect = (enum ch_dialect)__builtin_ctz(possible);
}

static bool provider_serves(const struct provider_record *provider, enum ch_dialect dialect,
                            const struct ch_route *route)
{
    return ch_provider_type_dialect(provider->row.type) == dialect &&
           (!route->is_deployment || provider->row.type == CH_PROVIDER_AZURE);
}

// The first of the key's providers that speaks the dialect.
static struct provider_record *find_provider(const struct exchange *x, const struct key_record *key,
                                             enum ch_dialect dialect, const struct ch_route *route)
{
    for (unsigned i = 0; i < key->provider_count; i++) {
        struct provider_record *provider =
            registry_provider(x->pl->proxy->options.registry, key_record_provider(key, i));
        if (provider && provider_serves(provider, dialect, route))
            return provider;
    }
    return NULL;
}

// Where a path belongs to several dialects (/v1/models), the one hinted at by the fields wins if
// the key can use it, else the first one it can use.
static bool choose_route(struct exchange *x, const struct key_record *key, const struct routing *r)
{
    unsigned order[4] = {x->dialect, CH_DIALECT_OPENAI, CH_DIALECT_ANTHROPIC, CH_DIALECT_GEMINI};
    for (int i = 0; i < 4; i++) {
        unsigned d = order[i];
        if (!(r->candidates & 1u << d))
            continue;
        struct provider_record *provider =
            find_provider(x, key, (enum ch_dialect)d, r->match[d].route);
        if (!provider)
            continue;
        x->dialect = (enum ch_dialect)d;
        x->provider = provider;
        provider_ref(provider);
        x->route = r->match[d].route;
        x->suffix = r->match[d].suffix;
        if (x->route->model_place == CH_MODEL_IN_PATH) {
            x->path_model_at = (size_t)(r->match[d].model.ptr - x->suffix.ptr);
            x->path_model_len = r->match[d].model.len;
            x->facts.has_model = true;
            // A colon at the end would be a second verb to whoever splits there.
            x->facts.model_is_bad = !ch_model_name_is_valid(r->match[d].model) ||
                                    ch_span_ends(r->match[d].model, CH_SPAN(":"));
            if (!x->facts.model_is_bad) {
                x->facts.model_len = r->match[d].model.len;
                ch_span_copy(r->match[d].model, x->facts.model, sizeof x->facts.model);
            }
        }
        return true;
    }
    return false;
}

CH_COLD static bool deny_route(struct exchange *x, const struct routing *r)
{
    if (r->candidates)
        return deny(x, 403, "dialect_not_served",
                    "This key has no provider that serves this path. Ask for a key with such a "
                    "provider, or check the base URL.");
    if (r->known_paths)
        return deny(x, 405, "method_not_allowed", "This path does not take that method.");
    return deny(
        x, 404, "unknown_path",
        "Unknown path. chaperone forwards only what it can meter; see the list of routes in "
        "its documentation.");
}

// ---- the head

static bool is_json(struct ch_span type)
{
    struct ch_span json = CH_SPAN("application/json");
    if (type.len < json.len || !ch_span_ieq((struct ch_span){type.ptr, json.len}, json))
        return false;
    struct ch_span rest = ch_span_trim(ch_span_sub(type, json.len));
    if (rest.len == 0)
        return true;
    if (rest.ptr[0] != ';')
        return false;
    rest = ch_span_trim(ch_span_sub(rest, 1));
    return ch_span_ieq(rest, CH_SPAN("charset=utf-8")) ||
           ch_span_ieq(rest, CH_SPAN("charset=\"utf-8\""));
}

static unsigned count_fields(const struct ch_http1_head *head, enum ch_field id)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < head->field_count; i++)
        count += head->fields[i].id == id;
    return count;
}

static bool check_body_fields(struct exchange *x)
{
    const struct ch_http1_field *coding = ch_http1_find(&x->head, CH_FIELD_CONTENT_ENCODING);
    if (count_fields(&x->head, CH_FIELD_CONTENT_TYPE) > 1 ||
        count_fields(&x->head, CH_FIELD_CONTENT_ENCODING) > 1)
        return deny(x, 400, "duplicate_field", "A field that describes the body stands twice.");
    if (x->head.framing == CH_FRAMING_NONE)
        return deny(x, 411, "length_required", "This path needs a body with a length.");
    if (x->head.framing == CH_FRAMING_LENGTH &&
        x->head.content_length > x->pl->config->limits.body_bytes)
        return deny(x, 413, "body_too_large", "The request body is too large.");
    if (coding && !ch_span_ieq(ch_http1_value(x->head_base, coding), CH_SPAN("identity")))
        return deny(x, 415, "unsupported_encoding",
                    "Compressed request bodies are not accepted: send the body as it is.");
    return true;
}

CH_COLD static bool deny_type(struct exchange *x)
{
    const struct ch_route *route = x->route;
    return deny(x, 415, "unsupported_media_type",
                !route->takes_form   ? "The body must be application/json in UTF-8."
                : !route->takes_json ? "The body must be multipart/form-data."
                                     : "The body must be multipart/form-data, or application/json "
                                       "in UTF-8.");
}

// What the Content-Type says is how the body is read; without one it is JSON.
static bool begin_body(struct exchange *x, const struct key_record *key)
{
    const struct ch_http1_field *field = ch_http1_find(&x->head, CH_FIELD_CONTENT_TYPE);
    struct ch_span type = field ? ch_http1_value(x->head_base, field) : CH_SPAN("application/json");
    if (x->route->takes_form && ch_multipart_is_form(type)) {
        struct ch_span boundary;
        enum ch_multipart_error error = ch_multipart_boundary(type, &boundary);
        if (error)
            return deny(x, 400, "invalid_form", ch_multipart_error_text(error));
        facts_begin_form(x, boundary);
        return true;
    }
    if (!x->route->takes_json || !is_json(type))
        return deny_type(x);
    facts_begin(x, policy_needs_facts(x, key));
    return true;
}

static void note_user_agent(struct exchange *x)
{
    const struct ch_http1_field *agent = ch_http1_find(&x->head, CH_FIELD_USER_AGENT);
    if (agent)
        ch_span_copy(ch_http1_value(x->head_base, agent), x->user_agent, sizeof x->user_agent);
}

static bool has_query_key(const struct exchange *x)
{
    struct ch_span value, whole;
    return ch_query_find(x->target.query, CH_SPAN("key"), &value, &whole);
}

// Parameters of Gemini's metered calls can choose the answer's form and leave its usage out
// ("fields", "alt=proto"). What is known to be harmless passes, the rest is refused.
static bool check_query(struct exchange *x)
{
    struct ch_span rest = x->target.query;
    if (x->dialect != CH_DIALECT_GEMINI || !x->route->is_post)
        return true;
    while (rest.len) {
        const char *end = memchr(rest.ptr, '&', rest.len);
        struct ch_span item = {rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len};
        rest = ch_span_sub(rest, item.len + (end != NULL));
        if (item.len && !ch_span_starts(item, CH_SPAN("key=")) &&
            !ch_span_eq(item, CH_SPAN("alt=sse")) && !ch_span_eq(item, CH_SPAN("alt=json")))
            return deny(x, 400, "query_not_allowed",
                        "Of query parameters only key, alt=sse and alt=json are allowed here.");
    }
    return true;
}

static bool may_come_from_here(const struct exchange *x, const struct key_record *key)
{
    return !key->policy || !key->policy->allow_cidrs ||
           ch_cidr_list_allows_text(key->policy->allow_cidrs, ch_span_of(x->client->address));
}

static bool check_address(struct exchange *x, const struct key_record *key)
{
    return may_come_from_here(x, key) ||
           deny(x, 403, "address_not_allowed",
                "This key may not be used from this address. Ask whoever issued the key.");
}

// GET …/models/NAME: one that the key may not use is not there for it.
static bool check_listed_model(struct exchange *x, const struct key_record *key)
{
    struct ch_span list = CH_SPAN("/models/"), rest = x->suffix;
    if (!x->filters_list)
        return true;
    while (rest.len > list.len && !ch_span_starts(rest, list))
        rest = ch_span_sub(rest, 1);
    if (rest.len <= list.len)
        return true;
    x->filters_list = false; // the answer is one model, and no list
    return listing_shows(key, ch_span_sub(rest, list.len)) ||
           deny(x, 404, "model_not_found", "There is no such model for this key.");
}

bool gate_head(struct exchange *x)
{
    struct routing routing;
    if (respond_own_path(x))
        return false;
    find_routes(x, &routing);
    const struct key_record *key = authenticate(x);
    if (!key || !key_is_valid(x, key))
        return deny_key(x);
    ch_peer_stand_behind(&x->client->peer, false);
    x->key_id = key->id;
    x->attribution_id = key->attribution->id;
    note_user_agent(x);
    if (!check_address(x, key))
        return false;
    if (!ch_target_path_is_plain(x->target.path))
        return deny(x, 404, "unknown_path", "Unknown path.");
    if (has_query_key(x) && !(routing.candidates & 1u << CH_DIALECT_GEMINI))
        return deny_key(x);
    if (!choose_route(x, key, &routing))
        return deny_route(x, &routing);
    if (!x->provider->enabled || (x->dialect != CH_DIALECT_GEMINI && has_query_key(x)))
        return deny_key(x);
    if (!check_query(x))
        return false;
    x->filters_list = listing_is_filtered(x, key);
    if (!check_listed_model(x, key))
        return false;
    if (!x->route->is_post)
        return ch_http1_body_is_empty(&x->body_framing) ||
               deny(x, 400, "unexpected_body", "A GET request carries no body here.");
    return check_body_fields(x) && begin_body(x, key);
}

const struct key_record *gate_own_key(struct exchange *x)
{
    const struct key_record *key = authenticate(x);
    return key && key_is_valid(x, key) && may_come_from_here(x, key) ? key : NULL;
}

// ---- the body

static bool check_json(struct exchange *x)
{
    const struct request_facts *facts = &x->facts;
    if (x->body_failed || ch_json_scan_finish(&x->json) != CH_OK)
        return deny(x, 400, "invalid_json", "The body is not valid JSON.");
    if (facts->has_duplicate)
        return deny(x, 400, "duplicate_member",
                    "The body names a member twice that decides who serves it or what it costs.");
    if (ch_json_scan_is_ambiguous(&x->json))
        return deny(x, 400, "ambiguous_member",
                    "The body has a member that differs from a known one only in case or blanks.");
    if (facts->is_background)
        return deny(x, 403, "background_not_allowed",
                    "Background responses cannot be metered: leave `background` out.");
    return true;
}

static bool check_form(struct exchange *x)
{
    enum ch_multipart_error error = ch_multipart_finish(&x->form);
    return !error || deny(x, 400, "invalid_form", ch_multipart_error_text(error));
}

static bool check_body(struct exchange *x)
{
    if ((x->body_is_json && !check_json(x)) || (x->body_is_form && !check_form(x)))
        return false;
    if (x->facts.contradicts_path)
        return deny(x, 400, "model_mismatch", "The body names another model than the path.");
    facts_finish(x);
    static_assert(CH_MEDIA_IMAGES_MAX == 10, "as the message says");
    if (x->facts.ask.is_bad)
        return deny(x, 400, "count_invalid",
                    "The number of images, `n`, must be a whole number from 1 to 10.");
    return true;
}

static bool check_model(struct exchange *x, const struct key_record *key)
{
    const struct request_facts *facts = &x->facts;
    if (x->route->model_place == CH_MODEL_NOWHERE)
        return true;
    if (!facts->has_model)
        return deny(x, 400, "model_missing", "The body names no model.");
    if (facts->model_is_bad)
        return deny(x, 400, "model_invalid", "The model is not a valid model name.");
    struct ch_span whole, value;
    if (x->route->model_place != CH_MODEL_IN_PATH &&
        ch_query_find(x->target.query, CH_SPAN("model"), &value, &whole))
        return deny(x, 400, "model_mismatch",
                    "The model belongs into the body, not into the query.");
    return policy_check_model(x, key);
}

// The provider as it is now: it may have been replaced, disabled or taken from the key during a
// slow upload.
static bool refresh_provider(struct exchange *x, const struct key_record *key)
{
    struct provider_record *provider = find_provider(x, key, x->dialect, x->route);
    if (!provider || !provider->enabled)
        return false;
    if (provider != x->provider) {
        provider_unref(x->provider);
        provider_ref(provider);
        x->provider = provider;
    }
    return true;
}

bool gate_request(struct exchange *x)
{
    // A slow upload may have outlived the key: the record is looked up anew.
    const struct key_record *key = registry_find(
        x->pl->proxy->options.registry, (struct ch_span){x->public_id, sizeof x->public_id});
    if (!key || !key_is_valid(x, key) || !refresh_provider(x, key))
        return deny_key(x);
    if (!check_body(x))
        return false;
    enum ch_stream_sign sign = x->route->stream_sign;
    x->is_stream = sign == CH_STREAM_ALWAYS || (sign == CH_STREAM_BY_BODY && x->facts.is_stream) ||
                   (sign == CH_STREAM_BY_FORMAT && x->facts.streams_speech);
    return check_model(x, key) && (!x->facts.has_reference || objects_check(x, key)) &&
           policy_admit(x, key);
}
