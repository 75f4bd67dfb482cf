// SPDX-License-Identifier: Apache-2.0
#include "outbox.h"

#include "loop_private.h"

#include "base/secret.h"

static void copy_parts(char *to, const struct iovec *parts, int count)
{
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len)
            memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
}

bool ch_outbox_take(struct ch_loop *loop, struct ch_peer *peer, const struct iovec *parts,
                    int count, size_t size)
{
    struct ch_outbox *box = &loop->outbox;
    bool is_small = size <= CH_OUTBOX_POST_MAX;
    bool has_room = box->count < CH_OUTBOX_POSTS && size <= CH_OUTBOX_BYTES - box->used;
    if (is_small ? !has_room : peer->is_posted)
        ch_outbox_flush(loop);
    if (!is_small || ch_peer_pending(peer) || peer->end_is_noted)
        return false;
    copy_parts(box->bytes + box->used, parts, count);
    box->used += size;
    if (box->count && box->posts[box->count - 1].peer == peer)
        box->posts[box->count - 1].size += size;
    else
        box->posts[box->count++] = (struct ch_post){peer, size};
    peer->is_posted = true;
    return true;
}

void ch_outbox_flush(struct ch_loop *loop)
{
    struct ch_outbox *box = &loop->outbox;
    char *at = box->bytes;
    for (int i = 0; i < box->count; i++) {
        struct ch_post post = box->posts[i];
        post.peer->is_posted = false;
        ch_peer_send(post.peer, &(struct iovec){at, post.size}, 1);
        at += post.size;
    }
    if (box->used)
        ch_wipe(box->bytes, box->used);
    box->count = 0;
    box->used = 0;
}
