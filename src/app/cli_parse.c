// SPDX-License-Identifier: Apache-2.0
#include "app/cli_parse.h"

#include "domain/admin_token.h"

#include <stdio.h>

#define WORD_MAX 48 // longer words are near to nothing

// ---- the nearest known name

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

// Levenshtein's distance.
static unsigned distance(struct ch_span a, struct ch_span b)
{
    unsigned row[WORD_MAX + 1];
    if (a.len > WORD_MAX || b.len > WORD_MAX)
        return WORD_MAX;
    for (unsigned j = 0; j <= b.len; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned above = row[j];
            unsigned replace = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            row[j] = min3(above + 1, row[j - 1] + 1, replace);
            diagonal = above;
        }
    }
    return row[b.len];
}

struct nearest {
    struct ch_span word, best;
    unsigned distance;
};

// A third of the word may be wrong, and a short word may also be the beginning of a known one.
static void nearest_init(struct nearest *nearest, const char *word)
{
    struct ch_span span = ch_span_of(word);
    span.len = strcspn(word, "=");
    *nearest = (struct nearest){.word = span, .distance = (unsigned)span.len / 3 + 2};
}

static void nearest_offer(struct nearest *nearest, struct ch_span known)
{
    unsigned d = distance(nearest->word, known);
    if (nearest->word.len >= 3 && ch_span_starts(known, nearest->word) && d > 1)
        d = 1;
    if (d < nearest->distance) {
        nearest->distance = d;
        nearest->best = known;
    }
}

bool ch_cli_nearest(const char *words, const char *word, char *out, size_t size)
{
    struct nearest nearest;
    nearest_init(&nearest, word);
    while (*words) {
        size_t len = strcspn(words, " ");
        nearest_offer(&nearest, (struct ch_span){words, len});
        words += len + (words[len] == ' ');
    }
    return nearest.best.len && ch_span_copy(nearest.best, out, size);
}

// "; did you mean `x`?" or nothing.
struct hint {
    char text[96];
};

static struct hint hint_of(const struct nearest *nearest, const char *prefix)
{
    struct hint hint = {""};
    if (nearest->best.len)
        snprintf(hint.text, sizeof hint.text, "; did you mean %s%.*s?", prefix,
                 CH_SPAN_ARG(nearest->best));
    return hint;
}

// ---- finding rows

// How a command is called: "key create", "serve".
struct title {
    char text[64];
};

static struct title title_of(const struct ch_cli_command *command)
{
    struct title title;
    snprintf(title.text, sizeof title.text, "%s%s%s", command->noun, command->verb ? " " : "",
             command->verb ? command->verb : "");
    return title;
}

static const struct ch_cli_option *find_in(const struct ch_cli_option *options, struct ch_span name)
{
    for (; options && options->name; options++)
        if (ch_span_eq(name, ch_span_of(options->name)))
            return options;
    return NULL;
}

static const struct ch_cli_option *find_option(const struct ch_cli_call *call, struct ch_span name)
{
    const struct ch_cli_option *option =
        call->command ? find_in(call->command->options, name) : NULL;
    return option ? option : find_in(ch_cli_globals, name);
}

static const struct ch_cli_option *find_letter(const struct ch_cli_call *call, char letter)
{
    const struct ch_cli_option *lists[] = {call->command ? call->command->options : NULL,
                                           ch_cli_globals};
    for (size_t i = 0; i < 2; i++)
        for (const struct ch_cli_option *option = lists[i]; option && option->name; option++)
            if (option->letter == letter)
                return option;
    return NULL;
}

static bool noun_exists(const char *noun)
{
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        if (strcmp(c->noun, noun) == 0)
            return true;
    return false;
}

static const struct ch_cli_command *find_command(const char *noun, const char *verb)
{
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        if (strcmp(c->noun, noun) == 0 &&
            (verb ? c->verb && strcmp(c->verb, verb) == 0 : c->verb == NULL))
            return c;
    return NULL;
}

// ---- words

static enum ch_err unknown_noun(const char *word, struct ch_why *why)
{
    struct nearest nearest;
    nearest_init(&nearest, word);
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        nearest_offer(&nearest, ch_span_of(c->noun));
    return ch_why_set(why, CH_ERR_INVALID, "there is no command `%.40s`%s", word,
                      hint_of(&nearest, "").text);
}

static enum ch_err unknown_verb(const char *noun, const char *word, struct ch_why *why)
{
    struct nearest nearest;
    nearest_init(&nearest, word);
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        if (strcmp(c->noun, noun) == 0)
            nearest_offer(&nearest, ch_span_of(c->verb));
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%s ", noun);
    return ch_why_set(why, CH_ERR_INVALID, "there is no command `%s %.40s`%s", noun, word,
                      hint_of(&nearest, prefix).text);
}

static enum ch_err check_choice(const char *choices, const char *name, const char *text,
                                struct ch_why *why)
{
    struct nearest nearest;
    nearest_init(&nearest, text);
    for (const char *at = choices; *at;) {
        struct ch_span choice = {at, strcspn(at, " ")};
        if (ch_span_eq(choice, ch_span_of(text)))
            return CH_OK;
        nearest_offer(&nearest, choice);
        at += choice.len + (at[choice.len] == ' ');
    }
    return ch_why_set(why, CH_ERR_INVALID, "%s takes one of: %s%s", name, choices,
                      hint_of(&nearest, "").text);
}

// The word at fault is not repeated where it may be a secret in the wrong place.
static enum ch_err surplus_word(const struct ch_cli_call *call, const char *word,
                                struct ch_why *why)
{
    const struct ch_cli_command *command = call->command;
    struct title title = title_of(command);
    if (command->secret_member)
        return ch_why_set(why, CH_ERR_INVALID,
                          "`%s` got a word too many; a secret never stands on the command line, "
                          "give it by prompt, --secret-stdin, --secret-file or --secret-env",
                          title.text);
    return ch_why_set(why, CH_ERR_INVALID, "`%s` got a word too many: %.40s", title.text, word);
}

static enum ch_err take_positional(struct ch_cli_call *call, const char *word, struct ch_why *why)
{
    for (size_t i = 0; i < CH_CLI_POSITIONALS_MAX; i++) {
        const struct ch_cli_positional *positional = &call->command->positionals[i];
        if (!positional->name || call->positionals[i])
            continue;
        call->positionals[i] = word;
        return positional->choices ? check_choice(positional->choices, positional->name, word, why)
                                   : CH_OK;
    }
    return surplus_word(call, word, why);
}

static enum ch_err take_word(struct ch_cli_call *call, const char *word, struct ch_why *why)
{
    if (call->command)
        return take_positional(call, word, why);
    if (!call->noun) {
        if (!noun_exists(word))
            return unknown_noun(word, why);
        call->noun = word;
        call->command = find_command(word, NULL);
        return CH_OK;
    }
    call->command = find_command(call->noun, word);
    return call->command ? CH_OK : unknown_verb(call->noun, word, why);
}

// ---- options

// A wrapped key, whole or in part, also behind an option's '='. No name and no value is called so.
static bool holds_wrapped_key(const char *word)
{
    const char *equals = word[0] == '-' ? strchr(word, '=') : NULL;
    const char *text = equals ? equals + 1 : word;
    return (strncmp(text, "ch_", 3) == 0 && strstr(text, "_sk_")) ||
           (strncmp(text, "cha_", 4) == 0 && strlen(text) > CH_ADMIN_TOKEN_SECRET);
}

static enum ch_err refuse_wrapped_key(struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_INVALID,
                      "a wrapped key or admin token never stands on the command line, and a command "
                      "takes its name; `chaperone key verify --secret-stdin` says which key it is");
}

// People try --api-key and the like; the answer is worth more than a similar name.
static bool asks_for_secret(const struct ch_cli_call *call, struct ch_span name)
{
    static const char *const words[] = {"key", "secret", "token", "credential", "password"};
    if (!call->command || !call->command->secret_member)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (memmem(name.ptr, name.len, words[i], strlen(words[i])))
            return true;
    return false;
}

static enum ch_err unknown_option(const struct ch_cli_call *call, struct ch_span name,
                                  struct ch_why *why)
{
    struct nearest nearest;
    if (asks_for_secret(call, name))
        return ch_why_set(why, CH_ERR_INVALID,
                          "there is no option --%.*s: a secret never stands on the command line; "
                          "give it by prompt, --secret-stdin, --secret-file or --secret-env",
                          (int)(name.len > 40 ? 40 : name.len), name.ptr);
    nearest_init(&nearest, name.ptr);
    const struct ch_cli_option *option = call->command ? call->command->options : NULL;
    for (; option && option->name; option++)
        nearest_offer(&nearest, ch_span_of(option->name));
    for (option = ch_cli_globals; option->name; option++)
        nearest_offer(&nearest, ch_span_of(option->name));
    return ch_why_set(why, CH_ERR_INVALID, "there is no option --%.*s%s",
                      (int)(name.len > 40 ? 40 : name.len), name.ptr, hint_of(&nearest, "--").text);
}

static enum ch_err check_value(const struct ch_cli_option *option, const char *text,
                               struct ch_why *why)
{
    char name[40];
    int64_t number;
    snprintf(name, sizeof name, "--%s", option->name);
    if (!*text && option->can_be_empty)
        return CH_OK;
    if (option->type == CH_CLI_INT && ch_span_to_int64(ch_span_of(text), &number))
        return ch_why_set(why, CH_ERR_INVALID, "%s takes a whole number", name);
    if (option->type == CH_CLI_PAIR && (!strchr(text, '=') || text[0] == '='))
        return ch_why_set(why, CH_ERR_INVALID, "%s takes %s", name, option->value);
    if (option->type == CH_CLI_CHOICE)
        return check_choice(option->choices, name, text, why);
    if (!*text)
        return ch_why_set(why, CH_ERR_INVALID, "%s is empty; it takes %s", name, option->value);
    return CH_OK;
}

static bool is_given(const struct ch_cli_call *call, const struct ch_cli_option *option)
{
    for (size_t i = 0; i < call->value_count; i++)
        if (call->values[i].option == option)
            return true;
    return false;
}

static enum ch_err keep_value(struct ch_cli_call *call, const struct ch_cli_option *option,
                              const char *text, struct ch_why *why)
{
    if (!option->is_repeatable && is_given(call, option))
        return ch_why_set(why, CH_ERR_INVALID, "--%s was given twice", option->name);
    if (call->value_count == CH_CLI_VALUES_MAX)
        return ch_why_set(why, CH_ERR_INVALID, "more than %d options", CH_CLI_VALUES_MAX);
    call->values[call->value_count++] = (struct ch_cli_value){option, text};
    return CH_OK;
}

static enum ch_err take_option(struct ch_cli_call *call, const struct ch_cli_option *option,
                               const char *text, struct ch_why *why)
{
    enum ch_err err = option->type == CH_CLI_FLAG ? CH_OK : check_value(option, text, why);
    return err ? err : keep_value(call, option, text, why);
}

struct arguments {
    int count, at;
    char *const *words;
};

// The value of an option that did not carry it after '='.
static enum ch_err next_word(struct arguments *args, const struct ch_cli_option *option,
                             const char **text_out, struct ch_why *why)
{
    if (args->at == args->count)
        return ch_why_set(why, CH_ERR_INVALID, "--%s needs a value: %s", option->name,
                          option->value);
    *text_out = args->words[args->at++];
    return holds_wrapped_key(*text_out) ? refuse_wrapped_key(why) : CH_OK;
}

static enum ch_err take_long(struct ch_cli_call *call, struct arguments *args, const char *word,
                             struct ch_why *why)
{
    const char *text = NULL, *equals = strchr(word, '=');
    struct ch_span name = {word, equals ? (size_t)(equals - word) : strlen(word)};
    const struct ch_cli_option *option = find_option(call, name);
    if (!option)
        return unknown_option(call, name, why);
    if (option->type == CH_CLI_FLAG && equals)
        return ch_why_set(why, CH_ERR_INVALID, "--%s takes no value", option->name);
    if (equals)
        text = equals + 1;
    else if (option->type != CH_CLI_FLAG && next_word(args, option, &text, why))
        return CH_ERR_INVALID;
    return take_option(call, option, text, why);
}

// "-q", "-o json", "-ojson"; letters are not bundled.
static enum ch_err take_short(struct ch_cli_call *call, struct arguments *args, const char *word,
                              struct ch_why *why)
{
    const char *text = word[1] ? word + 1 : NULL;
    const struct ch_cli_option *option = find_letter(call, word[0]);
    if (!option || (option->type == CH_CLI_FLAG && text))
        return ch_why_set(why, CH_ERR_INVALID, "there is no option -%.8s", word);
    if (option->type != CH_CLI_FLAG && !text && next_word(args, option, &text, why))
        return CH_ERR_INVALID;
    return take_option(call, option, text, why);
}

// ---- the whole

static bool is_global(const struct ch_cli_option *option)
{
    return find_in(ch_cli_globals, ch_span_of(option->name)) == option;
}

// A command may have an option of the same name (`price set --output`); this is the other one.
static const char *global_value(const struct ch_cli_call *call, const char *name)
{
    for (size_t i = 0; i < call->value_count; i++)
        if (is_global(call->values[i].option) && strcmp(call->values[i].option->name, name) == 0)
            return call->values[i].text;
    return NULL;
}

static void read_globals(struct ch_cli_call *call)
{
    const char *output = global_value(call, "output");
    call->config = global_value(call, "config");
    call->admin = global_value(call, "admin");
    call->admin_token_file = global_value(call, "admin-token-file");
    call->admin_ca = global_value(call, "admin-ca");
    call->wants_help = ch_cli_has(call, "help");
    call->is_quiet = ch_cli_has(call, "quiet");
    call->is_daemon_only = ch_cli_has(call, "daemon-only");
    if (ch_cli_has(call, "version")) {
        call->noun = "version";
        call->command = find_command(call->noun, NULL);
    }
    if (output)
        call->output = output[0] == 'j'   ? CH_CLI_JSON
                       : output[1] == 's' ? CH_CLI_TSV
                                          : CH_CLI_TABLE;
}

static enum ch_err check_complete(const struct ch_cli_call *call, struct ch_why *why)
{
    const struct ch_cli_command *command = call->command;
    struct title title = title_of(command);
    for (size_t i = 0; i < CH_CLI_POSITIONALS_MAX; i++) {
        const struct ch_cli_positional *positional = &command->positionals[i];
        if (positional->name && !positional->is_optional && !call->positionals[i])
            return ch_why_set(why, CH_ERR_INVALID, "`%s` needs %s: %s", title.text,
                              positional->name, positional->help);
    }
    for (const struct ch_cli_option *option = command->options; option && option->name; option++)
        if (option->is_required && !ch_cli_has(call, option->name))
            return ch_why_set(why, CH_ERR_INVALID, "`%s` needs --%s %s: %s", title.text,
                              option->name, option->value,
                              option->choices ? option->choices : option->help);
    return CH_OK;
}

enum ch_err ch_cli_parse(int argc, char *const *argv, struct ch_cli_call *call_out,
                         struct ch_why *why)
{
    struct arguments args = {.count = argc, .at = 1, .words = argv};
    enum ch_err err = CH_OK;
    bool only_words = false;
    *call_out = (struct ch_cli_call){0};
    while (!err && args.at < args.count) {
        const char *word = args.words[args.at++];
        if (holds_wrapped_key(word))
            err = refuse_wrapped_key(why);
        else if (only_words || word[0] != '-' || word[1] == '\0')
            err = take_word(call_out, word, why);
        else if (word[1] != '-')
            err = take_short(call_out, &args, word + 1, why);
        else if (word[2] != '\0')
            err = take_long(call_out, &args, word + 2, why);
        else
            only_words = true;
    }
    read_globals(call_out);
    if (!err && call_out->command && !call_out->wants_help)
        err = check_complete(call_out, why);
    return err;
}

const char *ch_cli_value(const struct ch_cli_call *call, const char *option)
{
    for (size_t i = 0; i < call->value_count; i++)
        if (strcmp(call->values[i].option->name, option) == 0)
            return call->values[i].text;
    return NULL;
}

bool ch_cli_has(const struct ch_cli_call *call, const char *option)
{
    for (size_t i = 0; i < call->value_count; i++)
        if (strcmp(call->values[i].option->name, option) == 0)
            return true;
    return false;
}

int64_t ch_cli_value_int(const struct ch_cli_call *call, const char *option, int64_t otherwise)
{
    int64_t number;
    const char *text = ch_cli_value(call, option);
    return text && !ch_span_to_int64(ch_span_of(text), &number) ? number : otherwise;
}

// ---- the operation's arguments

struct member {
    char name[40];
};

static struct member member_of(const struct ch_cli_option *option)
{
    struct member member;
    ch_span_copy(ch_span_of(option->member ? option->member : option->name), member.name,
                 sizeof member.name);
    for (char *c = member.name; *c; c++)
        *c = *c == '-' ? '_' : *c;
    return member;
}

// The container that a repeatable option collects into.
static json_t *container(json_t *arguments, const char *member, json_t *(*make)(void))
{
    json_t *held = json_object_get(arguments, member);
    if (held)
        return held;
    held = make();
    return json_object_set_new(arguments, member, held) ? NULL : held;
}

static enum ch_err add_pair(json_t *arguments, const struct ch_cli_value *value, const char *member,
                            struct ch_why *why)
{
    char key[128];
    const char *equals = strchr(value->text, '=');
    json_t *pairs = container(arguments, member, json_object);
    if (!equals) // empty: no pair at all
        return pairs ? CH_OK : ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    if (!ch_span_copy((struct ch_span){value->text, (size_t)(equals - value->text)}, key,
                      sizeof key))
        return ch_why_set(why, CH_ERR_INVALID, "--%s: the key is too long", value->option->name);
    if (json_object_get(pairs, key))
        return ch_why_set(why, CH_ERR_INVALID, "--%s %s= was given twice", value->option->name,
                          key);
    json_t *text = json_string(equals + 1);
    if (!text)
        return ch_why_set(why, CH_ERR_INVALID, "--%s is not UTF-8", value->option->name);
    return json_object_set_new(pairs, key, text) ? ch_why_set(why, CH_ERR_NOMEM, "out of memory")
                                                 : CH_OK;
}

static json_t *value_to_json(const struct ch_cli_value *value)
{
    int64_t number;
    if (value->option->type == CH_CLI_FLAG)
        return json_boolean(!value->option->is_negation);
    if (value->option->type == CH_CLI_INT && !ch_span_to_int64(ch_span_of(value->text), &number))
        return json_integer(number);
    return json_string(value->text); // NULL when it is not UTF-8
}

static enum ch_err add_value(json_t *arguments, const struct ch_cli_value *value,
                             struct ch_why *why)
{
    struct member member = member_of(value->option);
    if (value->option->type == CH_CLI_PAIR)
        return add_pair(arguments, value, member.name, why);
    json_t *json = value_to_json(value);
    if (!json)
        return ch_why_set(why, CH_ERR_INVALID, "--%s is not UTF-8", value->option->name);
    int failed = value->option->is_repeatable
                     ? json_array_append_new(container(arguments, member.name, json_array), json)
                     : json_object_set_new(arguments, member.name, json);
    return failed ? ch_why_set(why, CH_ERR_NOMEM, "out of memory") : CH_OK;
}

static enum ch_err add_positional(json_t *arguments, const struct ch_cli_positional *positional,
                                  const char *text, struct ch_why *why)
{
    json_t *json = json_string(text);
    if (!json)
        return ch_why_set(why, CH_ERR_INVALID, "%s is not UTF-8", positional->name);
    return json_object_set_new(arguments, positional->member, json)
               ? ch_why_set(why, CH_ERR_NOMEM, "out of memory")
               : CH_OK;
}

enum ch_err ch_cli_arguments(const struct ch_cli_call *call, json_t **arguments_out,
                             struct ch_why *why)
{
    enum ch_err err = CH_OK;
    json_t *arguments = json_object();
    if (!arguments)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < CH_CLI_POSITIONALS_MAX && !err; i++) {
        const struct ch_cli_positional *positional = &call->command->positionals[i];
        if (call->positionals[i] && !positional->is_local)
            err = add_positional(arguments, positional, call->positionals[i], why);
    }
    for (size_t i = 0; i < call->value_count && !err; i++) {
        const struct ch_cli_option *option = call->values[i].option;
        if (!option->is_local && !option->is_secret && !is_global(option))
            err = add_value(arguments, &call->values[i], why);
    }
    if (!err)
        *arguments_out = arguments;
    else
        json_decref(arguments);
    return err;
}
