// SPDX-License-Identifier: Apache-2.0
#include "app/cli_help.h"

// Names of keys and providers are asked of the daemon alone: pressing Tab must not open a database.
#define LIST_KEYS      "chaperone key list -q --daemon-only 2>/dev/null"
#define LIST_PROVIDERS "chaperone provider list -q --daemon-only 2>/dev/null"

struct script {
    struct ch_buf *out;
    enum ch_err err;
};

#define addf(script, ...)                                                                          \
    do {                                                                                           \
        if (!(script)->err)                                                                        \
            (script)->err = ch_buf_append_format((script)->out, __VA_ARGS__);                      \
    } while (0)

static bool is_first_of_noun(const struct ch_cli_command *command)
{
    return command == ch_cli_commands || strcmp(command[-1].noun, command->noun) != 0;
}

static void add_verbs(struct script *script, const char *noun)
{
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        if (c->verb && strcmp(c->noun, noun) == 0)
            addf(script, " %s", c->verb);
}

static void add_flags(struct script *script, const struct ch_cli_option *options)
{
    for (; options && options->name; options++)
        addf(script, " --%s", options->name);
}

// ---- bash

static void add_bash_words(struct script *script, enum ch_cli_type type, const char *choices)
{
    switch (type) {
    case CH_CLI_CHOICE:
        addf(script, "words=\"%s\"", choices);
        break;
    case CH_CLI_KEY:
        addf(script, "words=\"$(" LIST_KEYS ")\"");
        break;
    case CH_CLI_PROVIDER:
        addf(script, "words=\"$(" LIST_PROVIDERS ")\"");
        break;
    case CH_CLI_FILE:
        addf(script, "files=-f");
        break;
    case CH_CLI_DIR:
        addf(script, "files=-d");
        break;
    case CH_CLI_FLAG:
    case CH_CLI_TEXT:
    case CH_CLI_INT:
    case CH_CLI_PAIR:
        addf(script, ":");
        break;
    }
}

static void add_bash_values(struct script *script, const struct ch_cli_option *options)
{
    for (; options && options->name; options++) {
        if (options->type == CH_CLI_FLAG)
            continue;
        addf(script, "        --%s", options->name);
        if (options->letter)
            addf(script, "|-%c", options->letter);
        addf(script, ") value=1; ");
        add_bash_words(script, options->type, options->choices);
        addf(script, " ;;\n");
    }
}

static void add_bash_command(struct script *script, const struct ch_cli_command *command)
{
    addf(script, "    '%s%s%s')\n        flags=\"", command->noun, command->verb ? " " : "",
         command->verb ? command->verb : "");
    add_flags(script, command->options);
    addf(script, " $globals\"\n        case \"$prev\" in\n");
    add_bash_values(script, command->options);
    addf(script, "        *) ");
    add_bash_words(script,
                   command->positionals[0].name ? command->positionals[0].type : CH_CLI_TEXT,
                   command->positionals[0].choices);
    addf(script, " ;;\n        esac ;;\n");
}

static void add_bash(struct script *script)
{
    addf(script,
         "# bash completion for chaperone, made by `chaperone completion bash`\n"
         "_chaperone() {\n"
         "    local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
         "    local words= flags= files= value= command= noun= skip= i\n"
         "    local globals=\"");
    add_flags(script, ch_cli_globals);
    addf(script,
         "\"\n"
         "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "        if [[ -n $skip ]]; then skip=; continue; fi\n"
         "        case \"${COMP_WORDS[i]}\" in\n"
         "        --config|--output|-o) skip=1 ;;\n"
         "        -*) ;;\n"
         "        *) if [[ -z $noun ]]; then noun=\"${COMP_WORDS[i]}\"\n"
         "           elif [[ -z $command ]]; then command=\"$noun ${COMP_WORDS[i]}\"; fi ;;\n"
         "        esac\n"
         "    done\n"
         "    case \"$noun\" in\n"
         "    '') words=\"");
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        if (is_first_of_noun(c))
            addf(script, " %s", c->noun);
    addf(script, "\" flags=\"$globals\" ;;\n");
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++) {
        if (!is_first_of_noun(c))
            continue;
        if (!c->verb) {
            addf(script, "    %s) command=%s ;;\n", c->noun, c->noun);
            continue;
        }
        addf(script, "    %s) [[ -z $command ]] && words=\"", c->noun);
        add_verbs(script, c->noun);
        addf(script, "\" flags=\"$globals\" ;;\n");
    }
    addf(script, "    esac\n    case \"$command\" in\n");
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        add_bash_command(script, c);
    addf(script, "    esac\n    case \"$prev\" in\n");
    add_bash_values(script, ch_cli_globals);
    addf(script, "    esac\n"
                 "    [[ -z $value && $cur == -* ]] && words=$flags files=\n"
                 "    COMPREPLY=($(compgen $files -W \"$words\" -- \"$cur\"))\n"
                 "}\n"
                 "complete -o filenames -F _chaperone chaperone\n");
}

// ---- zsh

// Inside a zsh spec in single quotes: brackets and colons are syntax, quotes end the word.
static void add_zsh_text(struct script *script, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            addf(script, "'\\''");
        else if (strchr("[]:\\", *text))
            addf(script, "\\%c", *text);
        else
            addf(script, "%c", *text);
    }
}

static void add_zsh_action(struct script *script, enum ch_cli_type type, const char *choices)
{
    switch (type) {
    case CH_CLI_CHOICE:
        addf(script, "(%s)", choices);
        break;
    case CH_CLI_KEY:
        addf(script, "_chaperone_keys");
        break;
    case CH_CLI_PROVIDER:
        addf(script, "_chaperone_providers");
        break;
    case CH_CLI_FILE:
        addf(script, "_files");
        break;
    case CH_CLI_DIR:
        addf(script, "_files -/");
        break;
    case CH_CLI_FLAG:
    case CH_CLI_TEXT:
    case CH_CLI_INT:
    case CH_CLI_PAIR:
        addf(script, " ");
        break;
    }
}

static void add_zsh_option(struct script *script, const struct ch_cli_option *option)
{
    addf(script, " '%s--%s[", option->is_repeatable ? "*" : "", option->name);
    add_zsh_text(script, option->help);
    addf(script, "]");
    if (option->type != CH_CLI_FLAG) {
        addf(script, ":%s:", option->value);
        add_zsh_action(script, option->type, option->choices);
    }
    addf(script, "'");
}

static void add_zsh_options(struct script *script, const struct ch_cli_option *options)
{
    for (; options && options->name; options++)
        add_zsh_option(script, options);
}

static void add_zsh_command(struct script *script, const struct ch_cli_command *command)
{
    addf(script, "    '%s%s%s') _arguments $globals", command->noun, command->verb ? " " : "",
         command->verb ? command->verb : "");
    add_zsh_options(script, command->options);
    for (size_t i = 0; i < CH_CLI_POSITIONALS_MAX && command->positionals[i].name; i++) {
        const struct ch_cli_positional *positional = &command->positionals[i];
        addf(script, " ':%s%s:", positional->is_optional ? ":" : "", positional->name);
        add_zsh_action(script, positional->type, positional->choices);
        addf(script, "'");
    }
    addf(script, " ;;\n");
}

static void add_zsh_entry(struct script *script, const char *word, const char *summary)
{
    addf(script, " '%s:", word);
    add_zsh_text(script, summary);
    addf(script, "'");
}

static void add_zsh(struct script *script)
{
    addf(script, "#compdef chaperone\n# made by `chaperone completion zsh`\n"
                 "_chaperone_keys() { compadd -- ${(f)\"$(" LIST_KEYS ")\"} }\n"
                 "_chaperone_providers() { compadd -- ${(f)\"$(" LIST_PROVIDERS ")\"} }\n"
                 "_chaperone() {\n    local -a nouns verbs globals\n    globals=(");
    add_zsh_options(script, ch_cli_globals);
    addf(script, ")\n    nouns=(");
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        if (is_first_of_noun(c))
            add_zsh_entry(script, c->noun, c->verb ? "its commands" : c->summary);
    addf(script, ")\n    if ((CURRENT == 2)); then _describe command nouns; return; fi\n"
                 "    local command=$words[2]\n    case $command in\n");
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++) {
        if (!c->verb || !is_first_of_noun(c))
            continue;
        addf(script, "    %s) verbs=(", c->noun);
        for (const struct ch_cli_command *v = c; v->noun && strcmp(v->noun, c->noun) == 0; v++)
            add_zsh_entry(script, v->verb, v->summary);
        addf(script, ")\n"
                     "        if ((CURRENT == 3)); then _describe command verbs; return; fi\n"
                     "        command=\"$command $words[3]\"\n"
                     "        shift words; ((CURRENT--)) ;;\n");
    }
    addf(script, "    esac\n    shift words; ((CURRENT--))\n    case $command in\n");
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        add_zsh_command(script, c);
    addf(script, "    esac\n}\ncompdef _chaperone chaperone\n");
}

// ---- fish

static void add_fish_text(struct script *script, const char *text)
{
    for (; *text; text++)
        addf(script, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
}

static void add_fish_condition(struct script *script, const struct ch_cli_command *command)
{
    addf(script, "complete -c chaperone");
    if (command)
        addf(script, " -n '__chaperone_is %s%s%s'", command->noun, command->verb ? " " : "",
             command->verb ? command->verb : "");
}

static void add_fish_values(struct script *script, enum ch_cli_type type, const char *choices)
{
    switch (type) {
    case CH_CLI_CHOICE:
        addf(script, " -f -a '%s'", choices);
        break;
    case CH_CLI_KEY:
        addf(script, " -f -a '(" LIST_KEYS ")'");
        break;
    case CH_CLI_PROVIDER:
        addf(script, " -f -a '(" LIST_PROVIDERS ")'");
        break;
    case CH_CLI_FILE:
    case CH_CLI_DIR:
        addf(script, " -F");
        break;
    case CH_CLI_FLAG:
    case CH_CLI_TEXT:
    case CH_CLI_INT:
    case CH_CLI_PAIR:
        addf(script, " -f");
        break;
    }
}

static void add_fish_options(struct script *script, const struct ch_cli_command *command,
                             const struct ch_cli_option *options)
{
    for (; options && options->name; options++) {
        add_fish_condition(script, command);
        addf(script, " -l %s", options->name);
        if (options->letter)
            addf(script, " -s %c", options->letter);
        if (options->type != CH_CLI_FLAG) {
            addf(script, " -r");
            add_fish_values(script, options->type, options->choices);
        }
        addf(script, " -d '");
        add_fish_text(script, options->help);
        addf(script, "'\n");
    }
}

static void add_fish_word(struct script *script, const char *noun, const char *word,
                          const char *summary)
{
    addf(script, "complete -c chaperone -f -n '__chaperone_only %s' -a %s -d '", noun, word);
    add_fish_text(script, summary);
    addf(script, "'\n");
}

static void add_fish(struct script *script)
{
    addf(script, "# fish completion for chaperone, made by `chaperone completion fish`\n"
                 "function __chaperone_only\n"
                 "    set -l words (string match -v -- '-*' (commandline -opc)[2..])\n"
                 "    test \"$words\" = \"$argv\"\n"
                 "end\n"
                 "function __chaperone_is\n"
                 "    set -l words (string match -v -- '-*' (commandline -opc)[2..])\n"
                 "    test \"$words[1..$(count $argv)]\" = \"$argv\"\n"
                 "end\n"
                 "complete -c chaperone -f\n");
    add_fish_options(script, NULL, ch_cli_globals);
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++) {
        if (is_first_of_noun(c))
            add_fish_word(script, "", c->noun, c->verb ? "its commands" : c->summary);
        if (c->verb)
            add_fish_word(script, c->noun, c->verb, c->summary);
        add_fish_options(script, c, c->options);
        if (c->positionals[0].name) {
            add_fish_condition(script, c);
            add_fish_values(script, c->positionals[0].type, c->positionals[0].choices);
            addf(script, "\n");
        }
    }
}

enum ch_err ch_cli_completion(struct ch_buf *out, const char *shell)
{
    static const struct {
        const char *name;
        void (*add)(struct script *script);
    } shells[] = {{"bash", add_bash}, {"zsh", add_zsh}, {"fish", add_fish}};
    struct script script = {.out = out};
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (strcmp(shells[i].name, shell) == 0) {
            shells[i].add(&script);
            return script.err;
        }
    return CH_ERR_NOT_FOUND;
}
