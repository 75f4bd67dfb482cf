// SPDX-License-Identifier: Apache-2.0
// OpenAI: chat completions, completions, responses, embeddings, moderations, models. Images and
// sound stand in script_media.c.
#include "script.h"

#define DATA(json) "data: " json "\n\n"
#define EVENT(name, json)                                                                          \
    "event: " name "\ndata: {'type':'" name "','sequence_number':<seq>," json "}\n\n"

#define CHAT_USAGE                                                                                 \
    "{'prompt_tokens':<input>,'completion_tokens':<output>,'total_tokens':<total>,"                \
    "'prompt_tokens_details':{'cached_tokens':<cached>,'cache_write_tokens':<write>,"              \
    "'audio_tokens':0},'completion_tokens_details':{'reasoning_tokens':<reasoning>,"               \
    "'audio_tokens':0,'accepted_prediction_tokens':0,'rejected_prediction_tokens':0}}"

#define CHAT_HEAD(object)                                                                          \
    "{'id':'<full_id>','object':'" object "','created':<created>,'model':'<model>',"               \
    "'service_tier':'<tier>','system_fingerprint':'fp_sandbox','choices':"
#define CHAT_PLAIN(message, finish)                                                                \
    CHAT_HEAD("chat.completion")                                                                   \
    "[{'index':0,'message':{'role':'assistant'," message                                           \
    "},'logprobs':null,'finish_reason':'" finish "'}]<?usage>,'usage':" CHAT_USAGE "<?>}"
// With usage asked for, every chunk but the last says that it has none yet.
#define CHAT_CHUNK(delta, finish)                                                                  \
    DATA(CHAT_HEAD("chat.completion.chunk") "[{'index':0,'delta':{" delta                          \
                                            "},'logprobs':null,'finish_reason':" finish            \
                                            "}]<?usage_asked>,'usage':null<?>}")
#define CHAT_LAST                                                                                  \
    "<?usage_asked>" DATA(CHAT_HEAD("chat.completion.chunk") "[],'usage':" CHAT_USAGE "}") "<?>"
#define STOP "<!truncated>stop<?><?truncated>length<?>"

static const struct ch_script_text chat = {
    .id_prefix = "chatcmpl-",
    .plain = CHAT_PLAIN("'content':'<content>','refusal':null,'annotations':[]", STOP),
    .usage = CHAT_USAGE,
    .lead = {CHAT_CHUNK("'role':'assistant','content':'','refusal':null", "null")},
    .piece = CHAT_CHUNK("'content':'<content>'", "null"),
    .trail = {CHAT_CHUNK("", "'" STOP "'"), CHAT_LAST, DATA("[DONE]")},
};

#define TOOL_CALL(arguments)                                                                       \
    "'tool_calls':[{'id':'call_<id>','type':'function','function':{'name':'<tool>',"               \
    "'arguments':'" arguments "'}}]"

static const struct ch_script_text chat_tool = {
    .id_prefix = "chatcmpl-",
    .plain = CHAT_PLAIN("'content':null,'refusal':null," TOOL_CALL("<content>"), "tool_calls"),
    .usage = CHAT_USAGE,
    .lead = {CHAT_CHUNK(
        "'role':'assistant','content':null,'tool_calls':[{'index':0,'id':'call_<id>',"
        "'type':'function','function':{'name':'<tool>','arguments':''}}]",
        "null")},
    .piece = CHAT_CHUNK("'tool_calls':[{'index':0,'function':{'arguments':'<content>'}}]", "null"),
    .trail = {CHAT_CHUNK("", "'tool_calls'"), CHAT_LAST, DATA("[DONE]")},
};

#define COMPLETION_HEAD                                                                            \
    "{'id':'<full_id>','object':'text_completion','created':<created>,'model':'<model>',"          \
    "'system_fingerprint':'fp_sandbox','choices':"
#define COMPLETION(text, finish)                                                                   \
    COMPLETION_HEAD "[{'text':'" text "','index':0,'logprobs':null,'finish_reason':" finish "}]"

static const struct ch_script_text completion = {
    .id_prefix = "cmpl-",
    .plain = COMPLETION("<content>", "'" STOP "'") "<?usage>,'usage':" CHAT_USAGE "<?>}",
    .usage = CHAT_USAGE,
    .piece = DATA(COMPLETION("<content>", "null") "<?usage_asked>,'usage':null<?>}"),
    .trail = {DATA(COMPLETION("", "'" STOP "'") "<?usage_asked>,'usage':null<?>}"),
              "<?usage_asked>" DATA(COMPLETION_HEAD "[],'usage':" CHAT_USAGE "}") "<?>",
              DATA("[DONE]")},
};

#define RESPONSE_USAGE                                                                             \
    "{'input_tokens':<input>,'input_tokens_details':{'cached_tokens':<cached>,"                    \
    "'cache_write_tokens':<write>},'output_tokens':<output>,'output_tokens_details':{"             \
    "'reasoning_tokens':<reasoning>},'total_tokens':<total>}"
#define RESPONSE(status, incomplete, output, usage)                                                \
    "{'id':'<full_id>','object':'response','created_at':<created>,'status':'" status               \
    "','background':false,'error':null,'incomplete_details':" incomplete                           \
    ",'instructions':null,'max_output_tokens':null,'max_tool_calls':null,'model':'<model>',"       \
    "'output':[" output "],'parallel_tool_calls':true,'previous_response_id':null,"                \
    "'prompt_cache_key':null,'reasoning':{'effort':null,'summary':null},"                          \
    "'safety_identifier':null,'service_tier':'<tier>','store':true,'temperature':1.0,"             \
    "'text':{'format':{'type':'text'},'verbosity':'medium'},'tool_choice':'auto','tools':[],"      \
    "'top_logprobs':0,'top_p':1.0,'truncation':'disabled','usage':" usage                          \
    ",'user':null,'metadata':{}}"
#define RESPONSE_BEGUN RESPONSE("in_progress", "null", "", "null")
#define RESPONSE_DONE(output)                                                                      \
    RESPONSE("<!truncated>completed<?><?truncated>incomplete<?>",                                  \
             "<!truncated>null<?><?truncated>{'reason':'max_output_tokens'}<?>",                   \
             REASONING_THEN output, "<?usage>" RESPONSE_USAGE "<?><!usage>null<?>")

#define REASONING      "{'id':'rs_<id>','type':'reasoning','summary':[]}"
#define REASONING_THEN "<?reasoning>" REASONING ",<?>"
#define INDEX          "'output_index':<?reasoning>1<?><!reasoning>0<?>"
#define PART(text)     "{'type':'output_text','annotations':[],'logprobs':[],'text':'" text "'}"
#define MESSAGE(status, c)                                                                         \
    "{'id':'msg_<id>','type':'message','status':'" status "','role':'assistant','content':[" c "]" \
    "}"
#define MESSAGE_DONE MESSAGE("<!truncated>completed<?><?truncated>incomplete<?>", PART("<content>"))
#define CALL(status, arguments)                                                                    \
    "{'id':'fc_<id>','type':'function_call','status':'" status                                     \
    "','call_id':'call_<id>','name':'<tool>','arguments':'" arguments "'}"

#define RESPONSE_LEAD                                                                              \
    EVENT("response.created", "'response':" RESPONSE_BEGUN),                                       \
        EVENT("response.in_progress", "'response':" RESPONSE_BEGUN),                               \
        "<?reasoning>" EVENT("response.output_item.added",                                         \
                             "'output_index':0,'item':" REASONING) "<?>",                          \
        "<?reasoning>" EVENT("response.output_item.done",                                          \
                             "'output_index':0,'item':" REASONING) "<?>"
#define RESPONSE_LAST(output)                                                                      \
    "<!truncated>" EVENT("response.completed", "'response':" RESPONSE_DONE(output)) "<?>",         \
        "<?truncated>" EVENT("response.incomplete", "'response':" RESPONSE_DONE(output)) "<?>"

static const struct ch_script_text response = {
    .id_prefix = "resp_",
    .plain = RESPONSE_DONE(MESSAGE_DONE),
    .usage = RESPONSE_USAGE,
    .lead = {RESPONSE_LEAD,
             EVENT("response.output_item.added", INDEX ",'item':" MESSAGE("in_progress", "")),
             EVENT("response.content_part.added",
                   "'item_id':'msg_<id>'," INDEX ",'content_index':0,'part':" PART(""))},
    .piece = EVENT("response.output_text.delta",
                   "'item_id':'msg_<id>'," INDEX ",'content_index':0,'delta':'<content>',"
                   "'logprobs':[]"),
    .trail = {EVENT("response.output_text.done",
                    "'item_id':'msg_<id>'," INDEX ",'content_index':0,'text':'<content>',"
                    "'logprobs':[]"),
              EVENT("response.content_part.done",
                    "'item_id':'msg_<id>'," INDEX ",'content_index':0,'part':" PART("<content>")),
              EVENT("response.output_item.done", INDEX ",'item':" MESSAGE_DONE),
              RESPONSE_LAST(MESSAGE_DONE)},
};

static const struct ch_script_text response_tool = {
    .id_prefix = "resp_",
    .plain = RESPONSE_DONE(CALL("completed", "<content>")),
    .usage = RESPONSE_USAGE,
    .lead = {RESPONSE_LEAD,
             EVENT("response.output_item.added", INDEX ",'item':" CALL("in_progress", ""))},
    .piece = EVENT("response.function_call_arguments.delta",
                   "'item_id':'fc_<id>'," INDEX ",'delta':'<content>'"),
    .trail = {EVENT("response.function_call_arguments.done",
                    "'item_id':'fc_<id>'," INDEX ",'name':'<tool>','arguments':'<content>'"),
              EVENT("response.output_item.done", INDEX ",'item':" CALL("completed", "<content>")),
              RESPONSE_LAST(CALL("completed", "<content>"))},
};

static const struct ch_script_text compaction = {
    .id_prefix = "resp_",
    .plain = "{'id':'<full_id>','object':'response.compaction','created_at':<created>,'output':["
             "{'id':'cmp_<id>','type':'compaction','encrypted_content':'c2FuZGJveA=='}],"
             "'usage':<?usage>" RESPONSE_USAGE "<?><!usage>null<?>}",
    .usage = RESPONSE_USAGE,
};

static const struct ch_script_text input_tokens = {
    .id_prefix = "",
    .plain = "{'object':'response.input_tokens','input_tokens':<input>}",
};

static const struct ch_script_text embeddings = {
    .id_prefix = "",
    .plain = "{'object':'list','data':[<items>],'model':'<model>'"
             "<?usage>,'usage':{'prompt_tokens':<input>,'total_tokens':<input>}<?>}",
    .usage = "{'prompt_tokens':<input>,'total_tokens':<input>}",
};

#define CATEGORIES(value)                                                                          \
    "{'sexual':" value ",'sexual/minors':" value ",'harassment':" value                            \
    ",'harassment/threatening':" value ",'hate':" value ",'hate/threatening':" value               \
    ",'illicit':" value ",'illicit/violent':" value ",'self-harm':" value                          \
    ",'self-harm/intent':" value ",'self-harm/instructions':" value ",'violence':" value           \
    ",'violence/graphic':" value "}"

static const struct ch_script_text moderations = {
    .id_prefix = "modr-",
    .plain = "{'id':'<full_id>','model':'<model>','results':[{'flagged':false,'categories'"
             ":" CATEGORIES("false") ",'category_scores':" CATEGORIES(
                 "0.0001") ",'category_applied_input_types':" CATEGORIES("['text']") "}]}",
};

#define MODEL(name) "{'id':'" name "','object':'model','created':1735689600,'owned_by':'sandbox'}"

static const struct ch_script_text models = {
    .id_prefix = "",
    .plain = "<?model>" MODEL("<model>") "<?><!model>{'object':'list','data':[" MODEL(
        "gpt-4o") "," MODEL("gpt-4o-mini") "," MODEL("o3-mini") "," MODEL("text-embedding-3-"
                                                                          "small") "]}<?>",
};

const struct ch_script_text *ch_script_openai(enum ch_endpoint endpoint, bool calls_tool)
{
    switch (endpoint) {
    case CH_ENDPOINT_CHAT_COMPLETIONS:
        return calls_tool ? &chat_tool : &chat;
    case CH_ENDPOINT_COMPLETIONS:
        return &completion;
    case CH_ENDPOINT_RESPONSES:
        return calls_tool ? &response_tool : &response;
    case CH_ENDPOINT_RESPONSES_INPUT_TOKENS:
        return &input_tokens;
    case CH_ENDPOINT_EMBEDDINGS:
        return &embeddings;
    case CH_ENDPOINT_MODERATIONS:
        return &moderations;
    case CH_ENDPOINT_MODELS:
        return &models;
    case CH_ENDPOINT_RESPONSES_COMPACT:
        return &compaction;
    case CH_ENDPOINT_IMAGES_GENERATIONS:
    case CH_ENDPOINT_IMAGES_EDITS:
    case CH_ENDPOINT_IMAGES_VARIATIONS:
    case CH_ENDPOINT_AUDIO_TRANSCRIPTIONS:
    case CH_ENDPOINT_AUDIO_TRANSLATIONS:
    case CH_ENDPOINT_AUDIO_SPEECH:
        return ch_script_media(endpoint);
    case CH_ENDPOINT_NONE:
    case CH_ENDPOINT_MESSAGES:
    case CH_ENDPOINT_COUNT_TOKENS:
    case CH_ENDPOINT_GENERATE_CONTENT:
    case CH_ENDPOINT_STREAM_GENERATE_CONTENT:
    case CH_ENDPOINT_EMBED_CONTENT:
    case CH_ENDPOINT_BATCH_EMBED_CONTENTS:
        return NULL;
    }
    return NULL;
}
