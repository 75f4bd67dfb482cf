// SPDX-License-Identifier: Apache-2.0
// Whether time tells an attacker anything: check_timing prints one line per pair of inputs.
//
// The two inputs of a pair are given to the same function in random order, a million times in all;
// Welch's t-test says whether the times of the two differ (after Reparaz, Balasch and Verbauwhede,
// "dude, is my code constant time?", 2017). Interrupts and neighbours make a long tail, so the test
// looks at the fastest shares of the times, cut at several quantiles of both together, and the
// largest |t| counts. A pair that fails is measured once more. The controls differ in time by their
// nature: one that is not seen fails the run, since then nothing else would be seen either.
// Exit code: 0 all is as it should be, 1 it is not, 2 the measurement could not be set up.
#include "registry_private.h"

#include "base/clock.h"
#include "base/id.h"
#include "store/vault.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#if defined __x86_64__
#include <x86intrin.h>
#endif

#define SAMPLES   1000000
#define WARM_UP   10000 // of them first and not counted: caches, predictors, the clock's frequency
#define CROPS     20
#define FEWEST    1000 // samples of either input, below which a share says nothing
#define T_LIMIT   4.5  // about one false alarm in 10^5 tests
#define INPUT_MAX 4096 // a page, so that both inputs of a pair lie alike in the caches

struct pair {
    const char *name;
    void (*prepare)(struct pair *pair); // fills `inputs` and `size`
    void (*vary)(unsigned char *input); // before each sample, if what is alike shall not be fixed
    bool (*accepts)(const unsigned char *input, size_t size); // what is timed
    bool expected[2];                                         // its answers
    bool is_control;
    bool is_public; // what it tells is no secret: shown, and no fault
    size_t size;
    unsigned char inputs[2][INPUT_MAX];
};

static unsigned char classes[SAMPLES];
static uint64_t times[SAMPLES], sorted[SAMPLES];

static unsigned char reference[INPUT_MAX]; // what a secret is compared with
static struct ch_secret *pepper;
static struct ch_registry *registry;
static char known_id[CH_WRAPPED_KEY_ID];
static struct ch_vault *vault;
static struct ch_vault_reader *reader;
static const struct ch_vault_binding binding = {
    .kind = {"provider", 8},
    .row_id = 7,
    .provider_type = {"openai", 6},
    .base_url = {"https://api.openai.com/v1", 25},
    .key_version = 1,
};

static void must(bool is_good, const char *what)
{
    if (!is_good) {
        fprintf(stderr, "check_timing: %s\n", what);
        exit(2);
    }
}

// ---- comparisons

static void differ_first_or_last(struct pair *pair, size_t size)
{
    pair->size = size;
    for (int i = 0; i < 2; i++)
        memcpy(pair->inputs[i], reference, size);
    pair->inputs[0][0] ^= 1;
    pair->inputs[1][size - 1] ^= 1;
}

static void prepare_page(struct pair *pair)
{
    differ_first_or_last(pair, INPUT_MAX);
}

static bool compare_plainly(const unsigned char *input, size_t size)
{
    return memcmp(input, reference, size) == 0;
}

static void prepare_digests(struct pair *pair)
{
    differ_first_or_last(pair, CH_WRAPPED_KEY_HASH);
}

static bool compare_digests(const unsigned char *input, size_t size)
{
    return ch_secret_equal(input, reference, size);
}

// ---- wrapped keys

static void start_registry(void)
{
    static struct ch_key_row row = {.id = 1, .name = "known", .attribution_id = 1};
    unsigned char bytes[CH_WRAPPED_KEY_PEPPER];
    ch_random(bytes, sizeof bytes);
    ch_random(row.salt, sizeof row.salt);
    ch_random(row.hash, sizeof row.hash); // no secret fits
    ch_base62_random(known_id, sizeof known_id);
    memcpy(row.public_id, known_id, sizeof known_id);
    must(ch_secret_new(bytes, sizeof bytes, &pepper) == CH_OK &&
             ch_registry_new(pepper, NULL, &registry) == CH_OK &&
             ch_registry_put_key(registry, &row) == CH_OK,
         "the registry could not be made");
}

enum {
    ID_AT = 3 + 4 + 4, // ch_team_sk_
    SECRET_AT = ID_AT + CH_WRAPPED_KEY_ID,
    CHECK_AT = SECRET_AT + CH_WRAPPED_KEY_SECRET,
    KEY_SIZE = CHECK_AT + CH_WRAPPED_KEY_CHECK,
};

// A xorshift generator (Marsaglia, 2003): the system's would cost more than what is timed.
static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

// Gives a key another secret, and the checksum that goes with it.
static void vary_secret(unsigned char *input)
{
    char *token = (char *)input;
    for (char *digit = token + SECRET_AT; digit < token + CHECK_AT; digit++)
        *digit = ch_base62_digits[next_random() % 62];
    ch_base62_encode(ch_crc32((struct ch_span){token, CHECK_AT}), token + CHECK_AT,
                     CH_WRAPPED_KEY_CHECK);
}

static void prepare_keys(struct pair *pair)
{
    pair->size = KEY_SIZE;
    for (int i = 0; i < 2; i++) {
        char *token = (char *)pair->inputs[i];
        must(ch_wrapped_key_mint(CH_SPAN("team"), token) == CH_OK, "no wrapped key could be made");
        if (i == 0)
            memcpy(token + ID_AT, known_id, sizeof known_id);
        vary_secret(pair->inputs[i]);
        struct ch_wrapped_key key;
        must(ch_wrapped_key_parse((struct ch_span){token, KEY_SIZE}, &key) == CH_OK,
             "a wrapped key is malformed");
        must(!registry_find(registry, key.id) == (i == 1), "the wrong id is known");
    }
}

// What the gate does with a key that its connection has not shown before.
static bool verify_key(const unsigned char *input, size_t size)
{
    struct ch_span token = {(const char *)input, size};
    struct ch_wrapped_key key;
    bool is_previous;
    return ch_wrapped_key_parse(token, &key) == CH_OK &&
           registry_verify(registry, key.id, token, &is_previous);
}

// ---- sealed credentials

#define TAG    32 // bytes at the end of a sealed value (store/vault.h)
#define BLOCK  16
#define SECRET 164 // bytes of a project key

static void start_vault(void)
{
    unsigned char bytes[CH_VAULT_MASTER_KEY];
    struct ch_secret *master_key;
    ch_random(bytes, sizeof bytes);
    must(ch_secret_new(bytes, sizeof bytes, &master_key) == CH_OK &&
             ch_vault_new(master_key, &vault) == CH_OK &&
             ch_vault_reader_new(vault, &reader) == CH_OK,
         "the vault could not be made");
    ch_secret_free(master_key);
}

static void seal_both(struct pair *pair)
{
    unsigned char secret[SECRET];
    struct ch_buf sealed;
    ch_random(secret, sizeof secret);
    ch_buf_init(&sealed, CH_VAULT_SEALED_MAX);
    must(ch_vault_seal(vault, &binding, (struct ch_span){(const char *)secret, sizeof secret},
                       &sealed) == CH_OK,
         "nothing could be sealed");
    pair->size = sealed.len;
    for (int i = 0; i < 2; i++)
        memcpy(pair->inputs[i], sealed.ptr, sealed.len);
    ch_buf_fini(&sealed);
}

static void prepare_tags(struct pair *pair)
{
    seal_both(pair);
    pair->inputs[0][pair->size - TAG] ^= 1;
    pair->inputs[1][pair->size - 1] ^= 1;
}

// A byte of the last block but one is added to the padding's last byte, which becomes 12 ^ 0x80.
static void prepare_padding(struct pair *pair)
{
    seal_both(pair);
    pair->inputs[1][pair->size - TAG - BLOCK - 1] ^= 0x80;
    ch_random(pair->inputs[0] + pair->size - TAG, TAG);
    memcpy(pair->inputs[1] + pair->size - TAG, pair->inputs[0] + pair->size - TAG, TAG);
}

static bool open_sealed(const unsigned char *input, size_t size)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    return ch_vault_open(reader, &binding, (struct ch_span){(const char *)input, size}, plain,
                         &size) == CH_OK;
}

static bool open_without_mac(const unsigned char *input, size_t size)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    return ch_vault_open_again(reader, (struct ch_span){(const char *)input, size}, plain, &size) ==
           CH_OK;
}

// ---- the test

// The fences keep what is timed between the two readings.
static uint64_t ticks(void)
{
#if defined __x86_64__
    _mm_lfence();
    uint64_t now = __rdtsc();
    _mm_lfence();
    return now;
#else
    return (uint64_t)ch_clock_mono_ns();
#endif
}

// Both inputs are read from the same place, so that where they come from is nothing to time.
static void take_samples(const struct pair *pair)
{
    static _Alignas(64) unsigned char input[INPUT_MAX];
    ch_random(classes, sizeof classes);
    for (size_t i = 0; i < SAMPLES; i++) {
        classes[i] &= 1;
        memcpy(input, pair->inputs[classes[i]], pair->size);
        if (pair->vary)
            pair->vary(input);
        uint64_t start = ticks();
        bool is_accepted = pair->accepts(input, pair->size);
        times[i] = ticks() - start;
        must(is_accepted == pair->expected[classes[i]], pair->name);
    }
}

static int compare_times(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

// Welch's t of the times up to `limit`; 0 when one of the inputs hardly ever is that fast: then it
// shows at a later limit.
static double welch(uint64_t limit)
{
    double count[2] = {0}, sum[2] = {0}, squares[2] = {0}, mean[2], error = 0;
    double origin = (double)sorted[0]; // taken off, or the squares would eat the digits
    for (size_t i = WARM_UP; i < SAMPLES; i++) {
        double time = (double)times[i] - origin;
        if (times[i] > limit)
            continue;
        count[classes[i]]++;
        sum[classes[i]] += time;
        squares[classes[i]] += time * time;
    }
    for (int i = 0; i < 2; i++) {
        if (count[i] < FEWEST)
            return 0;
        mean[i] = sum[i] / count[i];
        error += (squares[i] / count[i] - mean[i] * mean[i]) / (count[i] - 1);
    }
    double difference = mean[0] - mean[1];
    return error > 0 ? difference / sqrt(error) : difference != 0 ? INFINITY : 0;
}

// The t of the largest size among the fastest 29 % … 99.9 %.
static double measure(const struct pair *pair)
{
    const size_t count = SAMPLES - WARM_UP;
    double worst = 0;
    take_samples(pair);
    memcpy(sorted, times + WARM_UP, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_times);
    for (int i = 1; i <= CROPS; i++) {
        double share = 1 - pow(0.5, 10.0 * i / CROPS);
        double t = welch(sorted[(size_t)(share * (double)count)]);
        if (fabs(t) > fabs(worst))
            worst = t;
    }
    return worst;
}

static bool check(struct pair *pair)
{
    bool is_seen = false, is_good = false;
    pair->prepare(pair);
    for (int tries = 0; tries < 2 && !is_good; tries++) {
        double t = measure(pair);
        is_seen = fabs(t) >= T_LIMIT;
        is_good = is_seen == pair->is_control || pair->is_public;
        printf("%-58s %d samples  t = %+9.2f  %s\n", pair->name, SAMPLES - WARM_UP, t,
               is_good      ? pair->is_control ? "seen, as it must be"
                              : is_seen        ? "seen, and no secret"
                                               : "passed"
               : tries == 0 ? "measured again"
               : is_seen    ? "FAILED"
                            : "NOT SEEN");
        fflush(stdout);
    }
    return is_good;
}

static struct pair pairs[] = {
    {.name = "control: memcmp, first byte or last",
     .prepare = prepare_page,
     .accepts = compare_plainly,
     .is_control = true},
    {.name = "control: credential without its MAC, good padding or bad",
     .prepare = prepare_padding,
     .accepts = open_without_mac,
     .expected = {true, false},
     .is_control = true},
    {.name = "secret digest, first byte or last",
     .prepare = prepare_digests,
     .accepts = compare_digests},
    // A look-up that finds reads more than one that does not. What it tells is that an id exists,
    // of 71 random bits that stand in lists and logs.
    {.name = "wrapped key, wrong secret or unknown id",
     .is_public = true,
     .prepare = prepare_keys,
     .vary = vary_secret,
     .accepts = verify_key},
    {.name = "credential, first byte of the tag or last",
     .prepare = prepare_tags,
     .accepts = open_sealed},
    {.name = "credential with a wrong tag, good padding or bad",
     .prepare = prepare_padding,
     .accepts = open_sealed},
};

// One processor, since a change of it changes the times; where that is not allowed, it goes
// without.
static void stay_here(void)
{
    cpu_set_t here;
    int cpu = sched_getcpu();
    CPU_ZERO(&here);
    CPU_SET(cpu > 0 ? (size_t)cpu : 0, &here);
    if (sched_setaffinity(0, sizeof here, &here) != 0)
        fputs("check_timing: not bound to one processor; the times will be noisy\n", stderr);
}

int main(void)
{
    struct ch_why why = {""};
    bool is_good = true;
    must(ch_secret_process_init(&why) == CH_OK, why.text);
    stay_here();
    ch_random(reference, sizeof reference);
    start_registry();
    start_vault();
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        is_good &= check(&pairs[i]);
    ch_vault_reader_free(reader);
    ch_vault_free(vault);
    ch_registry_free(registry);
    ch_secret_free(pepper);
    return is_good ? 0 : 1;
}
