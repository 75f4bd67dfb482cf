// SPDX-License-Identifier: Apache-2.0
// The little HTTP that the benchmark clients need: one blocking connection, one chat request, one
// answer. Single-threaded; any failure ends the program with a sentence.
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_REQUEST_MAX 4096 // bytes of one request, head and body

_Noreturn void bench_fail(const char *what); // with errno in words
int64_t bench_number(const char *text, int64_t least, int64_t most);
int64_t bench_now_ns(void); // CLOCK_MONOTONIC: the same for every process of the machine

// Connects to 127.0.0.1:`port`, without Nagle.
int bench_connect(uint16_t port);
// Writes all of it.
void bench_send(int fd, const char *bytes, size_t size);
// A chat request for `token` into `out`; `directives` is the sandbox's x-sandbox field. Returns its
// size.
size_t bench_request(const char *token, bool is_stream, const char *directives,
                     char out[BENCH_REQUEST_MAX]);
// Sorts; p50 is bench_percentile(values, count, 50).
void bench_sort(int64_t *values, size_t count);
int64_t bench_percentile(const int64_t *sorted, size_t count, unsigned percent);

#endif
