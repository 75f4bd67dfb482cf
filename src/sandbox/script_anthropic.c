// SPDX-License-Identifier: Apache-2.0
// Anthropic: messages, count_tokens, models.
#include "script.h"

#define EVENT(name, json) "event: " name "\ndata: {'type':'" name "'" json "}\n\n"

#define INPUT_USAGE                                                                                \
    "'input_tokens':<uncached>,'cache_creation_input_tokens':<write>,"                             \
    "'cache_read_input_tokens':<cached>"
#define OUTPUT_USAGE                                                                               \
    "'output_tokens':<output>,'output_tokens_details':{'thinking_tokens':<reasoning>},"            \
    "'server_tool_use':null"
#define SPLIT                                                                                      \
    "'cache_creation':{'ephemeral_5m_input_tokens':<write_5m>,"                                    \
    "'ephemeral_1h_input_tokens':<write_1h>}"
#define USAGE "{" INPUT_USAGE "," SPLIT "," OUTPUT_USAGE ",'service_tier':'standard'}"
// What a stream states first: the whole input, and a placeholder for the output.
#define START_USAGE "{" INPUT_USAGE "," SPLIT ",'output_tokens':1,'service_tier':'standard'}"

#define HEAD        "{'id':'<full_id>','type':'message','role':'assistant','model':'<model>','content':["
#define DOCUMENT(content, stop)                                                                    \
    HEAD THINKING_THEN content "],'stop_reason':'" stop                                            \
                               "','stop_sequence':null<?usage>,'usage':" USAGE "<?>}"

#define THOUGHT   "Let me think about that for a moment."
#define SIGNATURE "c2FuZGJveC1zaWduYXR1cmU="
#define THINKING_THEN                                                                              \
    "<?reasoning>{'type':'thinking','thinking':'" THOUGHT "','signature':'" SIGNATURE "'},<?>"

#define BLOCK_START(index, block)                                                                  \
    EVENT("content_block_start", ",'index':" index ",'content_block':" block)
#define BLOCK_DELTA(index, delta) EVENT("content_block_delta", ",'index':" index ",'delta':" delta)
#define BLOCK_STOP(index)         EVENT("content_block_stop", ",'index':" index)
#define INDEX                     "<?reasoning>1<?><!reasoning>0<?>"

#define LEAD(block)                                                                                \
    EVENT("message_start", ",'message':" HEAD "],'stop_reason':null,'stop_sequence':null"          \
                           "<?usage>,'usage':" START_USAGE "<?>}"),                                \
        "<?reasoning>" BLOCK_START("0", "{'type':'thinking','thinking':'','signature':''}") "<?>", \
        "<?reasoning>" BLOCK_DELTA("0",                                                            \
                                   "{'type':'thinking_delta','thinking':'" THOUGHT "'}") "<?>",    \
        "<?reasoning>" BLOCK_DELTA("0", "{'type':'signature_delta','signature':'" SIGNATURE        \
                                        "'}") "<?>",                                               \
        "<?reasoning>" BLOCK_STOP("0") "<?>", BLOCK_START(INDEX, block), EVENT("ping", "")
#define TRAIL(stop)                                                                                \
    BLOCK_STOP(INDEX),                                                                             \
        EVENT("message_delta", ",'delta':{'stop_reason':'" stop "','stop_sequence':null}"          \
                               "<?usage>,'usage':{" INPUT_USAGE "," OUTPUT_USAGE "}<?>"),          \
        EVENT("message_stop", "")
#define END_TURN "<!truncated>end_turn<?><?truncated>max_tokens<?>"

static const struct ch_script_text message = {
    .id_prefix = "msg_",
    .plain = DOCUMENT("{'type':'text','text':'<content>','citations':null}", END_TURN),
    .usage = USAGE,
    .lead = {LEAD("{'type':'text','text':'','citations':null}")},
    .piece = BLOCK_DELTA(INDEX, "{'type':'text_delta','text':'<content>'}"),
    .trail = {TRAIL(END_TURN)},
};

#define TOOL_USE(input) "{'type':'tool_use','id':'toolu_<id>','name':'<tool>','input':" input "}"

static const struct ch_script_text message_tool = {
    .id_prefix = "msg_",
    .plain = DOCUMENT(TOOL_USE("{'city':'Paris'}"), "tool_use"),
    .usage = USAGE,
    .lead = {LEAD(TOOL_USE("{}"))},
    .piece = BLOCK_DELTA(INDEX, "{'type':'input_json_delta','partial_json':'<content>'}"),
    .trail = {TRAIL("tool_use")},
};

static const struct ch_script_text count_tokens = {
    .id_prefix = "",
    .plain = "{'input_tokens':<input>}",
};

#define MODEL(name)                                                                                \
    "{'type':'model','id':'" name "','display_name':'" name "','created_at':'2025-01-01T00:00:"    \
    "00Z'}"

static const struct ch_script_text models = {
    .id_prefix = "",
    .plain = "<?model>" MODEL("<model>") "<?><!model>{'data':[" MODEL("claude-opus-4-5") "," MODEL(
        "claude-sonnet-4-5") "],'has_more':false,'first_id':'claude-opus-4-5',"
                             "'last_id':'claude-sonnet-4-5'}<?>",
};

const struct ch_script_text *ch_script_anthropic(enum ch_endpoint endpoint, bool calls_tool)
{
    switch (endpoint) {
    case CH_ENDPOINT_MESSAGES:
        return calls_tool ? &message_tool : &message;
    case CH_ENDPOINT_COUNT_TOKENS:
        return &count_tokens;
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
    case CH_ENDPOINT_GENERATE_CONTENT:
    case CH_ENDPOINT_STREAM_GENERATE_CONTENT:
    case CH_ENDPOINT_EMBED_CONTENT:
    case CH_ENDPOINT_BATCH_EMBED_CONTENTS:
        return NULL;
    }
    return NULL;
}
