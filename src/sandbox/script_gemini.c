// SPDX-License-Identifier: Apache-2.0
// Gemini: generateContent, streamGenerateContent, countTokens, embedContent, batchEmbedContents,
// models. How the chunks of a stream are put together (events, or the elements of an array) is the
// session's work.
#include "script.h"

// Counts that are zero are left out, as Google does.
#define INPUT_USAGE                                                                                \
    "'promptTokenCount':<input><?cached>,'cachedContentTokenCount':<cached><?>,"                   \
    "'promptTokensDetails':[{'modality':'TEXT','tokenCount':<input>}]"                             \
    "<?cached>,'cacheTokensDetails':[{'modality':'TEXT','tokenCount':<cached>}]<?>"
#define USAGE                                                                                      \
    "{" INPUT_USAGE ",'candidatesTokenCount':<text>"                                               \
    "<?reasoning>,'thoughtsTokenCount':<reasoning><?>,'totalTokenCount':<total>,"                  \
    "'candidatesTokensDetails':[{'modality':'TEXT','tokenCount':<text>}],"                         \
    "'serviceTier':'standard'}"
// Early chunks know the input only.
#define START_USAGE "{" INPUT_USAGE ",'totalTokenCount':<input>}"

#define CHUNK(part, finish, usage)                                                                 \
    "{'candidates':[{'content':{'parts':[" part "],'role':'model'}" finish                         \
    ",'index':0}]<?usage>,'usageMetadata':" usage "<?>,'modelVersion':'<model>',"                  \
    "'responseId':'<id>'}"
#define STOP    ",'finishReason':'<!truncated>STOP<?><?truncated>MAX_TOKENS<?>'"
#define TEXT    "{'text':'<content>'}"
#define TOOL    "{'functionCall':{'name':'<tool>','args':{'city':'Paris'}}}"
#define NO_TEXT "{'text':''}"

static const struct ch_script_text generate = {
    .id_prefix = "",
    .plain = CHUNK(TEXT, STOP, USAGE),
    .usage = USAGE,
    .piece = CHUNK(TEXT, "", START_USAGE),
    .trail = {CHUNK(NO_TEXT, STOP, USAGE)},
};

// A call comes whole, in the last chunk.
static const struct ch_script_text generate_tool = {
    .id_prefix = "",
    .plain = CHUNK(TOOL, STOP, USAGE),
    .usage = USAGE,
    .piece = "",
    .trail = {CHUNK(TOOL, STOP, USAGE)},
};

static const struct ch_script_text count_tokens = {
    .id_prefix = "",
    .plain = "{'totalTokens':<input>,'promptTokensDetails':[{'modality':'TEXT',"
             "'tokenCount':<input>}]}",
};

static const struct ch_script_text embed = {
    .id_prefix = "",
    .plain = "{'embedding':<items>}",
};

static const struct ch_script_text batch_embed = {
    .id_prefix = "",
    .plain = "{'embeddings':[<items>]}",
};

#define MODEL(name)                                                                                \
    "{'name':'models/" name "','version':'001','displayName':'" name "',"                          \
    "'inputTokenLimit':1048576,'outputTokenLimit':65536,"                                          \
    "'supportedGenerationMethods':['generateContent','streamGenerateContent','countTokens']}"

static const struct ch_script_text models = {
    .id_prefix = "",
    .plain = "<?model>" MODEL("<model>") "<?><!model>{'models':[" MODEL(
        "gemini-2.5-flash") "," MODEL("gemini-2.5-pro") "]}<?>",
};

const struct ch_script_text *ch_script_gemini(enum ch_endpoint endpoint, bool calls_tool)
{
    switch (endpoint) {
    case CH_ENDPOINT_GENERATE_CONTENT:
    case CH_ENDPOINT_STREAM_GENERATE_CONTENT:
        return calls_tool ? &generate_tool : &generate;
    case CH_ENDPOINT_COUNT_TOKENS:
        return &count_tokens;
    case CH_ENDPOINT_EMBED_CONTENT:
        return &embed;
    case CH_ENDPOINT_BATCH_EMBED_CONTENTS:
        return &batch_embed;
    case CH_ENDPOINT_MODELS:
        return &models;
    case CH_ENDPOINT_NONE:
    case CH_ENDPOINT_RESPONSES_COMPACT:
    case CH_ENDPOINT_IMAGES_GENERATIONS:
    case CH_ENDPOINT_IMAGES_EDITS:
    case CH_ENDPOINT_IMAGES_VARIATIONS:
    case CH_ENDPOINT_AUDIO_TRANSCRIPTIONS:
    case CH_ENDPOINT_AUDIO_TRANSLATIONS:
    case CH_ENDPOINT_AUDIO_SPEECH:
    case CH_ENDPOINT_CHAT_COMPLETIONS:
    case CH_ENDPOINT_COMPLETIONS:
    case CH_ENDPOINT_RESPONSES:
    case CH_ENDPOINT_RESPONSES_INPUT_TOKENS:
    case CH_ENDPOINT_EMBEDDINGS:
    case CH_ENDPOINT_MODERATIONS:
    case CH_ENDPOINT_MESSAGES:
        return NULL;
    }
    return NULL;
}
