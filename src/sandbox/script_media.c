// SPDX-License-Identifier: Apache-2.0
// OpenAI: images, transcriptions, translations, speech.
#include "script.h"

#define EVENT(name, json) "event: " name "\ndata: {'type':'" name "'," json "}\n\n"

#define IMAGES_USAGE                                                                               \
    "{'input_tokens':<input>,'input_tokens_details':{'text_tokens':<uncached>,"                    \
    "'image_tokens':<image_in>},'output_tokens':<output>,'total_tokens':<total>}"
#define IMAGES_PLAIN                                                                               \
    "{'created':<created>,<!by_unit>'background':'opaque','output_format':'png',"                  \
    "'quality':'<quality>','size':'<dimensions>',<?>'data':[<items>]<?usage>,'usage'"              \
    ":" IMAGES_USAGE "<?>}"
#define IMAGE_EVENT(name, rest)                                                                    \
    EVENT(name, "'b64_json':'" CH_SANDBOX_PNG "','background':'opaque','created_at':<created>,"    \
                "'output_format':'png','quality':'<quality>','size':'<dimensions>'" rest)
#define IMAGE_STREAM(name)                                                                         \
    .lead = {IMAGE_EVENT(name ".partial_image", ",'partial_image_index':0")},                      \
    .piece = IMAGE_EVENT(name ".completed", "<?usage>,'usage':" IMAGES_USAGE "<?>")

static const struct ch_script_text generations = {
    .id_prefix = "",
    .plain = IMAGES_PLAIN,
    .usage = IMAGES_USAGE,
    IMAGE_STREAM("image_generation"),
};

static const struct ch_script_text edits = {
    .id_prefix = "",
    .plain = IMAGES_PLAIN,
    .usage = IMAGES_USAGE,
    IMAGE_STREAM("image_edit"),
};

static const struct ch_script_text variations = {
    .id_prefix = "",
    .plain = IMAGES_PLAIN,
    .usage = IMAGES_USAGE,
};

#define TRANSCRIPT_TOKENS                                                                          \
    "{'type':'tokens','input_tokens':<input>,'input_token_details':{'text_tokens':<uncached>,"     \
    "'audio_tokens':<audio_in>},'output_tokens':<output>,'total_tokens':<total>}"
#define TRANSCRIPT_USAGE                                                                           \
    "<?by_unit>{'type':'duration','seconds':<seconds>}<?><!by_unit>" TRANSCRIPT_TOKENS "<?>"

#define TRANSCRIPT_JSON(more) "{'text':'<content>'" more "<?usage>,'usage':" TRANSCRIPT_USAGE "<?>}"
#define VERBOSE(task)                                                                              \
    TRANSCRIPT_JSON(",'task':'" task "','language':'english','duration':<seconds>,'segments':[]")
#define BARE "<content>\n"
#define SRT  "1\n00:00:00,000 --> 00:00:01,000\n<content>\n\n"
#define VTT  "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n<content>\n\n"
#define TRANSCRIPT(task)                                                                           \
    "<?json>" TRANSCRIPT_JSON("") "<?><?verbose>" VERBOSE(task) "<?><?bare>" BARE "<?><?srt>" SRT  \
                                                                "<?><?vtt>" VTT "<?>"

static const struct ch_script_text transcriptions = {
    .id_prefix = "",
    .plain = TRANSCRIPT("transcribe"),
    .usage = TRANSCRIPT_USAGE,
    .piece = EVENT("transcript.text.delta", "'delta':'<content>'"),
    .trail = {EVENT("transcript.text.done",
                    "'text':'<content>'<?usage>,'usage':" TRANSCRIPT_USAGE "<?>")},
};

static const struct ch_script_text translations = {
    .id_prefix = "",
    .plain = TRANSCRIPT("translate"),
    .usage = TRANSCRIPT_USAGE,
};

#define SPEECH_USAGE "{'input_tokens':<input>,'output_tokens':<output>,'total_tokens':<total>}"

// The sound is words, behind what an MP3 begins with.
static const struct ch_script_text speech = {
    .id_prefix = "",
    .plain = "ID3<content>",
    .usage = SPEECH_USAGE,
    .piece = "data: {'type':'speech.audio.delta','audio':'SUQz'}\n\n",
    .trail = {"data: {'type':'speech.audio.done'<?usage>,'usage':" SPEECH_USAGE "<?>}\n\n"},
};

const struct ch_script_text *ch_script_media(enum ch_endpoint endpoint)
{
    if (endpoint == CH_ENDPOINT_IMAGES_GENERATIONS)
        return &generations;
    if (endpoint == CH_ENDPOINT_IMAGES_EDITS)
        return &edits;
    if (endpoint == CH_ENDPOINT_IMAGES_VARIATIONS)
        return &variations;
    if (endpoint == CH_ENDPOINT_AUDIO_TRANSCRIPTIONS)
        return &transcriptions;
    return endpoint == CH_ENDPOINT_AUDIO_TRANSLATIONS ? &translations : &speech;
}
