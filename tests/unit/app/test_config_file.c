// SPDX-License-Identifier: Apache-2.0
#include "app/config_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static char dir[] = P_tmpdir "/ch_config_file_XXXXXX";
static struct ch_config config;
static struct ch_why why;

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void make_file(const char *name, const char *text, mode_t mode)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path_of(name), mode), 0);
}

static void assert_why(const char *part)
{
    if (!strstr(why.text, part))
        fail_msg("\"%s\" does not say \"%s\"", why.text, part);
}

static void the_named_file_is_taken(void **state)
{
    (void)state;
    char path[CH_CONFIG_PATH];
    bool is_named = false;
    setenv("CHAPERONE_CONFIG", "/env.yaml", 1);
    assert_int_equal(ch_config_file_find("/option.yaml", path, &is_named, &why), CH_OK);
    assert_string_equal(path, "/option.yaml");
    assert_true(is_named);
    assert_int_equal(ch_config_file_find(NULL, path, &is_named, &why), CH_OK);
    assert_string_equal(path, "/env.yaml");
    assert_true(is_named);
    unsetenv("CHAPERONE_CONFIG");
    char long_path[CH_CONFIG_PATH + 1];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(ch_config_file_find(long_path, path, &is_named, &why), CH_ERR_INVALID);
}

static void a_file_in_this_folder_is_found(void **state)
{
    (void)state;
    char path[CH_CONFIG_PATH], before[4096];
    bool is_named = true;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(dir), 0);
    if (access("/etc/chaperone/chaperone.yaml", F_OK) != 0) {
        assert_int_equal(ch_config_file_find(NULL, path, &is_named, &why), CH_ERR_NOT_FOUND);
        assert_why("./chaperone.yaml");
        assert_why("/etc/chaperone/chaperone.yaml");
        assert_why("CHAPERONE_CONFIG");
    }
    make_file("chaperone.yaml", "threads: 3\n", 0644);
    assert_int_equal(ch_config_file_find(NULL, path, &is_named, &why), CH_OK);
    assert_string_equal(path, "chaperone.yaml");
    assert_false(is_named);
    assert_int_equal(ch_config_file_load_found(path, &config, &why), CH_OK);
    assert_int_equal(config.threads, 3);
    assert_string_equal(config.database, "chaperone.db");
    unlink(path_of("chaperone.yaml"));
    assert_int_equal(chdir(before), 0);
}

static void expect_not_taken(const char *reason)
{
    assert_int_equal(ch_config_file_load_found(path_of("c.yaml"), &config, &why), CH_ERR_DENIED);
    assert_why(reason);
    assert_why("--config");
}

// Whoever can write the file, or its folder, says where the provider keys go.
static void a_found_file_is_this_users(void **state)
{
    (void)state;
    static const mode_t wide[] = {0664, 0646, 0620, 0602};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        make_file("c.yaml", "threads: 3\n", wide[i]);
        expect_not_taken("other users can write it");
        assert_int_equal(ch_config_file_load(path_of("c.yaml"), &config, &why), CH_OK);
    }
    assert_int_equal(chmod(path_of("c.yaml"), 0644), 0);
    assert_int_equal(chmod(dir, 01777), 0);
    expect_not_taken("everybody can write its folder");
    assert_int_equal(chmod(dir, 0700), 0);
    assert_int_equal(ch_config_file_load_found(path_of("c.yaml"), &config, &why), CH_OK);
    if (geteuid() == 0) {
        assert_int_equal(chown(dir, 65534, 65534), 0);
        expect_not_taken("its folder belongs to another user");
        assert_int_equal(chown(dir, 0, 0), 0);
        assert_int_equal(chown(path_of("c.yaml"), 65534, 65534), 0);
        expect_not_taken("it belongs to another user");
    }
    unlink(path_of("c.yaml"));
    assert_int_equal(mkfifo(path_of("c.yaml"), 0600), 0);
    alarm(10); // opening it must not wait for a writer
    expect_not_taken("it is not a file");
    alarm(0);
    unlink(path_of("c.yaml"));
}

static void paths_are_relative_to_the_file(void **state)
{
    (void)state;
    make_file("c.yaml", "database: x.db\n", 0644);
    assert_int_equal(ch_config_file_load(path_of("c.yaml"), &config, &why), CH_OK);
    assert_string_equal(config.database, path_of("x.db"));
    unlink(path_of("c.yaml"));
}

static void errors_name_the_file(void **state)
{
    (void)state;
    assert_int_equal(ch_config_file_load(path_of("none.yaml"), &config, &why), CH_ERR_NOT_FOUND);
    assert_why(path_of("none.yaml"));
    assert_int_equal(ch_config_file_load(dir, &config, &why), CH_ERR_IO);
    assert_why(dir);
    make_file("c.yaml", "\nx: 1\n", 0644);
    assert_int_equal(ch_config_file_load(path_of("c.yaml"), &config, &why), CH_ERR_INVALID);
    assert_why(path_of("c.yaml"));
    assert_why(": line 2, column 1: unknown key \"x\"");
    static char big[CH_CONFIG_FILE_MAX + 2];
    memset(big, '\n', sizeof big - 1);
    make_file("c.yaml", big, 0644);
    assert_int_equal(ch_config_file_load(path_of("c.yaml"), &config, &why), CH_ERR_LIMIT);
    unlink(path_of("c.yaml"));
}

static enum ch_err load_key(const char *reference)
{
    struct ch_secret *key = NULL;
    snprintf(config.master_key, sizeof config.master_key, "%s", reference);
    enum ch_err err = ch_config_master_key(&config, &key, &why);
    if (!err) {
        struct ch_span bytes = ch_secret_reveal(key);
        assert_int_equal(bytes.len, 32);
        assert_memory_equal(bytes.ptr, "\x00\x11\x22\x33", 4);
    }
    ch_secret_free(key);
    return err;
}

static void a_key_from_the_environment_is_wiped(void **state)
{
    (void)state;
    static char entry[] = "CH_TEST_KEY=" HEX;
    assert_int_equal(putenv(entry), 0); // the environment holds this very array
    assert_int_equal(load_key("${env:CH_TEST_KEY}"), CH_OK);
    assert_null(getenv("CH_TEST_KEY"));
    for (size_t i = strlen("CH_TEST_KEY="); i < sizeof entry; i++)
        assert_int_equal(entry[i], 0);
    assert_int_equal(load_key("${env:CH_TEST_KEY}"), CH_ERR_NOT_FOUND);
    assert_why("CH_TEST_KEY");
}

static void a_bad_key_is_wiped_and_not_repeated(void **state)
{
    (void)state;
    static char entry[] = "CH_TEST_KEY=deadbeef";
    assert_int_equal(putenv(entry), 0);
    assert_int_equal(load_key("${env:CH_TEST_KEY}"), CH_ERR_INVALID);
    assert_int_equal(entry[strlen("CH_TEST_KEY=")], 0);
    assert_why("CH_TEST_KEY");
    assert_null(strstr(why.text, "deadbeef"));
    char text[2048];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    setenv("CH_TEST_KEY", text, 1);
    assert_int_equal(load_key("${env:CH_TEST_KEY}"), CH_ERR_INVALID);
    assert_null(getenv("CH_TEST_KEY"));
}

static void a_key_file_is_for_its_owner_only(void **state)
{
    (void)state;
    char reference[300];
    snprintf(reference, sizeof reference, "${file:%s}", path_of("key"));
    assert_int_equal(load_key(reference), CH_ERR_NOT_FOUND);
    static const mode_t open_modes[] = {0640, 0604, 0620, 0601, 0644};
    for (size_t i = 0; i < sizeof open_modes / sizeof *open_modes; i++) {
        make_file("key", HEX "\n", open_modes[i]);
        assert_int_equal(load_key(reference), CH_ERR_DENIED);
        assert_why("chmod 600");
        unlink(path_of("key"));
    }
    make_file("key", HEX "\n", 0600);
    assert_int_equal(load_key(reference), CH_OK);
    assert_int_equal(chmod(path_of("key"), 0400), 0);
    assert_int_equal(load_key(reference), CH_OK);
    unlink(path_of("key"));
    make_file("key", HEX HEX HEX HEX HEX HEX HEX HEX HEX HEX HEX HEX HEX HEX HEX HEX HEX, 0600);
    assert_int_equal(load_key(reference), CH_ERR_INVALID);
    unlink(path_of("key"));
    assert_int_equal(mkfifo(path_of("key"), 0600), 0);
    alarm(10); // opening it must not wait for a writer
    assert_int_equal(load_key(reference), CH_ERR_INVALID);
    assert_why("not a file");
    alarm(0);
    unlink(path_of("key"));
    snprintf(reference, sizeof reference, "${file:%s}", dir);
    assert_int_equal(load_key(reference), CH_ERR_INVALID);
}

static void a_credential_comes_from_systemds_folder(void **state)
{
    (void)state;
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(load_key("${credential:master}"), CH_ERR_NOT_FOUND);
    assert_why("LoadCredential=master");
    setenv("CREDENTIALS_DIRECTORY", dir, 1);
    assert_int_equal(load_key("${credential:master}"), CH_ERR_NOT_FOUND);
    make_file("master", HEX, 0440); // as systemd's access list looks
    assert_int_equal(load_key("${credential:master}"), CH_OK);
    unlink(path_of("master"));
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(load_key("literal"), CH_ERR_INVALID);
}

static int set_up(void **state)
{
    (void)state;
    return ch_secret_process_init(&why) || !mkdtemp(dir);
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_named_file_is_taken),
        cmocka_unit_test(a_file_in_this_folder_is_found),
        cmocka_unit_test(a_found_file_is_this_users),
        cmocka_unit_test(paths_are_relative_to_the_file),
        cmocka_unit_test(errors_name_the_file),
        cmocka_unit_test(a_key_from_the_environment_is_wiped),
        cmocka_unit_test(a_bad_key_is_wiped_and_not_repeated),
        cmocka_unit_test(a_key_file_is_for_its_owner_only),
        cmocka_unit_test(a_credential_comes_from_systemds_folder),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
