// SPDX-License-Identifier: Apache-2.0
#include "app/cli.h"
#include "base/secret.h"
#include "net/loop.h"
#include "store/store.h"

#include <stdio.h>

// Memory that forgets comes before anything that could hold a secret (design.md §5), for every
// library.
static enum ch_err init_process(struct ch_why *why)
{
    enum ch_err err = ch_secret_process_init(why);
    if (!err)
        err = ch_net_process_init(why);
    if (!err)
        err = ch_store_process_init(why);
    if (!err)
        json_set_alloc_funcs(ch_zmalloc, ch_zfree);
    return err;
}

int main(int argc, char **argv)
{
    struct ch_why why = {""};
    if (init_process(&why)) {
        fprintf(stderr, "chaperone: %s\n", why.text);
        return CH_EXIT_FAILED;
    }
    return ch_cli_main(argc, argv);
}
