// SPDX-License-Identifier: Apache-2.0
// Brings a database to this program's schema: the forward-only files of sql/, embedded. At open,
// once.
#ifndef CH_STORE_MIGRATE_H
#define CH_STORE_MIGRATE_H

#include "store/db.h"

// Whether this program can work with the database, if need be after a migration. CH_ERR_INVALID for
// a newer schema and for a file that is another program's, CH_ERR_CORRUPT for one without a schema
// unless it `may_be_new`.
enum ch_err ch_migrate_judge(struct ch_db *db, const char *path, bool may_be_new,
                             struct ch_why *why) CH_MUST_USE;

// Applies what is missing, each file in a transaction of its own together with its version number.
// Judges before.
enum ch_err ch_migrate(struct ch_db *db, const char *path, bool may_be_new,
                       struct ch_why *why) CH_MUST_USE;

// Verifies the file's structure: all of a small one; of a large one the
// tables without which nothing works.
enum ch_err ch_migrate_check(struct ch_db *db, const char *path, struct ch_why *why) CH_MUST_USE;

#endif
