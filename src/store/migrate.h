// SPDX-License-Identifier: Apache-2.0
// Brings a database to this program's schema: the forward-only files of sql/, embedded. At open,
// once.
#ifndef CH_STORE_MIGRATE_H
#define CH_STORE_MIGRATE_H

#include "store/db.h"

// Applies what is missing, each file in a transaction of its own together with its version number.
// CH_ERR_INVALID for a newer schema and for a file that is another program's.
enum ch_err ch_migrate(struct ch_db *db, const char *path, struct ch_why *why) CH_MUST_USE;

// Verifies the file's structure: all of a small one; of a large one the
// tables without which nothing works.
enum ch_err ch_migrate_check(struct ch_db *db, const char *path, struct ch_why *why) CH_MUST_USE;

#endif
