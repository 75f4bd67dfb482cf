// SPDX-License-Identifier: Apache-2.0
#include "scrub_private.h"

// A token is a prefix and a tail: at least `tail_min` characters of a set, and all that follow. The
// prefixes are found by Shift-And, all of them at once; of each token at most one tail is followed,
// because one that begins inside another of its kind ends with it. What is redacted is the union of
// all matches, so no order among them matters.

#define PREFIX_LEN_MAX 11 // of "sk-svcacct-", "github_pat_"

enum {
    DIGIT = 1 << 0,
    UPPER = 1 << 1,
    LOWER = 1 << 2,
    DASH = 1 << 3,
    UNDERSCORE = 1 << 4,
    DOT = 1 << 5,
    ANY = 1 << 6, // all but the end of a line or of a JSON string
    ALNUM = DIGIT | UPPER | LOWER,
};

static const struct token {
    const char *prefix; // [ab]: one of these
    unsigned tail, tail_min;
    unsigned kind;
} tokens_known[CH_SCRUB_TOKENS] = {
    {"sk-", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-ant-", ALNUM | DASH | UNDERSCORE, 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-proj-", ALNUM | DASH | UNDERSCORE, 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-svcacct-", ALNUM | DASH | UNDERSCORE, 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-admin-", ALNUM | DASH | UNDERSCORE, 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-or-v1-", ALNUM | DASH | UNDERSCORE, 20, CH_SCRUB_PROVIDER_KEY},
    {"AIza", ALNUM | DASH | UNDERSCORE, 30, CH_SCRUB_PROVIDER_KEY},
    {"gsk_", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"xai-", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"hf_", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"pplx-", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"nvapi-", ALNUM | DASH | UNDERSCORE, 20, CH_SCRUB_PROVIDER_KEY},
    {"Bearer ", ANY, 20, CH_SCRUB_OTHER_TOKEN},
    {"eyJ", ALNUM | DASH | UNDERSCORE, 20, CH_SCRUB_OTHER_TOKEN},
    {"xox[bpras]-", ALNUM | DASH, 20, CH_SCRUB_OTHER_TOKEN},
    {"gh[pousr]_", ALNUM, 30, CH_SCRUB_OTHER_TOKEN},
    {"github_pat_", ALNUM | UNDERSCORE, 20, CH_SCRUB_OTHER_TOKEN},
    {"A[KS]IA", DIGIT | UPPER, 16, CH_SCRUB_OTHER_TOKEN},
    // An admin token (domain/admin_token.h): a name, an underscore and 38 characters.
    {"cha_", ALNUM | DASH | UNDERSCORE | DOT, 40, CH_SCRUB_OTHER_TOKEN},
    // "ch_<slug>_sk_": the tables know this part alone, the slug in front of it is followed apart.
    {"_sk_", ALNUM, 20, CH_SCRUB_WRAPPED_KEY},
};
#define WRAPPED      (CH_SCRUB_TOKENS - 1)
#define WRAPPED_HEAD "ch_"
#define SLUG_MAX     48 // domain/wrapped_key.h
// Places of "ch_" that leave room for "_sk_" and a slug of 1 to SLUG_MAX characters.
#define SLUG_FIRST  5
#define SLUG_LAST   (SLUG_MAX + 4)
#define SLUG_PLACES ((UINT64_C(1) << (SLUG_LAST + 1)) - 1)

_Static_assert(3 + SLUG_MAX + 4 + 20 < CH_SCRUB_HOLD_MAX, "a wrapped key fits until recognised");

static unsigned class_of(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return DIGIT;
    if (c >= 'A' && c <= 'Z')
        return UPPER;
    if (c >= 'a' && c <= 'z')
        return LOWER;
    return c == '-' ? DASH : c == '_' ? UNDERSCORE : c == '.' ? DOT : 0;
}

static bool is_slug_char(unsigned char c)
{
    return class_of(c) & (DIGIT | LOWER | UNDERSCORE);
}

// Adds a prefix at bit `*at`, moves on behind it, and gives the bit of its last character.
static ch_scrub_bits add_prefix(struct ch_scrub_tables *tables, const char *prefix, unsigned *at)
{
    tables->heads |= (ch_scrub_bits)1 << *at;
    for (; *prefix; ++*at, prefix++) {
        ch_scrub_bits bit = (ch_scrub_bits)1 << *at;
        if (*prefix != '[') {
            tables->letters[(unsigned char)*prefix] |= bit;
            continue;
        }
        while (*++prefix != ']')
            tables->letters[(unsigned char)*prefix] |= bit;
    }
    CH_ASSERT(*at <= 8 * sizeof(ch_scrub_bits));
    ch_scrub_bits end = (ch_scrub_bits)1 << (*at - 1);
    tables->ends |= end;
    return end;
}

void ch_scrub_tables_init(struct ch_scrub_tables *tables)
{
    unsigned at = 0;
    *tables = (struct ch_scrub_tables){0};
    for (unsigned i = 0; i < CH_SCRUB_TOKENS; i++) {
        tables->end[i] = add_prefix(tables, tokens_known[i].prefix, &at);
        for (unsigned c = 0; c <= CH_SCRUB_OPAQUE; c++)
            if (tokens_known[i].tail & (ANY | class_of((unsigned char)c)))
                tables->tails[c] |= UINT32_C(1) << i;
    }
    tables->wrapped_head = add_prefix(tables, WRAPPED_HEAD, &at);
}

// Counts the unit into the open tails. Gives where the first that has become long enough begins.
static uint64_t grow_tails(struct ch_scrub_tokens *tokens, const struct ch_scrub_unit *unit)
{
    uint64_t first = CH_SCRUB_NOWHERE;
    for (uint32_t left = tokens->open & ~tokens->sure; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);
        const struct token *token = &tokens_known[i];
        // What `.` matches is counted in bytes as they stand, which is never less than characters.
        tokens->tail_len[i] += token->tail & ANY ? unit->len : 1;
        if (tokens->tail_len[i] < token->tail_min)
            continue;
        tokens->sure |= UINT32_C(1) << i;
        tokens->found |= token->kind;
        if (tokens->start[i] < first)
            first = tokens->start[i];
    }
    return first;
}

static void open_tail(struct ch_scrub_tokens *tokens, unsigned i, uint64_t start)
{
    if (tokens->open & UINT32_C(1) << i)
        return; // it begins inside another of its kind
    tokens->open |= UINT32_C(1) << i;
    tokens->start[i] = start;
    tokens->tail_len[i] = 0;
}

static unsigned prefix_len(const char *prefix)
{
    const char *set = strchr(prefix, '[');
    return (unsigned)(strlen(prefix) - (set ? strcspn(set, "]") : 0));
}

static void open_tails(struct ch_scrub_tokens *tokens, uint64_t position)
{
    const struct ch_scrub_tables *tables = tokens->tables;
    for (unsigned i = 0; i < WRAPPED; i++)
        if (tokens->prefixes & tables->end[i])
            open_tail(tokens, i, position + 1 - prefix_len(tokens_known[i].prefix));
    uint64_t slugs = tokens->slugs >> SLUG_FIRST << SLUG_FIRST;
    if (slugs && tokens->prefixes & tables->end[WRAPPED]) // the first "ch_" takes in all later ones
        open_tail(tokens, WRAPPED, position - 2 - (63 - (unsigned)__builtin_clzll(slugs)));
    if (tokens->prefixes & tables->wrapped_head)
        tokens->slugs |= 1;
}

uint64_t ch_scrub_tokens_read(struct ch_scrub_tokens *tokens, const struct ch_scrub_unit *unit,
                              uint64_t position)
{
    const struct ch_scrub_tables *tables = tokens->tables;
    uint64_t first = CH_SCRUB_NOWHERE;
    if (tokens->open) {
        uint32_t going_on = unit->ends_text ? 0 : tables->tails[unit->c];
        tokens->open &= going_on;
        tokens->sure &= going_on;
        first = tokens->sure ? position : CH_SCRUB_NOWHERE;
        uint64_t grown = grow_tails(tokens, unit);
        first = grown < first ? grown : first;
    }
    tokens->slugs = is_slug_char(unit->c) ? tokens->slugs << 1 & SLUG_PLACES : 0;
    ch_scrub_bits letters = unit->c < CH_SCRUB_OPAQUE ? tables->letters[unit->c] : 0;
    tokens->prefixes = (tokens->prefixes << 1 | tables->heads) & letters;
    if (tokens->prefixes & tables->ends)
        open_tails(tokens, position);
    return first;
}

uint64_t ch_scrub_tokens_unfinished(const struct ch_scrub_tokens *tokens)
{
    uint64_t first = CH_SCRUB_NOWHERE;
    for (uint32_t left = tokens->open & ~tokens->sure; left; left &= left - 1) {
        uint64_t start = tokens->start[__builtin_ctz(left)];
        first = start < first ? start : first;
    }
    return first;
}

uint64_t ch_scrub_tokens_hold(const struct ch_scrub_tokens *tokens, uint64_t next)
{
    uint64_t first = ch_scrub_tokens_unfinished(tokens);
    if (tokens->prefixes) {
        uint64_t longest = next < PREFIX_LEN_MAX ? 0 : next - PREFIX_LEN_MAX;
        first = longest < first ? longest : first;
    }
    if (tokens->slugs) {
        uint64_t wrapped = next - 3 - (63 - (unsigned)__builtin_clzll(tokens->slugs));
        first = wrapped < first ? wrapped : first;
    }
    return first < next ? first : next;
}
