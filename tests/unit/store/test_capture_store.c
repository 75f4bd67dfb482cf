// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include "base/id.h"
#include "store/capture_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define DAY       INT64_C(86400000)
#define TODAY     (INT64_C(20000) * DAY) // 2024-10-04
#define TODAY_TXT "capture-2024-10-04.jsonl"

static struct ch_store *store;
static struct ch_why why;
static char folder[192];

static int start(void **state)
{
    int result = fixture_make_dir(state);
    store = result ? NULL : fixture_open("a.db");
    strcpy(folder, fixture_path("days"));
    return result;
}

static int stop(void **state)
{
    char command[256];
    ch_store_close(store);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) ? -1 : fixture_remove_dir(state);
}

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void make_line(int64_t id, const char *word, char out[128])
{
    char text[CH_REQUEST_ID_TEXT];
    ch_id_format(id, text);
    snprintf(out, 128, "{\"id\":\"%s\",\"word\":\"%s\"}", text, word);
}

static struct ch_capture_file *open_file(void)
{
    struct ch_capture_file *file = NULL;
    assert_int_equal(ch_capture_file_new(folder, &file), CH_OK);
    return file;
}

static void append(struct ch_capture_file *file, int64_t now_ms, int64_t id, const char *word)
{
    char line[128];
    make_line(id, word, line);
    assert_int_equal(ch_capture_file_append(file, now_ms, id, ch_span_of(line), &why), CH_OK);
}

static void assert_word(int64_t id, const char *word)
{
    json_t *event = NULL;
    enum ch_err err = ch_capture_read(folder, store, id, &event, &why);
    assert_int_equal(err, word ? CH_OK : CH_ERR_NOT_FOUND);
    if (word)
        assert_string_equal(json_string_value(json_object_get(event, "word")), word);
    json_decref(event);
}

static void nothing_is_made_before_the_first_event(void **state)
{
    (void)state;
    int64_t files = 7;
    struct ch_capture_file *file = open_file();
    assert_int_equal(ch_capture_file_commit(file, store, &why), CH_OK);
    assert_int_equal(ch_capture_file_expire(file, store, TODAY, DAY, &files, &why), CH_OK);
    assert_int_equal(files, 0);
    assert_int_not_equal(access(folder, F_OK), 0);
    assert_word(1, NULL);
    ch_capture_file_free(file);
}

static void events_are_found_by_their_id(void **state)
{
    (void)state;
    struct stat info;
    struct ch_capture_file *file = open_file();
    append(file, TODAY, 1, "one");
    append(file, TODAY + DAY - 1, 2, "two");
    append(file, TODAY + DAY, 3, "three"); // another day
    assert_word(1, NULL);                  // not before the commit
    assert_int_equal(ch_capture_file_commit(file, store, &why), CH_OK);
    assert_word(1, "one");
    assert_word(2, "two");
    assert_word(3, "three");
    assert_int_equal(stat(in_folder(TODAY_TXT), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(stat(in_folder("capture-2024-10-05.jsonl"), &info), 0);
    assert_int_equal(stat(folder, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
    ch_capture_file_free(file);
}

static void a_file_goes_on_behind_a_torn_line(void **state)
{
    (void)state;
    struct ch_capture_file *file = open_file();
    append(file, TODAY, 1, "one");
    assert_int_equal(ch_capture_file_commit(file, store, &why), CH_OK);
    ch_capture_file_free(file);
    int fd = open(in_folder(TODAY_TXT), O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "{\"id", 4), 4);
    close(fd);
    file = open_file();
    append(file, TODAY, 2, "two");
    assert_int_equal(ch_capture_file_commit(file, store, &why), CH_OK);
    assert_word(1, "one");
    assert_word(2, "two");
    ch_capture_file_free(file);
}

static void lines_that_are_none_are_refused(void **state)
{
    (void)state;
    struct ch_capture_file *file = open_file();
    assert_int_equal(ch_capture_file_append(file, TODAY, 1, CH_SPAN("a\nb"), &why), CH_ERR_INVALID);
    const struct ch_span huge = {"", CH_CAPTURE_LINE_MAX + 1};
    assert_int_equal(ch_capture_file_append(file, TODAY, 1, huge, &why), CH_ERR_LIMIT);
    assert_int_not_equal(access(folder, F_OK), 0);
    for (int i = 1; i <= CH_CAPTURE_BATCH; i++)
        append(file, TODAY, i, "x");
    assert_int_equal(ch_capture_file_append(file, TODAY, 99, CH_SPAN("{}"), &why), CH_ERR_LIMIT);
    assert_int_equal(ch_capture_file_commit(file, store, &why), CH_OK);
    append(file, TODAY, 99, "x");
    ch_capture_file_free(file);
}

static void old_days_go_whole(void **state)
{
    (void)state;
    int64_t files;
    struct ch_capture_file *file = open_file();
    append(file, TODAY, 1, "one");
    append(file, TODAY + DAY, 2, "two");
    assert_int_equal(ch_capture_file_commit(file, store, &why), CH_OK);
    int other = open(in_folder("capture-2024-10-04.jsonl.bak"), O_CREAT | O_WRONLY, 0600);
    close(other);
    // To the last moment of its retention a day stays.
    int64_t last = TODAY + DAY - 1 + 7 * DAY;
    assert_int_equal(ch_capture_file_expire(file, store, last, 7 * DAY, &files, &why), CH_OK);
    assert_int_equal(files, 0);
    assert_word(1, "one");
    assert_int_equal(ch_capture_file_expire(file, store, last + 1, 7 * DAY, &files, &why), CH_OK);
    assert_int_equal(files, 1);
    assert_word(1, NULL);
    assert_word(2, "two");
    assert_int_equal(access(in_folder("capture-2024-10-04.jsonl.bak"), F_OK), 0);
    // The open file may be what goes; the next event makes a new one.
    assert_int_equal(ch_capture_file_expire(file, store, last + DAY + 1, 7 * DAY, &files, &why),
                     CH_OK);
    assert_int_equal(files, 1);
    append(file, TODAY + DAY, 3, "three");
    assert_int_equal(ch_capture_file_commit(file, store, &why), CH_OK);
    assert_word(3, "three");
    ch_capture_file_free(file);
}

static void a_replaced_file_is_noticed(void **state)
{
    (void)state;
    json_t *event = NULL;
    struct ch_capture_file *file = open_file();
    append(file, TODAY, 1, "one");
    assert_int_equal(ch_capture_file_commit(file, store, &why), CH_OK);
    int fd = open(in_folder(TODAY_TXT), O_WRONLY);
    char line[128];
    make_line(2, "one", line); // of the same size
    assert_int_equal(write(fd, line, strlen(line)), (ssize_t)strlen(line));
    assert_int_equal(ch_capture_read(folder, store, 1, &event, &why), CH_ERR_CORRUPT);
    assert_int_equal(ftruncate(fd, 5), 0);
    close(fd);
    assert_int_equal(ch_capture_read(folder, store, 1, &event, &why), CH_ERR_CORRUPT);
    unlink(in_folder(TODAY_TXT));
    assert_word(1, NULL);
    ch_capture_file_free(file);
}

static void a_link_in_place_of_a_day_is_not_followed(void **state)
{
    (void)state;
    struct ch_capture_file *file = open_file();
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(symlink("../truth", in_folder(TODAY_TXT)), 0);
    assert_int_equal(ch_capture_file_append(file, TODAY, 1, CH_SPAN("{}"), &why), CH_ERR_IO);
    assert_int_not_equal(access(fixture_path("truth"), F_OK), 0);
    ch_capture_file_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_made_before_the_first_event, start, stop),
        cmocka_unit_test_setup_teardown(events_are_found_by_their_id, start, stop),
        cmocka_unit_test_setup_teardown(a_file_goes_on_behind_a_torn_line, start, stop),
        cmocka_unit_test_setup_teardown(lines_that_are_none_are_refused, start, stop),
        cmocka_unit_test_setup_teardown(old_days_go_whole, start, stop),
        cmocka_unit_test_setup_teardown(a_replaced_file_is_noticed, start, stop),
        cmocka_unit_test_setup_teardown(a_link_in_place_of_a_day_is_not_followed, start, stop),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
