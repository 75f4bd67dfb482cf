// SPDX-License-Identifier: Apache-2.0
#include "app/init.h"

#include "app/config_file.h"
#include "store/store.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = P_tmpdir "/ch_init_XXXXXX";
static char dir[64]; // base/new
static struct ch_config config;
static struct ch_why why;

static const char *path_of(const char *name)
{
    static char path[sizeof dir + 256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static enum ch_err run(const char *listen)
{
    why.text[0] = '\0';
    return ch_init_run(&(struct ch_init_options){.dir = dir, .listen = listen}, &why);
}

static void assert_why(const char *part)
{
    if (!strstr(why.text, part))
        fail_msg("\"%s\" does not say \"%s\"", why.text, part);
}

static unsigned mode_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

static unsigned count_files(void)
{
    unsigned count = 0;
    DIR *open_dir = opendir(dir);
    assert_non_null(open_dir);
    for (struct dirent *entry; (entry = readdir(open_dir));)
        count += entry->d_name[0] != '.';
    closedir(open_dir);
    return count;
}

static void empty_dir(void)
{
    DIR *open_dir = opendir(dir);
    assert_non_null(open_dir);
    for (struct dirent *entry; (entry = readdir(open_dir));)
        if (entry->d_name[0] != '.')
            unlink(path_of(entry->d_name));
    closedir(open_dir);
    assert_int_equal(rmdir(dir), 0);
}

static void make_file(const char *name)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    fputs("mine", file);
    fclose(file);
}

static void an_installation_is_ready_to_serve(void **state)
{
    (void)state;
    struct ch_secret *key;
    struct ch_store *store;
    if (run("127.0.0.1:9999"))
        fail_msg("%s", why.text);
    assert_int_equal(mode_of(dir), 0700);
    assert_int_equal(mode_of(path_of("chaperone.yaml")), 0600);
    assert_int_equal(mode_of(path_of("master.key")), 0600);
    assert_int_equal(mode_of(path_of("chaperone.db")), 0600);
    assert_int_equal(ch_config_file_load(path_of("chaperone.yaml"), &config, &why), CH_OK);
    assert_string_equal(config.listeners[0].address, "127.0.0.1:9999");
    assert_string_equal(config.database, path_of("chaperone.db"));
    assert_string_equal(config.admin_socket, path_of("chaperone.sock"));
    assert_int_equal(ch_config_master_key(&config, &key, &why), CH_OK);
    assert_int_equal(ch_store_open(config.database, key, false, &store, &why), CH_OK);
    ch_store_close(store);
    ch_secret_free(key);
    empty_dir();
}

static void nothing_is_overwritten(void **state)
{
    (void)state;
    static const char *const names[] = {"chaperone.yaml", "master.key", "chaperone.db",
                                        "chaperone.journal"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[16] = "";
        assert_int_equal(mkdir(dir, 0755), 0);
        make_file(names[i]);
        assert_int_equal(run(NULL), CH_ERR_CONFLICT);
        assert_why(names[i]);
        assert_int_equal(count_files(), 1);
        FILE *file = fopen(path_of(names[i]), "r");
        assert_non_null(fgets(text, sizeof text, file));
        fclose(file);
        assert_string_equal(text, "mine");
        empty_dir();
    }
}

static void a_folder_that_is_there_is_used_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(mkdir(dir, 0755), 0);
    make_file("notes.txt");
    assert_int_equal(run(NULL), CH_OK);
    assert_int_equal(mode_of(dir), 0755);
    assert_int_equal(access(path_of("notes.txt"), F_OK), 0);
    empty_dir();
}

static void addresses_that_need_tls_are_refused(void **state)
{
    (void)state;
    static const char *const addresses[] = {
        "0.0.0.0:80",    "example.com:80", "x", "", "127.0.0.1:1\"}, {address: \"127.0.0.1:2",
        "127.0.0.1:80\n"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        assert_int_equal(run(addresses[i]), CH_ERR_INVALID);
        assert_why("--listen");
        assert_int_equal(access(dir, F_OK), -1);
    }
    assert_int_equal(run("unix:run.sock"), CH_OK);
    empty_dir();
}

// The database cannot be made where its lock file is a folder: all the rest is taken back.
static void a_failure_leaves_nothing_behind(void **state)
{
    (void)state;
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(mkdir(path_of("chaperone.db.lock"), 0700), 0);
    assert_int_not_equal(run(NULL), CH_OK);
    assert_int_equal(count_files(), 1);
    assert_int_equal(rmdir(path_of("chaperone.db.lock")), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void bad_folders_are_refused(void **state)
{
    (void)state;
    struct ch_init_options options = {.dir = "", .listen = NULL};
    assert_int_equal(ch_init_run(&options, &why), CH_ERR_INVALID);
    options.dir = path_of("deeper"); // its parent is missing
    assert_int_equal(ch_init_run(&options, &why), CH_ERR_IO);
    char long_dir[200];
    memset(long_dir, 'x', sizeof long_dir - 1);
    long_dir[0] = '/';
    long_dir[sizeof long_dir - 1] = '\0';
    options.dir = long_dir;
    assert_int_equal(ch_init_run(&options, &why), CH_ERR_INVALID);
    assert_why("socket");
}

static int set_up(void **state)
{
    (void)state;
    if (ch_secret_process_init(&why) || ch_store_process_init(&why) || !mkdtemp(base))
        return -1;
    snprintf(dir, sizeof dir, "%s/new", base);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_installation_is_ready_to_serve),
        cmocka_unit_test(nothing_is_overwritten),
        cmocka_unit_test(a_folder_that_is_there_is_used_as_it_is),
        cmocka_unit_test(addresses_that_need_tls_are_refused),
        cmocka_unit_test(a_failure_leaves_nothing_behind),
        cmocka_unit_test(bad_folders_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
