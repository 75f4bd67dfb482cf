// SPDX-License-Identifier: Apache-2.0
// Forms, from tests/table/multipart.tsv, each whole and in pieces of every size up to 40 bytes.
#include "wire/multipart.h"

#include "base/clock.h"

#include "../sanitizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const char *const wanted[] = {"model", "stream", "n", "size"};
#define WANTED (sizeof wanted / sizeof *wanted)

static const char *const error_names[CH_MULTIPART_ERRORS] = {
    [CH_MULTIPART_OK] = "ok",
    [CH_MULTIPART_NOT_A_FORM] = "not_a_form",
    [CH_MULTIPART_BAD_BOUNDARY] = "bad_boundary",
    [CH_MULTIPART_TWO_BOUNDARIES] = "two_boundaries",
    [CH_MULTIPART_BAD_PARAMETER] = "bad_parameter",
    [CH_MULTIPART_LONG_PREAMBLE] = "long_preamble",
    [CH_MULTIPART_BAD_LINE_END] = "bad_line_end",
    [CH_MULTIPART_BAD_DELIMITER] = "bad_delimiter",
    [CH_MULTIPART_TOO_MANY_PARTS] = "too_many_parts",
    [CH_MULTIPART_LONG_HEAD] = "long_head",
    [CH_MULTIPART_MANY_FIELDS] = "many_fields",
    [CH_MULTIPART_BAD_FIELD] = "bad_field",
    [CH_MULTIPART_BAD_DISPOSITION] = "bad_disposition",
    [CH_MULTIPART_BAD_NAME] = "bad_name",
    [CH_MULTIPART_NESTED] = "nested",
    [CH_MULTIPART_BAD_ENCODING] = "bad_encoding",
    [CH_MULTIPART_BAD_LENGTH] = "bad_length",
    [CH_MULTIPART_AMBIGUOUS_NAME] = "ambiguous_name",
    [CH_MULTIPART_DUPLICATE] = "duplicate",
    [CH_MULTIPART_NOT_PLAIN] = "not_plain",
    [CH_MULTIPART_LONG_VALUE] = "long_value",
    [CH_MULTIPART_TRAILING] = "trailing",
    [CH_MULTIPART_INCOMPLETE] = "incomplete",
};

// ---- the table's notation

static void expand(struct ch_span text, struct ch_buf *out);

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

static size_t expand_escape(struct ch_span text, struct ch_buf *out)
{
    char c = text.ptr[1];
    size_t used = 2;
    if (c == 'x') {
        c = (char)(hex_digit(text.ptr[2]) << 4 | hex_digit(text.ptr[3]));
        used = 4;
    } else {
        c = c == 'r' ? '\r' : c == 'n' ? '\n' : c == 't' ? '\t' : c;
    }
    assert_int_equal(ch_buf_append(out, &c, 1), CH_OK);
    return used;
}

// "@REP(X,N)@": the last comma divides, since X may hold others.
static void expand_repeat(struct ch_span inside, struct ch_buf *out)
{
    const char *comma = memrchr(inside.ptr, ',', inside.len);
    int64_t count;
    assert_non_null(comma);
    struct ch_span what = {inside.ptr, (size_t)(comma - inside.ptr)};
    assert_int_equal(ch_span_to_int64(ch_span_sub(inside, what.len + 1), &count), CH_OK);
    while (count-- > 0)
        expand(what, out);
}

static size_t expand_macro(struct ch_span text, struct ch_buf *out)
{
    if (ch_span_starts(text, CH_SPAN("@E@"))) {
        expand(CH_SPAN("\\r\\n--Xb7--\\r\\n"), out);
        return 3;
    }
    const char *close = memmem(text.ptr, text.len, ")@", 2);
    assert_non_null(close);
    const char *open = memchr(text.ptr, '(', text.len);
    struct ch_span inside = {open + 1, (size_t)(close - open - 1)};
    if (ch_span_starts(text, CH_SPAN("@REP("))) {
        expand_repeat(inside, out);
    } else {
        assert_true(ch_span_starts(text, CH_SPAN("@F(")));
        assert_int_equal(ch_buf_append_format(
                             out, "--Xb7\r\nContent-Disposition: form-data; name=\"%.*s\"\r\n\r\n",
                             CH_SPAN_ARG(inside)),
                         CH_OK);
    }
    return (size_t)(close + 2 - text.ptr);
}

static void expand(struct ch_span text, struct ch_buf *out)
{
    while (text.len) {
        size_t used = 1;
        if (text.ptr[0] == '\\')
            used = expand_escape(text, out);
        else if (text.ptr[0] == '@')
            used = expand_macro(text, out);
        else
            assert_int_equal(ch_buf_append(out, text.ptr, 1), CH_OK);
        text = ch_span_sub(text, used);
    }
}

// ---- a run of the parser, told as text

struct run {
    struct ch_span body;
    struct ch_buf story; // "model=gpt-4o n=2"
};

static void on_value(void *arg, const struct ch_multipart_value *value)
{
    struct run *run = arg;
    assert_true(value->field < WANTED);
    assert_true(value->end <= run->body.len && value->at <= value->end);
    struct ch_span in_body = {run->body.ptr + value->at, (size_t)(value->end - value->at)};
    assert_true(ch_span_eq(in_body, value->text));
    if (run->story.len)
        assert_int_equal(ch_buf_append(&run->story, " ", 1), CH_OK);
    assert_int_equal(ch_buf_append_format(&run->story, "%s=", wanted[value->field]), CH_OK);
    assert_int_equal(ch_buf_append_span(&run->story, value->text), CH_OK);
}

static enum ch_multipart_error parse(struct run *run, struct ch_span boundary, size_t size)
{
    static struct ch_multipart form;
    memset(&form, 0xA5, sizeof form);
    ch_multipart_init(&form, boundary, wanted, WANTED, on_value, run);
    ch_buf_clear(&run->story);
    enum ch_multipart_error error = CH_MULTIPART_OK;
    for (size_t at = 0; at < run->body.len && !error; at += size) {
        size_t len = run->body.len - at < size ? run->body.len - at : size;
        char *piece = malloc(len); // of its own, so that a read past it is found
        assert_non_null(piece);
        memcpy(piece, run->body.ptr + at, len);
        error = ch_multipart_feed(&form, (struct ch_span){piece, len});
        free(piece);
    }
    if (!error)
        assert_int_equal(form.offset, run->body.len);
    error = ch_multipart_finish(&form);
    assert_int_equal(ch_multipart_finish(&form), error);
    if (error)
        assert_int_equal(ch_multipart_feed(&form, CH_SPAN("x")), error);
    if (form.file_bytes)
        assert_int_equal(ch_buf_append_format(&run->story, "%sfile_bytes=%llu",
                                              run->story.len ? " " : "",
                                              (unsigned long long)form.file_bytes),
                         CH_OK);
    return error;
}

static void check(const char *name, struct run *run, struct ch_span boundary, size_t size,
                  const char *verdict, struct ch_span facts)
{
    enum ch_multipart_error error = parse(run, boundary, size);
    if (strcmp(error_names[error], verdict) != 0)
        fail_msg("%s, pieces of %zu: %s, expected %s", name, size, error_names[error], verdict);
    if (!ch_span_eq(ch_buf_span(&run->story), facts))
        fail_msg("%s, pieces of %zu: '%.*s', expected '%.*s'", name, size, (int)run->story.len,
                 run->story.ptr, CH_SPAN_ARG(facts));
}

static void check_row(char *line)
{
    static const char plain_type[] = "multipart/form-data; boundary=Xb7";
    const char *columns[5] = {"", "", "", "", ""};
    int count = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *at = line; at && count < 5;) // a column may be empty
        columns[count++] = strsep(&at, "\t");
    assert_true(count >= 4);
    struct ch_buf type, body, facts;
    struct run run = {0};
    struct ch_span boundary = {0};
    ch_buf_init(&type, 4096);
    ch_buf_init(&body, 1 << 20);
    ch_buf_init(&facts, 1 << 16);
    ch_buf_init(&run.story, 1 << 16);
    expand(ch_span_of(strcmp(columns[1], "-") == 0 ? plain_type : columns[1]), &type);
    expand(ch_span_of(columns[2]), &body);
    expand(ch_span_of(columns[4]), &facts);
    run.body = ch_buf_span(&body);
    enum ch_multipart_error error = ch_multipart_boundary(ch_buf_span(&type), &boundary);
    if (error) {
        assert_int_equal(boundary.len, 0);
        if (strcmp(error_names[error], columns[3]) != 0)
            fail_msg("%s: %s, expected %s", columns[0], error_names[error], columns[3]);
    } else {
        size_t whole = run.body.len ? run.body.len : 1;
        check(columns[0], &run, boundary, whole, columns[3], ch_buf_span(&facts));
        for (size_t size = 1; size <= 40 && size < whole && whole < 20000; size++)
            check(columns[0], &run, boundary, size, columns[3], ch_buf_span(&facts));
        check(columns[0], &run, boundary, 1000, columns[3], ch_buf_span(&facts));
    }
    ch_buf_fini(&type);
    ch_buf_fini(&body);
    ch_buf_fini(&facts);
    ch_buf_fini(&run.story);
}

static void table_holds(void **state)
{
    (void)state;
    static char line[8192];
    int rows = 0;
    FILE *file = fopen(CH_TABLE_DIR "/multipart.tsv", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        check_row(line);
        rows++;
    }
    fclose(file);
    assert_true(rows >= 150);
}

// Two cuts at every pair of places of a form that has everything in it.
static void any_two_cuts_change_nothing(void **state)
{
    (void)state;
    struct run run = {0};
    struct ch_buf body;
    ch_buf_init(&body, 4096);
    ch_buf_init(&run.story, 4096);
    expand(CH_SPAN("@F(stream)@true\\r\\n--Xb7\\r\\nContent-Disposition: form-data; name=\"file\"; "
                   "filename=\"a\"\\r\\n\\r\\n\\r\\n--Xb\\r\\n--\\r\\r\\n--X-\\r\\n@F(model)@"
                   "\\r\\n-gpt\\r\\n--Xb8@E@"),
           &body);
    run.body = ch_buf_span(&body);
    for (size_t first = 0; first <= run.body.len; first += CH_TSAN_SHARE) {
        for (size_t second = first; second <= run.body.len; second++) {
            struct ch_multipart form;
            ch_multipart_init(&form, CH_SPAN("Xb7"), wanted, WANTED, on_value, &run);
            ch_buf_clear(&run.story);
            (void)ch_multipart_feed(&form, (struct ch_span){run.body.ptr, first});
            (void)ch_multipart_feed(&form, (struct ch_span){run.body.ptr + first, second - first});
            (void)ch_multipart_feed(&form, ch_span_sub(run.body, second));
            assert_int_equal(ch_multipart_finish(&form), CH_MULTIPART_OK);
            assert_int_equal(form.file_bytes, 17);
            assert_true(ch_span_eq(ch_buf_span(&run.story),
                                   CH_SPAN("stream=true model=\r\n-gpt\r\n--Xb8")));
        }
    }
    ch_buf_fini(&body);
    ch_buf_fini(&run.story);
}

// Random boundaries of few letters over random data of the same ones: every border of the search.
static void delimiters_are_found_among_their_likes(void **state)
{
    (void)state;
    static const char letters[] = "--\r\nab";
    uint64_t seed = 1;
    for (int round = 0; round < 4000 / CH_TSAN_SHARE; round++) {
        char boundary[8], data[60];
        struct run run = {0};
        struct ch_buf body;
        ch_buf_init(&body, 4096);
        ch_buf_init(&run.story, 4096);
        for (size_t i = 0; i < sizeof boundary + sizeof data; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            if (i < sizeof boundary)
                boundary[i] = "-ab"[(seed >> 33) % 3];
            else
                data[i - sizeof boundary] = letters[(seed >> 33) % 6];
        }
        size_t boundary_len = (size_t)round % sizeof boundary + 1;
        struct ch_span mark = {boundary, boundary_len};
        assert_int_equal(ch_buf_append_format(
                             &body,
                             "--%.*s\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n%.*s",
                             CH_SPAN_ARG(mark), (int)sizeof data, data),
                         CH_OK);
        size_t data_end = body.len;
        assert_int_equal(ch_buf_append_format(&body, "\r\n--%.*s--", CH_SPAN_ARG(mark)), CH_OK);
        run.body = ch_buf_span(&body);
        // What a reader without cleverness sees: the first place of dashes and boundary in the
        // data.
        char needle[16];
        int needle_len = snprintf(needle, sizeof needle, "--%.*s", CH_SPAN_ARG(mark));
        const char *data_at = body.ptr + data_end - sizeof data;
        const char *first =
            memmem(data_at, body.len - (data_end - sizeof data), needle, (size_t)needle_len);
        bool is_clean = first == body.ptr + data_end + 2;
        enum ch_multipart_error error = parse(&run, mark, (size_t)round % 7 + 1);
        if (is_clean)
            assert_int_equal(error, CH_MULTIPART_OK);
        assert_true(!is_clean || run.story.len == strlen("model=") + sizeof data);
        for (size_t size = 1; size < 12; size++)
            assert_int_equal(parse(&run, mark, size), error);
        ch_buf_fini(&body);
        ch_buf_fini(&run.story);
    }
}

static void every_error_has_a_sentence(void **state)
{
    (void)state;
    for (int i = 0; i < CH_MULTIPART_ERRORS; i++) {
        const char *text = ch_multipart_error_text((enum ch_multipart_error)i);
        assert_non_null(text);
        assert_int_equal(text[strlen(text) - 1], '.');
    }
}

static void tells_a_form_by_its_type(void **state)
{
    (void)state;
    assert_true(ch_multipart_is_form(CH_SPAN("multipart/form-data; boundary=x")));
    assert_true(ch_multipart_is_form(CH_SPAN("Multipart/Form-Data")));
    assert_false(ch_multipart_is_form(CH_SPAN("multipart/form-dat")));
    assert_false(ch_multipart_is_form(CH_SPAN("multipart/form-datax")));
    assert_false(ch_multipart_is_form(CH_SPAN("application/json")));
    assert_false(ch_multipart_is_form((struct ch_span){0}));
}

static void ignore_value(void *arg, const struct ch_multipart_value *value)
{
    (void)arg;
    (void)value;
}

static int64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// Feeds `size` bytes that keep the search busy: nothing but dashes under a boundary of dashes and a
// letter. Gives the CPU time.
static int64_t time_of_dashes(const char *dashes, size_t size, size_t piece)
{
    static struct ch_multipart form;
    char head[200], boundary[CH_MULTIPART_BOUNDARY_MAX];
    memset(boundary, '-', sizeof boundary);
    boundary[sizeof boundary - 1] = 'x';
    struct ch_span mark = {boundary, sizeof boundary};
    ch_multipart_init(&form, mark, wanted, WANTED, ignore_value, NULL);
    int len =
        snprintf(head, sizeof head, "--%.*s\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n",
                 CH_SPAN_ARG(mark));
    assert_int_equal(ch_multipart_feed(&form, (struct ch_span){head, (size_t)len}),
                     CH_MULTIPART_OK);
    int64_t start = cpu_ns();
    for (size_t at = 0; at < size; at += piece)
        assert_int_equal(ch_multipart_feed(&form, (struct ch_span){dashes + at, piece}),
                         CH_MULTIPART_OK);
    return cpu_ns() - start;
}

// Eight times the bytes cost about eight times as much: were it quadratic, it would be sixty-four
// times.
static void hostile_files_take_linear_time(void **state)
{
    enum { SIZE = 8 << 20, PIECE = 16384 };
    (void)state;
    char *dashes = malloc(SIZE);
    assert_non_null(dashes);
    memset(dashes, '-', SIZE);
    int64_t part = time_of_dashes(dashes, SIZE / 8, PIECE);
    int64_t whole = time_of_dashes(dashes, SIZE, PIECE);
    print_message("8 MiB of dashes: %d ms, 1 MiB: %d ms\n", (int)(whole / CH_NS_PER_MS),
                  (int)(part / CH_NS_PER_MS));
    assert_true(whole < 24 * part);
    free(dashes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_holds),
        cmocka_unit_test(any_two_cuts_change_nothing),
        cmocka_unit_test(delimiters_are_found_among_their_likes),
        cmocka_unit_test(every_error_has_a_sentence),
        cmocka_unit_test(tells_a_form_by_its_type),
        cmocka_unit_test(hostile_files_take_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
