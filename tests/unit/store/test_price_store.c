// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include "store/price_store.h"

static struct ch_why why;

struct document {
    const char *version, *text;
};

static enum ch_err put_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct document *document = arg;
    return ch_price_store_put(db, document->version, ch_span_of(document->text), reason);
}

static enum ch_err newest_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_price_store_newest(db, arg, reason);
}

static void put(struct ch_store *store, const char *version, const char *text)
{
    struct document document = {version, text};
    assert_int_equal(ch_store_write(store, put_in, &document, &why), CH_OK);
}

static void assert_newest(struct ch_store *store, const char *text)
{
    struct ch_buf buf;
    ch_buf_init(&buf, 1 << 20);
    assert_int_equal(ch_store_read(store, newest_in, &buf, &why), CH_OK);
    assert_true(ch_span_eq(ch_buf_span(&buf), ch_span_of(text)));
    ch_buf_fini(&buf);
}

static void gives_the_newest_document(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db");
    struct ch_buf buf;
    ch_buf_init(&buf, 4);
    assert_int_equal(ch_store_read(store, newest_in, &buf, &why), CH_ERR_NOT_FOUND);
    put(store, "2026-01", "{\"january\":1}");
    put(store, "2026-02", "{\"february\":2}");
    assert_newest(store, "{\"february\":2}");
    put(store, "2026-01", "{\"january\":3}"); // imported again: in force again
    assert_newest(store, "{\"january\":3}");
    assert_int_equal(ch_store_read(store, newest_in, &buf, &why), CH_ERR_LIMIT);
    ch_buf_fini(&buf);
    ch_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gives_the_newest_document, fixture_make_dir,
                                        fixture_remove_dir),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
