// SPDX-License-Identifier: Apache-2.0
// Reads the configuration file and resolves the secrets it refers to. Main thread, at start and reload.
#ifndef CH_APP_CONFIG_FILE_H
#define CH_APP_CONFIG_FILE_H

#include "base/secret.h"
#include "domain/config.h"

// The file named by --config, else $CHAPERONE_CONFIG, else ./chaperone.yaml, else /etc/chaperone/chaperone.yaml.
// The sentence in `why` says which were tried. `path_out` has CH_CONFIG_PATH bytes.
enum ch_err ch_config_file_find(const char *option, char *path_out, struct ch_why *why) CH_MUST_USE;
enum ch_err ch_config_file_load(const char *path, struct ch_config *config_out, struct ch_why *why) CH_MUST_USE;
// The master key from where `config->master_key` points: an environment variable (unset and wiped after
// reading), a file that only its owner can read (0600 or stricter), or a systemd credential.
enum ch_err ch_config_master_key(const struct ch_config *config, struct ch_secret **key_out,
                                 struct ch_why *why) CH_MUST_USE;

#endif
