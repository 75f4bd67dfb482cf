// SPDX-License-Identifier: Apache-2.0
#include "domain/estimate.h"

#include "base/secret.h"

#include <stdatomic.h>

static int64_t lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t greater(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// Of numbers that are not negative.
static int64_t plus(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static int64_t times(int64_t a, int64_t b)
{
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

// ---- Histograms of output sizes

// Buckets 0–3 hold one size each; from 4 on four buckets share each power of two, so a bucket's
// upper bound is at most a quarter above what is in it. The last one holds all above 114,687.
#define BUCKETS        64
#define BUCKETS_SINGLE 4
#define OCTAVE_BITS    2 // log2 of buckets per power of two

// At WINDOW samples all counts are halved, so what is older than a few windows is forgotten.
#define WINDOW 1024
// The percentile is computed anew once in so many samples, so that reading it costs one load. With
// less than that it would be the largest value by chance, so it is not learned yet.
#define REFRESH   16
#define TAIL_PART 20 // p95: one in twenty lies above
// Not reached but while the thread that halves is held up; until then samples are dropped, so that
// no count wraps round.
#define SAMPLES_MAX (16 * WINDOW)
_Static_assert(SAMPLES_MAX < UINT16_MAX / 2, "counts leave room for threads that overshoot");

#define NOT_LEARNED (-1)

struct histogram {
    _Atomic uint16_t counts[BUCKETS];
    _Atomic uint32_t samples;
    _Atomic uint8_t p95_bucket; // one more than its number; 0: not learned
    atomic_bool is_halving;
};

static unsigned bucket_of(int64_t size)
{
    if (size < BUCKETS_SINGLE)
        return (unsigned)size;
    unsigned octave = 63u - (unsigned)__builtin_clzll((unsigned long long)size);
    unsigned quarter = (unsigned)(size >> (octave - OCTAVE_BITS)) & (BUCKETS_SINGLE - 1);
    unsigned bucket = (octave - 1) * BUCKETS_SINGLE + quarter;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

// The largest size in a bucket.
static int64_t upper_bound(unsigned bucket)
{
    if (bucket < BUCKETS_SINGLE)
        return bucket;
    if (bucket == BUCKETS - 1)
        return INT64_MAX;
    unsigned octave = bucket / BUCKETS_SINGLE + 1, quarter = bucket % BUCKETS_SINGLE;
    return ((int64_t)(BUCKETS_SINGLE + quarter + 1) << (octave - OCTAVE_BITS)) - 1;
}

// Samples that arrive meanwhile are kept. A single count goes, lest an outlier stay for ever.
static void halve(struct histogram *h)
{
    uint32_t removed = 0;
    if (atomic_exchange_explicit(&h->is_halving, true, memory_order_acquire))
        return;
    for (unsigned i = 0; i < BUCKETS; i++) {
        uint16_t count = atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        uint16_t part = count > 1 ? count / 2 : count;
        atomic_fetch_sub_explicit(&h->counts[i], part, memory_order_relaxed);
        removed += part;
    }
    atomic_fetch_sub_explicit(&h->samples, removed, memory_order_relaxed);
    atomic_store_explicit(&h->is_halving, false, memory_order_release);
}

static void refresh_p95(struct histogram *h)
{
    uint32_t samples = atomic_load_explicit(&h->samples, memory_order_relaxed), above = 0;
    for (unsigned i = BUCKETS; i-- > 0;) {
        above += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        if (above * TAIL_PART <= samples)
            continue;
        atomic_store_explicit(&h->p95_bucket, (uint8_t)(i + 1), memory_order_relaxed);
        break;
    }
}

static void histogram_add(struct histogram *h, int64_t size)
{
    if (atomic_load_explicit(&h->samples, memory_order_relaxed) >= SAMPLES_MAX)
        return;
    atomic_fetch_add_explicit(&h->counts[bucket_of(size)], 1, memory_order_relaxed);
    uint32_t samples = atomic_fetch_add_explicit(&h->samples, 1, memory_order_relaxed) + 1;
    if (samples % REFRESH == 0)
        refresh_p95(h);
    if (samples >= WINDOW)
        halve(h);
}

// The upper bound of the bucket that holds the 95th percentile.
static int64_t histogram_p95(const struct histogram *h)
{
    uint8_t bucket = atomic_load_explicit(&h->p95_bucket, memory_order_relaxed);
    return bucket ? upper_bound(bucket - 1u) : NOT_LEARNED;
}

// ---- Tables

// A look-up ends here when all places it tried belong to others; a table that is not full to the
// brim may refuse a name then, which costs no more than its own history.
#define PROBES 16

// Tokens per byte, in 65,536ths.
#define RATIO_ONE    65536
#define RATIO_START  (RATIO_ONE / 4)
#define RATIO_LEAST  (RATIO_ONE / 64) // below it the body held an image or audio, not text
#define RATIO_WEIGHT 16               // of the average so far, beside one new sample

struct model_entry {
    _Atomic uint32_t ratio; // 0: RATIO_START
    struct histogram output;
};

// Names stand apart from what is kept under them, so that a look-up reads one cache line or two.
// A name is written once, by compare-and-swap on 0.
struct ch_learned {
    _Atomic uint64_t pair_names[CH_LEARNED_PAIRS];
    _Atomic uint64_t model_names[CH_LEARNED_MODELS];
    struct histogram pairs[CH_LEARNED_PAIRS];
    struct model_entry models[CH_LEARNED_MODELS];
};

enum ch_err ch_learned_new(struct ch_learned **learned_out)
{
    struct ch_learned *learned = ch_zcalloc(1, sizeof *learned);
    if (!learned)
        return CH_ERR_NOMEM;
    *learned_out = learned;
    return CH_OK;
}

void ch_learned_free(struct ch_learned *learned)
{
    ch_zfree(learned);
}

size_t ch_learned_bytes(void)
{
    return sizeof(struct ch_learned);
}

// The finalizer of MurmurHash3: every bit of the input reaches every bit of the result.
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

static uint64_t not_zero(uint64_t name)
{
    return name ? name : 1; // 0 is a free place
}

uint64_t ch_learned_model(struct ch_span model)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); // FNV-1a
    for (size_t i = 0; i < model.len; i++)
        hash = (hash ^ (unsigned char)model.ptr[i]) * UINT64_C(0x100000001b3);
    return not_zero(mix(hash));
}

static uint64_t pair_name(int64_t key_id, uint64_t model)
{
    return not_zero(mix(mix((uint64_t)key_id) + model));
}

#define NOWHERE (-1)

// The place of a name; NOWHERE: it has none.
static int find(const _Atomic uint64_t *names, unsigned size, uint64_t name)
{
    for (unsigned i = 0; i < PROBES; i++) {
        unsigned at = (unsigned)(name + i) & (size - 1);
        uint64_t there = atomic_load_explicit(&names[at], memory_order_relaxed);
        if (there == name)
            return (int)at;
        if (there == 0)
            return NOWHERE;
    }
    return NOWHERE;
}

// The same, and takes a free place for a name that has none.
static int find_or_claim(_Atomic uint64_t *names, unsigned size, uint64_t name)
{
    for (unsigned i = 0; i < PROBES; i++) {
        unsigned at = (unsigned)(name + i) & (size - 1);
        uint64_t there = atomic_load_explicit(&names[at], memory_order_relaxed);
        if (there == 0 && atomic_compare_exchange_strong_explicit(
                              &names[at], &there, name, memory_order_relaxed, memory_order_relaxed))
            return (int)at;
        if (there == name) // perhaps since the exchange failed
            return (int)at;
    }
    return NOWHERE;
}

static int64_t ratio_of(const struct model_entry *entry)
{
    uint32_t ratio = atomic_load_explicit(&entry->ratio, memory_order_relaxed);
    return ratio ? ratio : RATIO_START;
}

// Two threads at once may lose one sample of the two.
static void learn_ratio(struct model_entry *entry, int64_t bytes, int64_t tokens)
{
    int64_t sample = lesser(times(tokens, RATIO_ONE) / bytes, RATIO_ONE);
    int64_t ratio = ratio_of(entry);
    ratio += (greater(sample, RATIO_LEAST) - ratio) / RATIO_WEIGHT;
    atomic_store_explicit(&entry->ratio, (uint32_t)ratio, memory_order_relaxed);
}

void ch_learned_observe(struct ch_learned *learned, const struct ch_learned_sample *sample)
{
    if (sample->body_bytes <= 0 || sample->input_tokens < 0 || sample->output_tokens < 0)
        return;
    int64_t choices = greater(sample->choices, 1);
    int64_t output = sample->output_tokens / choices + (sample->output_tokens % choices > 0);
    int model = find_or_claim(learned->model_names, CH_LEARNED_MODELS, sample->model);
    if (model != NOWHERE) {
        struct model_entry *entry = &learned->models[model];
        histogram_add(&entry->output, output);
        if (!sample->refers_to_content)
            learn_ratio(entry, sample->body_bytes, sample->input_tokens);
    }
    int pair = find_or_claim(learned->pair_names, CH_LEARNED_PAIRS,
                             pair_name(sample->key_id, sample->model));
    if (pair != NOWHERE)
        histogram_add(&learned->pairs[pair], output);
}

// What the table knows of one key and model.
struct knowledge {
    int64_t ratio;
    int64_t output_p95; // of a choice; NOT_LEARNED
};

static struct knowledge look_up(const struct ch_learned *learned, int64_t key_id, uint64_t model)
{
    struct knowledge known = {RATIO_START, NOT_LEARNED};
    if (!learned)
        return known;
    int at = find(learned->pair_names, CH_LEARNED_PAIRS, pair_name(key_id, model));
    if (at != NOWHERE)
        known.output_p95 = histogram_p95(&learned->pairs[at]);
    at = find(learned->model_names, CH_LEARNED_MODELS, model);
    if (at == NOWHERE)
        return known;
    known.ratio = ratio_of(&learned->models[at]);
    if (known.output_p95 == NOT_LEARNED)
        known.output_p95 = histogram_p95(&learned->models[at].output);
    return known;
}

// ---- Tiers

#define BIT(tier) (1u << (tier))
#define ALL_TIERS (BIT(CH_TIERS) - 1)

struct ch_tier_request ch_tier_request_parse(struct ch_span service_tier)
{
    static const struct {
        const char *name;
        struct ch_tier_request request;
    } known[] = {
        {"", {BIT(CH_TIER_STANDARD) | BIT(CH_TIER_PRIORITY), CH_TIER_STANDARD}},
        {"auto", {BIT(CH_TIER_STANDARD) | BIT(CH_TIER_PRIORITY), CH_TIER_STANDARD}},
        {"default", {BIT(CH_TIER_STANDARD), CH_TIER_STANDARD}},
        {"standard", {BIT(CH_TIER_STANDARD), CH_TIER_STANDARD}},
        {"standard_only", {BIT(CH_TIER_STANDARD), CH_TIER_STANDARD}},
        {"scale", {BIT(CH_TIER_STANDARD), CH_TIER_STANDARD}},
        {"flex", {BIT(CH_TIER_STANDARD) | BIT(CH_TIER_FLEX), CH_TIER_FLEX}},
        {"batch", {BIT(CH_TIER_STANDARD) | BIT(CH_TIER_BATCH), CH_TIER_BATCH}},
        {"priority", {BIT(CH_TIER_STANDARD) | BIT(CH_TIER_PRIORITY), CH_TIER_PRIORITY}},
        {"fast", {BIT(CH_TIER_STANDARD) | BIT(CH_TIER_PRIORITY), CH_TIER_PRIORITY}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ch_span_ieq(service_tier, ch_span_of(known[i].name)))
            return known[i].request;
    return (struct ch_tier_request){ALL_TIERS, ch_tier_parse(service_tier)};
}

// ---- The dearest way a price can bill

#define MEGA INT64_C(1000000)
// Thresholds are whole thousands of tokens (wire.md §4.1). None is looked for above 16 million.
#define THRESHOLD_STEP INT64_C(1000)
#define THRESHOLDS_END 16384

// What can have a price of its own: the classes, then the parts of classes.
#define RATES (CH_TOKEN_CLASSES + CH_TOKEN_PARTS)

// What a million tokens cost by each rate in each tier, for one size of input. -1: the price has
// none of its own, in this tier or the plain one.
struct rates {
    int64_t nano[CH_TIERS][RATES];
};

static unsigned class_of(unsigned rate)
{
    return rate < CH_TOKEN_CLASSES
               ? rate
               : ch_token_part_class((enum ch_token_part)(rate - CH_TOKEN_CLASSES));
}

static void put(struct ch_usage *usage, unsigned rate, int64_t tokens)
{
    usage->tokens[class_of(rate)] = tokens;
    if (rate >= CH_TOKEN_CLASSES)
        usage->parts[rate - CH_TOKEN_CLASSES] = tokens;
}

static struct ch_cost probe(const struct ch_price *price, int64_t size, int tier, unsigned rate)
{
    struct ch_usage usage = {
        .threshold_tokens = size, .tier = (enum ch_tier)tier, .stated_cost_nano = -1};
    put(&usage, rate, MEGA);
    return ch_price_cost(price, &usage);
}

static void probe_all(const struct ch_price *price, int64_t size, struct rates *rates_out)
{
    for (unsigned rate = 0; rate < RATES; rate++) {
        bool is_plain_own = !probe(price, size, CH_TIER_STANDARD, rate).fallback;
        for (int tier = 0; tier < CH_TIERS; tier++) {
            struct ch_cost cost = probe(price, size, tier, rate);
            bool is_own = is_plain_own || !cost.fallback;
            rates_out->nano[tier][rate] = is_own ? cost.nano_usd : -1;
        }
    }
}

// Of one side. Ties go to the first, which is plain text.
static unsigned char dearest(const int64_t nano[RATES], bool is_output)
{
    unsigned best = is_output ? CH_TOKENS_OUTPUT : CH_TOKENS_INPUT;
    for (unsigned rate = 0; rate < RATES; rate++)
        if ((class_of(rate) >= CH_TOKENS_OUTPUT) == is_output && nano[rate] > nano[best])
            best = rate;
    return (unsigned char)best;
}

static struct ch_price_bound_row row_of(const struct rates *rates, int64_t from_tokens, int tier)
{
    const int64_t *nano = rates->nano[tier];
    struct ch_price_bound_row row = {
        .from_tokens = from_tokens,
        .tier = (unsigned char)tier,
        .input_rate = dearest(nano, false),
        .output_rate = dearest(nano, true),
    };
    row.input_nano_per_mega = greater(nano[row.input_rate], 0);
    row.output_nano_per_mega = greater(nano[row.output_rate], 0);
    return row;
}

// Whether `a` applies wherever `b` does, and costs as much. Standard is allowed to all.
static bool covers(const struct ch_price_bound_row *a, const struct ch_price_bound_row *b)
{
    return a->from_tokens <= b->from_tokens &&
           (a->tier == b->tier || a->tier == CH_TIER_STANDARD) &&
           a->input_nano_per_mega >= b->input_nano_per_mega &&
           a->output_nano_per_mega >= b->output_nano_per_mega;
}

static enum ch_err add_row(struct ch_price_bound *bound, const struct ch_price_bound_row *row)
{
    for (size_t i = 0; i < bound->count; i++)
        if (covers(&bound->rows[i], row))
            return CH_OK;
    if (bound->count == CH_PRICE_BOUND_ROWS)
        return CH_ERR_LIMIT;
    bound->rows[bound->count++] = *row;
    return CH_OK;
}

static bool is_same(const struct rates *a, const struct rates *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

// The next threshold above `from`, in steps, and the rates above it; THRESHOLDS_END: there is none.
// Halves the stretch: the price keeps its thresholds to itself.
static int64_t next_threshold(const struct ch_price *price, int64_t from, struct rates *rates)
{
    struct rates last, middle;
    int64_t same = from, other = THRESHOLDS_END;
    probe_all(price, other * THRESHOLD_STEP, &last);
    if (is_same(rates, &last))
        return THRESHOLDS_END;
    while (other - same > 1) {
        int64_t half = same + (other - same) / 2;
        probe_all(price, half * THRESHOLD_STEP + 1, &middle);
        if (is_same(rates, &middle))
            same = half;
        else
            other = half;
    }
    probe_all(price, other * THRESHOLD_STEP + 1, rates);
    return other;
}

enum ch_err ch_price_bound_init(struct ch_price_bound *bound, const struct ch_price *price)
{
    struct rates rates;
    int64_t from = 0;
    *bound = (struct ch_price_bound){.price = price};
    probe_all(price, from, &rates);
    while (from < THRESHOLDS_END) {
        for (int tier = 0; tier < CH_TIERS; tier++) {
            struct ch_price_bound_row row = row_of(&rates, from * THRESHOLD_STEP, tier);
            enum ch_err err = add_row(bound, &row);
            if (err)
                return err;
        }
        from = next_threshold(price, from, &rates);
    }
    return CH_OK;
}

// ---- The estimate

static int64_t worst_input(const struct ch_estimate_request *r)
{
    int64_t tokens = greater(r->body_bytes, 0); // a token stands for a byte at least
    int64_t context = r->model_max_input > 0 ? r->model_max_input : CH_ESTIMATE_MAX_INPUT;
    if (r->refers_to_content)
        tokens = greater(tokens, context);
    return r->has_tools ? plus(tokens, CH_ESTIMATE_TOOL_TOKENS) : tokens;
}

// Of one choice.
static int64_t worst_output(const struct ch_estimate_request *r)
{
    bool is_known = r->model_max_output > 0;
    if (r->max_output_tokens < 0)
        return is_known ? r->model_max_output : CH_ESTIMATE_MAX_OUTPUT;
    return is_known ? lesser(r->max_output_tokens, r->model_max_output) : r->max_output_tokens;
}

static int64_t likely_input(const struct ch_estimate_request *r, int64_t ratio)
{
    int64_t bytes = greater(r->body_bytes, 0);
    return plus(times(bytes, ratio), RATIO_ONE - 1) / RATIO_ONE;
}

static void estimate_tokens(const struct ch_estimate_request *r, const struct ch_learned *learned,
                            struct ch_estimate *e)
{
    struct knowledge known = look_up(learned, r->key_id, r->model);
    int64_t choices = greater(r->choices, 1);
    int64_t input = worst_input(r), output = worst_output(r);
    int64_t p95 = known.output_p95 != NOT_LEARNED ? known.output_p95 : CH_ESTIMATE_LIKELY_OUTPUT;
    int64_t likely = lesser(likely_input(r, known.ratio), input);
    e->worst = (struct ch_usage){.searches = r->searches < 0 ? CH_ESTIMATE_SEARCHES : r->searches,
                                 .threshold_tokens = input,
                                 .tier = r->tier.likely,
                                 .us_region = r->us_region,
                                 .eu_region = r->eu_region,
                                 .is_fast = r->is_fast,
                                 .stated_cost_nano = -1};
    e->likely = e->worst;
    e->worst.tokens[CH_TOKENS_INPUT] = input;
    e->worst.tokens[CH_TOKENS_OUTPUT] = times(output, choices);
    e->likely.tokens[CH_TOKENS_INPUT] = e->likely.threshold_tokens = likely;
    e->likely.tokens[CH_TOKENS_OUTPUT] = times(lesser(p95, output), choices);
    e->likely.searches = lesser(e->worst.searches, 1);
}

// The row by which these tokens cost most, of those that the request can reach: the provider may
// count fewer tokens than the worst case, and so bill below a threshold.
static const struct ch_price_bound_row *dearest_row(const struct ch_price_bound *bound,
                                                    unsigned tiers, int64_t input, int64_t output)
{
    const struct ch_price_bound_row *best = &bound->rows[0]; // standard, without a threshold
    __int128 most = -1;
    for (size_t i = 0; i < bound->count; i++) {
        const struct ch_price_bound_row *row = &bound->rows[i];
        __int128 sum = (__int128)input * row->input_nano_per_mega +
                       (__int128)output * row->output_nano_per_mega;
        if (row->from_tokens > input || !(tiers & BIT(row->tier)) || sum <= most)
            continue;
        best = row;
        most = sum;
    }
    return best;
}

// Moves the tokens into the classes, the tier and the size at which they cost most.
static void make_dearest(struct ch_usage *usage, const struct ch_price_bound *bound, unsigned tiers)
{
    int64_t input = usage->tokens[CH_TOKENS_INPUT], output = usage->tokens[CH_TOKENS_OUTPUT];
    const struct ch_price_bound_row *row = dearest_row(bound, tiers, input, output);
    usage->tokens[CH_TOKENS_INPUT] = usage->tokens[CH_TOKENS_OUTPUT] = 0;
    put(usage, row->input_rate, input);
    put(usage, row->output_rate, output);
    usage->tier = (enum ch_tier)row->tier;
    // One above, where the row has a threshold: most are passed, not reached.
    usage->threshold_tokens = row->from_tokens + (row->from_tokens > 0);
}

void ch_estimate_make(const struct ch_estimate_request *request, const struct ch_price_bound *bound,
                      const struct ch_learned *learned, struct ch_estimate *estimate_out)
{
    estimate_tokens(request, learned, estimate_out);
    estimate_out->cost = (struct ch_budget_estimate){0, 0};
    if (!bound)
        return;
    make_dearest(&estimate_out->worst, bound, request->tier.allowed | BIT(CH_TIER_STANDARD));
    int64_t worst = ch_price_cost(bound->price, &estimate_out->worst).nano_usd;
    int64_t likely = ch_price_cost(bound->price, &estimate_out->likely).nano_usd;
    estimate_out->cost = (struct ch_budget_estimate){worst, lesser(likely, worst)};
}
