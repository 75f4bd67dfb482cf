// SPDX-License-Identifier: Apache-2.0
// Reads the configuration file and resolves the secrets it refers to. Main thread, at start and
// reload. Every sentence in `why` names the file, and none repeats a secret.
#ifndef CH_APP_CONFIG_FILE_H
#define CH_APP_CONFIG_FILE_H

#include "base/secret.h"
#include "domain/config.h"

// The file named by --config (`option`, NULL: not given), else $CHAPERONE_CONFIG, else
// ./chaperone.yaml, else /etc/chaperone/chaperone.yaml. Only the last two are looked for: a file
// that was named and is not there is an error of the load. `path_out` has CH_CONFIG_PATH bytes.
// CH_ERR_NOT_FOUND: the sentence says what was tried.
enum ch_err ch_config_file_find(const char *option, char *path_out, bool *is_named_out,
                                struct ch_why *why) CH_MUST_USE;
enum ch_err ch_config_file_load(const char *path, struct ch_config *config_out,
                                struct ch_why *why) CH_MUST_USE;
// A file that nobody named: whoever can write it, or its folder, says where the provider keys of
// this user go. CH_ERR_DENIED unless both belong to this user or root, the file can be written by
// nobody else and the folder is not open to everybody.
enum ch_err ch_config_file_load_found(const char *path, struct ch_config *config_out,
                                      struct ch_why *why) CH_MUST_USE;
// The master key from where `config->master_key` points: an environment variable (wiped and unset
// by reading it), a regular file that only its owner can read (0600 or stricter) and that belongs to this
// user or root, or a systemd credential.
enum ch_err ch_config_master_key(const struct ch_config *config, struct ch_secret **key_out,
                                 struct ch_why *why) CH_MUST_USE;

#endif
