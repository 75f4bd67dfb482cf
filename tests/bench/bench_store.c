// SPDX-License-Identifier: Apache-2.0
// What the store costs: bench_store [SECONDS [KEYS [DIR]]] prints one line per measure.
//
//   vault_open_ns       one credential opened
//   journal_settle_ns   a claim and a settlement, on the loop's side
//   usage_rows_per_s    journal to committed SQLite rows, sustained, one loop filling the journal
//   as fast as it empties writer_cpu_us       CPU time of the whole process less the producer's,
//   per row key_each_ms         all keys read back (KEYS of them)
#include "base/clock.h"
#include "base/id.h"
#include "domain/route.h"
#include "store/key_store.h"
#include "store/usage_writer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define RING_BYTES  (16u << 20)
#define SLOTS       16384u

#define START_MS    INT64_C(1790000000000) // in September 2026
#define ROWS_PER_MS 50

static struct ch_why why;

static void must(enum ch_err err)
{
    if (err) {
        fprintf(stderr, "bench_store: %s: %s\n", ch_err_name(err), why.text);
        exit(1);
    }
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct ch_store *open_store(const char *dir)
{
    static const unsigned char key[CH_VAULT_MASTER_KEY] = {1};
    char path[512];
    struct ch_secret *master_key;
    struct ch_store *store;
    snprintf(path, sizeof path, "%s/bench.db", dir);
    must(ch_secret_new(key, sizeof key, &master_key));
    must(ch_store_open(path, master_key, true, &store, &why));
    ch_secret_free(master_key);
    return store;
}

static void bench_vault(struct ch_store *store)
{
    enum { ROUNDS = 200000 };
    struct ch_vault_binding binding = {
        .kind = CH_SPAN("provider"),
        .row_id = 7,
        .provider_type = CH_SPAN("openai"),
        .base_url = CH_SPAN("https://api.openai.com/v1"),
        .key_version = 1,
    };
    struct ch_vault_reader *reader;
    struct ch_buf sealed;
    unsigned char plain[CH_VAULT_PLAIN_MAX], secret[164];
    size_t size;
    memset(secret, 'k', sizeof secret); // the length of a project key
    ch_buf_init(&sealed, CH_VAULT_SEALED_MAX);
    must(ch_vault_seal(ch_store_vault(store), &binding,
                       (struct ch_span){(const char *)secret, sizeof secret}, &sealed));
    must(ch_vault_reader_new(ch_store_vault(store), &reader));
    int64_t start = ch_clock_mono_ns();
    for (int i = 0; i < ROUNDS; i++)
        must(ch_vault_open(reader, &binding, ch_buf_span(&sealed), plain, &size));
    printf("vault_open_ns\t%lld\n", (long long)((ch_clock_mono_ns() - start) / ROUNDS));
    ch_vault_reader_free(reader);
    ch_buf_fini(&sealed);
}

static struct ch_usage_record make_record(int64_t number, int64_t keys)
{
    static const char *const models[] = {"gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06",
                                         "claude-sonnet-4-5-20250929", "gemini-2.5-flash",
                                         "text-embedding-3-small"};
    struct ch_span model = ch_span_of(models[number % 5]);
    int64_t started_at_ms = START_MS + number / ROWS_PER_MS;
    return (struct ch_usage_record){
        .id = ch_id_floor(started_at_ms) + number % ROWS_PER_MS,
        .started_at_ms = started_at_ms,
        .key_id = number * 7919 % keys + 1,
        .attribution_id = number % 50 + 1,
        .provider_id = number % 3 + 1,
        .endpoint = CH_ENDPOINT_CHAT_COMPLETIONS,
        .end_reason = CH_END_DONE,
        .is_stream = number % 2,
        .is_priced = true,
        .status = 200,
        .usage = {.tokens = {812, 1024, 0, 0, 0, 0, 345, 128}, .stated_cost_nano = -1},
        .cost_nano_usd = 5615000 + number % 1000,
        .latency_us = 1834000 + number % 9999,
        .first_byte_us = 412000,
        .added_us = 87,
        .request_bytes = 3012,
        .response_bytes = 9120,
        .model_asked = model,
        .model_sent = model,
        .model_served = model,
        .upstream_id = CH_SPAN("chatcmpl-BxT9qGk2Zr4mWcYhVnLpQsUeXoAd3"),
        .user_agent = CH_SPAN("OpenAI/Python 1.99.1"),
        .catalogue = CH_SPAN("2026-08-01-3f2a91c0"),
    };
}

static bool produce(struct ch_usage_journal *journal, int64_t number, int64_t keys)
{
    struct ch_usage_record record = make_record(number, keys);
    struct ch_inflight inflight = {
        .id = record.id,
        .started_at_ms = record.started_at_ms,
        .key_id = record.key_id,
        .attribution_id = record.attribution_id,
        .provider_id = record.provider_id,
        .model_asked = record.model_asked,
        .model_sent = record.model_sent,
    };
    uint32_t slot;
    if (ch_usage_journal_claim(journal, 0, &inflight, &slot))
        return false;
    ch_usage_journal_settle(journal, 0, slot, &record);
    return true;
}

static void bench_journal(const char *dir)
{
    enum { ROUNDS = 2000000 };
    char path[512];
    struct ch_usage_journal *journal;
    struct ch_usage_record record;
    snprintf(path, sizeof path, "%s/bench-alone.journal", dir);
    must(ch_usage_journal_open(path, 1, RING_BYTES, SLOTS, &journal, &why));
    int64_t spent = 0;
    for (int64_t i = 0; i < ROUNDS;) {
        int64_t start = ch_clock_mono_ns();
        for (int n = 0; n < 1000; n++, i++)
            if (!produce(journal, i, 1000))
                must(CH_ERR_UNAVAILABLE);
        spent += ch_clock_mono_ns() - start;
        while (!ch_usage_journal_peek(journal, 0, &record))
            continue;
        ch_usage_journal_advance(journal, 0);
    }
    printf("journal_settle_ns\t%lld\n", (long long)(spent / ROUNDS));
    ch_usage_journal_close(journal);
}

struct producer {
    struct ch_usage_journal *journal;
    int64_t keys, produced;
    double cpu_seconds;
    atomic_bool stop;
};

static void *produce_all(void *arg)
{
    struct producer *producer = arg;
    while (!atomic_load_explicit(&producer->stop, memory_order_relaxed))
        if (produce(producer->journal, producer->produced, producer->keys))
            producer->produced++;
        else
            usleep(1000);
    producer->cpu_seconds = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

// Goes on behind an earlier run.
static int64_t first_number(struct ch_store *store)
{
    int64_t highest, origin = ch_id_floor(START_MS),
                     ids_per_ms = ch_id_floor(START_MS + 1) - origin;
    must(ch_usage_highest_id(store, &highest, &why));
    return highest ? ((highest - origin) / ids_per_ms + 1) * ROWS_PER_MS : 0;
}

static void bench_writer(struct ch_store *store, const char *dir, int seconds, int64_t keys)
{
    char path[512];
    struct producer producer = {.keys = keys};
    pthread_t thread;
    snprintf(path, sizeof path, "%s/bench.journal", dir);
    must(ch_usage_journal_open(path, 1, RING_BYTES, SLOTS, &producer.journal, &why));
    must(ch_usage_writer_recover(store, producer.journal, &why));
    int64_t first = first_number(store);
    producer.produced = first;
    must(ch_usage_writer_start(store, producer.journal, &why));
    double start = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    if (pthread_create(&thread, NULL, produce_all, &producer))
        must(CH_ERR_NOMEM);
    sleep((unsigned)seconds);
    atomic_store(&producer.stop, true);
    pthread_join(thread, NULL);
    ch_usage_writer_stop(store); // drains: every row counted is committed
    double rows = (double)(producer.produced - first);
    double elapsed = seconds_of(CLOCK_MONOTONIC) - start;
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu - producer.cpu_seconds;
    printf("usage_rows_per_s\t%.0f\n", rows / elapsed);
    printf("writer_cpu_us\t%.2f\n", cpu * 1e6 / rows);
    ch_usage_journal_close(producer.journal);
}

struct key_bench {
    struct ch_store *store;
    int64_t count, seen;
};

static enum ch_err create_keys(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct key_bench *bench = arg;
    char token[CH_WRAPPED_KEY_MAX + 1];
    struct ch_provider_row provider = {.type = CH_PROVIDER_OPENAI, .enabled = true};
    strcpy(provider.name, "openai");
    strcpy(provider.base_url, "https://api.openai.com/v1");
    enum ch_err err = ch_provider_create(db, ch_store_vault(bench->store), &provider,
                                         CH_SPAN("sk-0123456789abcdefghij"), reason);
    for (int64_t i = 0; !err && i < bench->count; i++) {
        struct ch_key_row key = {.provider_count = 1};
        snprintf(key.name, sizeof key.name, "key-%lld", (long long)i);
        snprintf(key.team, sizeof key.team, "team-%lld", (long long)(i % 50));
        strcpy(key.provider_names[0], "openai");
        err = ch_key_create(db, ch_store_pepper(bench->store), &key, token, reason);
    }
    return err;
}

static enum ch_err count_key(void *arg, const struct ch_key_row *row)
{
    (void)row;
    ++*(int64_t *)arg;
    return CH_OK;
}

static enum ch_err read_keys(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct key_bench *bench = arg;
    return ch_key_each(db, count_key, &bench->seen, reason);
}

static void bench_keys(struct ch_store *store, int64_t count)
{
    struct key_bench bench = {.store = store, .count = count};
    if (ch_store_write(store, create_keys, &bench, &why) == CH_ERR_CONFLICT)
        fprintf(stderr, "bench_store: keys of an earlier run are used\n");
    int64_t start = ch_clock_mono_ns();
    must(ch_store_read(store, read_keys, &bench, &why));
    printf("key_each_ms\t%.1f\t(%lld keys)\n", (double)(ch_clock_mono_ns() - start) / 1e6,
           (long long)bench.seen);
}

int main(int argc, char **argv)
{
    int seconds = argc > 1 ? atoi(argv[1]) : 10;
    int64_t keys = argc > 2 ? atoll(argv[2]) : 1000;
    const char *dir = argc > 3 ? argv[3] : ".";
    must(ch_secret_process_init(&why));
    must(ch_store_process_init(&why));
    struct ch_store *store = open_store(dir);
    bench_vault(store);
    bench_journal(dir);
    bench_keys(store, keys);
    bench_writer(store, dir, seconds, keys);
    ch_store_close(store);
    return 0;
}
