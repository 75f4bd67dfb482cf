// SPDX-License-Identifier: Apache-2.0
#include "usage_rules.h"

#define TEXT(path_, meaning_)                                                                      \
    {                                                                                              \
        .path = (path_), .meaning = (meaning_)                                                     \
    }
#define COUNT(path_, slot_)                                                                        \
    {                                                                                              \
        .path = (path_), .meaning = CH_MEANS_COUNT, .slot = (slot_)                                \
    }
#define AT(path_, what_, slot_)                                                                    \
    {                                                                                              \
        .path = (path_), .meaning = (what_), .slot = (slot_)                                       \
    }

#define SIDE(path_, slot_)                                                                         \
    {                                                                                              \
        .path = (path_), .meaning = CH_MEANS_SIDE_COUNT, .slot = (slot_)                           \
    }

// wire.md §2.1; with the additions of DeepSeek, OpenRouter, Groq and xAI, §2.6.
static const struct ch_usage_rule chat_rules[] = {
    TEXT("id", CH_MEANS_ID),
    TEXT("model", CH_MEANS_MODEL),
    TEXT("service_tier", CH_MEANS_TIER),
    TEXT("error", CH_MEANS_ERROR),
    TEXT("choices", CH_MEANS_CHOICES),
    TEXT("choices[]", CH_MEANS_CHOICE),
    TEXT("choices[].finish_reason", CH_MEANS_FINISH),
    TEXT("choices[].text", CH_MEANS_CONTENT),
    TEXT("choices[].delta.content", CH_MEANS_CONTENT),
    TEXT("choices[].delta.reasoning_content", CH_MEANS_CONTENT),
    TEXT("choices[].delta.reasoning", CH_MEANS_CONTENT),
    TEXT("choices[].delta.refusal", CH_MEANS_CONTENT),
    TEXT("choices[].delta.tool_calls[]", CH_MEANS_CONTENT),
    TEXT("choices[].delta.function_call", CH_MEANS_CONTENT),
    TEXT("choices[].delta.audio", CH_MEANS_CONTENT),
    TEXT("usage", CH_MEANS_USAGE),
    COUNT("usage.prompt_tokens", CH_SLOT_INPUT),
    COUNT("usage.completion_tokens", CH_SLOT_OUTPUT),
    COUNT("usage.total_tokens", CH_SLOT_TOTAL),
    COUNT("usage.prompt_tokens_details.cached_tokens", CH_SLOT_CACHED),
    COUNT("usage.prompt_tokens_details.cache_write_tokens", CH_SLOT_CACHE_WRITE),
    COUNT("usage.prompt_tokens_details.audio_tokens", CH_SLOT_AUDIO_IN),
    COUNT("usage.prompt_tokens_details.image_tokens", CH_SLOT_IMAGE_IN),
    COUNT("usage.completion_tokens_details.reasoning_tokens", CH_SLOT_REASONING),
    COUNT("usage.completion_tokens_details.audio_tokens", CH_SLOT_AUDIO_OUT),
    COUNT("usage.completion_tokens_details.image_tokens", CH_SLOT_IMAGE_OUT),
    COUNT("usage.prompt_cache_hit_tokens", CH_SLOT_CACHE_HIT),
    TEXT("usage.cost", CH_MEANS_COST),
    TEXT("usage.is_byok", CH_MEANS_BYOK),
    TEXT("usage.cost_details.upstream_inference_cost", CH_MEANS_UPSTREAM),
    TEXT("usage.cost_in_usd_ticks", CH_MEANS_TICKS),
    TEXT("x_groq.usage", CH_MEANS_X_USAGE),
    COUNT("x_groq.usage.prompt_tokens", CH_SLOT_INPUT),
    COUNT("x_groq.usage.completion_tokens", CH_SLOT_OUTPUT),
    COUNT("x_groq.usage.total_tokens", CH_SLOT_TOTAL),
    COUNT("x_groq.usage.prompt_tokens_details.cached_tokens", CH_SLOT_CACHED),
    COUNT("x_groq.usage.completion_tokens_details.reasoning_tokens", CH_SLOT_REASONING),
};

// wire.md §2.2: the object as a plain body, or inside an event.
#define RESPONSE_OBJECT(p)                                                                         \
    TEXT(p "id", CH_MEANS_STORED_ID), TEXT(p "output[].id", CH_MEANS_ITEM),                        \
        TEXT(p "output[].container_id", CH_MEANS_OBJECT),                                          \
        TEXT(p "output[].environment.container_id", CH_MEANS_OBJECT),                              \
        TEXT(p "model", CH_MEANS_MODEL), TEXT(p "service_tier", CH_MEANS_TIER),                    \
        TEXT(p "status", CH_MEANS_STATUS), TEXT(p "error", CH_MEANS_ERROR),                        \
        TEXT(p "usage", CH_MEANS_USAGE), COUNT(p "usage.input_tokens", CH_SLOT_INPUT),             \
        COUNT(p "usage.output_tokens", CH_SLOT_OUTPUT),                                            \
        COUNT(p "usage.total_tokens", CH_SLOT_TOTAL),                                              \
        COUNT(p "usage.input_tokens_details.cached_tokens", CH_SLOT_CACHED),                       \
        COUNT(p "usage.input_tokens_details.cache_write_tokens", CH_SLOT_CACHE_WRITE),             \
        COUNT(p "usage.output_tokens_details.reasoning_tokens", CH_SLOT_REASONING),                \
        COUNT(p "tool_usage.web_search.num_requests", CH_SLOT_SEARCHES),                           \
        TEXT(p "tools[].model", CH_MEANS_SIDE_MODEL),                                              \
        TEXT(p "tool_usage.image_gen", CH_MEANS_SIDE),                                             \
        SIDE(p "tool_usage.image_gen.input_tokens", CH_SLOT_INPUT),                                \
        SIDE(p "tool_usage.image_gen.output_tokens", CH_SLOT_OUTPUT),                              \
        SIDE(p "tool_usage.image_gen.input_tokens_details.image_tokens", CH_SLOT_IMAGE_IN),        \
        SIDE(p "tool_usage.image_gen.cached_tokens", CH_SLOT_CACHED),                              \
        TEXT(p "usage.cost", CH_MEANS_COST), TEXT(p "usage.is_byok", CH_MEANS_BYOK),               \
        TEXT(p "usage.cost_details.upstream_inference_cost", CH_MEANS_UPSTREAM),                   \
        TEXT(p "usage.cost_in_usd_ticks", CH_MEANS_TICKS)

static const struct ch_usage_rule responses_rules[] = {
    TEXT("type", CH_MEANS_TYPE),
    RESPONSE_OBJECT(""),
    RESPONSE_OBJECT("response."),
    TEXT("item.id", CH_MEANS_ITEM),
    TEXT("item.container_id", CH_MEANS_OBJECT),
    TEXT("item.environment.container_id", CH_MEANS_OBJECT),
};

// wire.md §2.3
static const struct ch_usage_rule embeddings_rules[] = {
    TEXT("model", CH_MEANS_MODEL),
    TEXT("error", CH_MEANS_ERROR),
    TEXT("usage", CH_MEANS_USAGE),
    COUNT("usage.prompt_tokens", CH_SLOT_INPUT),
    COUNT("usage.total_tokens", CH_SLOT_TOTAL),
    TEXT("usage.cost", CH_MEANS_COST),
};

// wire.md §2.4: a plain body and message_delta, or message_start.
#define ANTHROPIC_USAGE(p)                                                                         \
    AT(p "input_tokens", CH_MEANS_SUM, CH_SLOT_INPUT),                                             \
        AT(p "output_tokens", CH_MEANS_SUM, CH_SLOT_OUTPUT),                                       \
        AT(p "cache_read_input_tokens", CH_MEANS_SUM, CH_SLOT_CACHED),                             \
        AT(p "cache_creation_input_tokens", CH_MEANS_SUM, CH_SLOT_CACHE_WRITE),                    \
        AT(p "cache_creation.ephemeral_5m_input_tokens", CH_MEANS_SUM, CH_SLOT_CACHE_WRITE_5M),    \
        AT(p "cache_creation.ephemeral_1h_input_tokens", CH_MEANS_SUM, CH_SLOT_CACHE_WRITE_1H),    \
        COUNT(p "output_tokens_details.thinking_tokens", CH_SLOT_REASONING),                       \
        COUNT(p "server_tool_use.web_search_requests", CH_SLOT_SEARCHES),                          \
        TEXT(p "service_tier", CH_MEANS_TIER), TEXT(p "speed", CH_MEANS_SPEED),                    \
        TEXT(p "inference_geo", CH_MEANS_GEO)

static const struct ch_usage_rule anthropic_rules[] = {
    TEXT("type", CH_MEANS_TYPE),
    TEXT("error", CH_MEANS_ERROR),
    TEXT("id", CH_MEANS_STORED_ID),
    TEXT("model", CH_MEANS_MODEL),
    TEXT("message.id", CH_MEANS_STORED_ID),
    TEXT("message.model", CH_MEANS_MODEL),
    TEXT("container.id", CH_MEANS_OBJECT),
    TEXT("message.container.id", CH_MEANS_OBJECT),
    TEXT("delta.container.id", CH_MEANS_OBJECT),
    TEXT("delta.stop_reason", CH_MEANS_FINISH),
    TEXT("usage", CH_MEANS_USAGE), // not message_start's, whose output is a placeholder
    ANTHROPIC_USAGE("usage."),
    ANTHROPIC_USAGE("message.usage."),
    TEXT("usage.iterations", CH_MEANS_ITERATIONS),
    TEXT("usage.iterations[]", CH_MEANS_ITERATION),
    TEXT("usage.iterations[].type", CH_MEANS_ITERATION_TYPE),
    TEXT("usage.iterations[].model", CH_MEANS_SIDE_MODEL),
    AT("usage.iterations[].input_tokens", CH_MEANS_ITERATION_COUNT, CH_SLOT_INPUT),
    AT("usage.iterations[].output_tokens", CH_MEANS_ITERATION_COUNT, CH_SLOT_OUTPUT),
    AT("usage.iterations[].cache_read_input_tokens", CH_MEANS_ITERATION_COUNT, CH_SLOT_CACHED),
    AT("usage.iterations[].cache_creation_input_tokens", CH_MEANS_ITERATION_COUNT,
       CH_SLOT_CACHE_WRITE),
    AT("usage.iterations[].cache_creation.ephemeral_5m_input_tokens", CH_MEANS_ITERATION_COUNT,
       CH_SLOT_CACHE_WRITE_5M),
    AT("usage.iterations[].cache_creation.ephemeral_1h_input_tokens", CH_MEANS_ITERATION_COUNT,
       CH_SLOT_CACHE_WRITE_1H),
};

// wire.md §2.5: a plain body or an event, or an element of the array that streams without alt=sse.
#define MODALITIES(p, count, audio_slot)                                                           \
    AT(p, CH_MEANS_MODALITIES, audio_slot), TEXT(p "[]", CH_MEANS_MODALITY_ENTRY),                 \
        TEXT(p "[].modality", CH_MEANS_MODALITY), TEXT(p "[]." count, CH_MEANS_MODALITY_COUNT)

#define GEMINI_OBJECT(p)                                                                           \
    TEXT(p "modelVersion", CH_MEANS_MODEL), TEXT(p "responseId", CH_MEANS_ID),                     \
        TEXT(p "error", CH_MEANS_ERROR), TEXT(p "candidates[].finishReason", CH_MEANS_FINISH),     \
        TEXT(p "promptFeedback.blockReason", CH_MEANS_FINISH),                                     \
        TEXT(p "candidates[].content.parts[]", CH_MEANS_CONTENT),                                  \
        TEXT(p "candidates[].groundingMetadata.webSearchQueries[]", CH_MEANS_QUERY),               \
        TEXT(p "usageMetadata", CH_MEANS_USAGE),                                                   \
        COUNT(p "usageMetadata.promptTokenCount", CH_SLOT_INPUT),                                  \
        COUNT(p "usageMetadata.candidatesTokenCount", CH_SLOT_OUTPUT),                             \
        COUNT(p "usageMetadata.totalTokenCount", CH_SLOT_TOTAL),                                   \
        COUNT(p "usageMetadata.cachedContentTokenCount", CH_SLOT_CACHED),                          \
        COUNT(p "usageMetadata.thoughtsTokenCount", CH_SLOT_REASONING),                            \
        COUNT(p "usageMetadata.toolUsePromptTokenCount", CH_SLOT_TOOL_PROMPT),                     \
        TEXT(p "usageMetadata.serviceTier", CH_MEANS_TIER),                                        \
        TEXT(p "usageMetadata.trafficType", CH_MEANS_TRAFFIC),                                     \
        MODALITIES(p "usageMetadata.promptTokensDetails", "tokenCount", CH_SLOT_AUDIO_IN),         \
        MODALITIES(p "usageMetadata.cacheTokensDetails", "tokenCount", CH_SLOT_AUDIO_CACHED),      \
        MODALITIES(p "usageMetadata.candidatesTokensDetails", "tokenCount", CH_SLOT_AUDIO_OUT)

static const struct ch_usage_rule gemini_rules[] = {
    TEXT("[]", CH_MEANS_EVENT),
    GEMINI_OBJECT(""),
    GEMINI_OBJECT("[]."),
};

#define INTERACTION_OBJECT(p)                                                                      \
    TEXT(p "id", CH_MEANS_ID), TEXT(p "model", CH_MEANS_MODEL), TEXT(p "status", CH_MEANS_STATUS), \
        TEXT(p "error", CH_MEANS_ERROR), TEXT(p "usage", CH_MEANS_USAGE),                          \
        COUNT(p "usage.total_input_tokens", CH_SLOT_INPUT),                                        \
        COUNT(p "usage.total_output_tokens", CH_SLOT_OUTPUT),                                      \
        COUNT(p "usage.total_tokens", CH_SLOT_TOTAL),                                              \
        COUNT(p "usage.total_cached_tokens", CH_SLOT_CACHED),                                      \
        COUNT(p "usage.total_thought_tokens", CH_SLOT_REASONING),                                  \
        COUNT(p "usage.total_tool_use_tokens", CH_SLOT_TOOL_PROMPT),                               \
        TEXT(p "usage.grounding_tool_count[]", CH_MEANS_TOOL),                                     \
        TEXT(p "usage.grounding_tool_count[].type", CH_MEANS_TOOL_TYPE),                           \
        TEXT(p "usage.grounding_tool_count[].count", CH_MEANS_TOOL_COUNT),                         \
        MODALITIES(p "usage.input_tokens_by_modality", "tokens", CH_SLOT_AUDIO_IN),                \
        MODALITIES(p "usage.cached_tokens_by_modality", "tokens", CH_SLOT_AUDIO_CACHED),           \
        MODALITIES(p "usage.output_tokens_by_modality", "tokens", CH_SLOT_AUDIO_OUT)

static const struct ch_usage_rule interactions_rules[] = {
    TEXT("event_type", CH_MEANS_TYPE),
    INTERACTION_OBJECT(""),
    INTERACTION_OBJECT("interaction."),
};

_Static_assert(CH_SLOT_IMAGE_IN == CH_SLOT_AUDIO_IN + 1, "images follow audio");
_Static_assert(CH_SLOT_VIDEO_IN == CH_SLOT_AUDIO_IN + 2, "video follows images");
_Static_assert(CH_SLOT_IMAGE_CACHED == CH_SLOT_AUDIO_CACHED + 1, "images follow audio");
_Static_assert(CH_SLOT_VIDEO_CACHED == CH_SLOT_AUDIO_CACHED + 2, "video follows images");
_Static_assert(CH_SLOT_IMAGE_OUT == CH_SLOT_AUDIO_OUT + 1, "images follow audio");
_Static_assert(CH_SLOT_VIDEO_OUT == CH_SLOT_AUDIO_OUT + 2, "video follows images");

// wire.md §2.3: a plain body, or the event of a finished image.
static const struct ch_usage_rule images_rules[] = {
    TEXT("type", CH_MEANS_TYPE),
    TEXT("error", CH_MEANS_ERROR),
    TEXT("data", CH_MEANS_IMAGES),
    TEXT("data[]", CH_MEANS_IMAGE),
    TEXT("b64_json", CH_MEANS_CONTENT),
    TEXT("usage", CH_MEANS_USAGE),
    COUNT("usage.input_tokens", CH_SLOT_INPUT),
    COUNT("usage.output_tokens", CH_SLOT_OUTPUT),
    COUNT("usage.total_tokens", CH_SLOT_TOTAL),
    COUNT("usage.input_tokens_details.image_tokens", CH_SLOT_IMAGE_IN),
    COUNT("usage.input_tokens_details.cached_tokens", CH_SLOT_CACHED),
    COUNT("usage.output_tokens_details.image_tokens", CH_SLOT_IMAGE_OUT),
    TEXT("usage.cost", CH_MEANS_COST),
    TEXT("svg_usage", CH_MEANS_SIDE),
    TEXT("svg_usage.model", CH_MEANS_SIDE_MODEL),
    SIDE("svg_usage.input_tokens", CH_SLOT_INPUT),
    SIDE("svg_usage.output_tokens", CH_SLOT_OUTPUT),
    SIDE("svg_usage.reasoning_tokens", CH_SLOT_REASONING),
};

// Tokens or seconds. Some servers write the details in the plural, as elsewhere.
static const struct ch_usage_rule transcription_rules[] = {
    TEXT("type", CH_MEANS_TYPE),
    TEXT("error", CH_MEANS_ERROR),
    TEXT("model", CH_MEANS_MODEL),
    TEXT("duration", CH_MEANS_DURATION),
    TEXT("usage", CH_MEANS_USAGE),
    TEXT("usage.seconds", CH_MEANS_SECONDS),
    COUNT("usage.input_tokens", CH_SLOT_INPUT),
    COUNT("usage.output_tokens", CH_SLOT_OUTPUT),
    COUNT("usage.total_tokens", CH_SLOT_TOTAL),
    COUNT("usage.input_token_details.audio_tokens", CH_SLOT_AUDIO_IN),
    COUNT("usage.input_tokens_details.audio_tokens", CH_SLOT_AUDIO_IN),
    TEXT("usage.cost", CH_MEANS_COST),
};

static const struct ch_usage_rule speech_rules[] = {
    TEXT("type", CH_MEANS_TYPE),
    TEXT("error", CH_MEANS_ERROR),
    TEXT("usage", CH_MEANS_USAGE),
    COUNT("usage.input_tokens", CH_SLOT_INPUT),
    COUNT("usage.output_tokens", CH_SLOT_OUTPUT),
    COUNT("usage.total_tokens", CH_SLOT_TOTAL),
    TEXT("usage.cost", CH_MEANS_COST),
};

// Server events of a session (wire.md §2.3). What is said to the model is written down by another
// one, whose usage stands in an event of its own.
static const struct ch_usage_rule realtime_rules[] = {
    TEXT("type", CH_MEANS_TYPE),
    TEXT("error", CH_MEANS_ERROR),
    TEXT("session.model", CH_MEANS_MODEL),
    TEXT("session.audio.input.transcription.model", CH_MEANS_SIDE_MODEL),
    TEXT("session.input_audio_transcription.model", CH_MEANS_SIDE_MODEL),
    TEXT("response.id", CH_MEANS_ID),
    TEXT("response.usage", CH_MEANS_USAGE),
    COUNT("response.usage.input_tokens", CH_SLOT_INPUT),
    COUNT("response.usage.output_tokens", CH_SLOT_OUTPUT),
    COUNT("response.usage.total_tokens", CH_SLOT_TOTAL),
    COUNT("response.usage.input_token_details.audio_tokens", CH_SLOT_AUDIO_IN),
    COUNT("response.usage.input_token_details.image_tokens", CH_SLOT_IMAGE_IN),
    COUNT("response.usage.input_token_details.cached_tokens", CH_SLOT_CACHED),
    COUNT("response.usage.input_token_details.cached_tokens_details.audio_tokens",
          CH_SLOT_AUDIO_CACHED),
    COUNT("response.usage.input_token_details.cached_tokens_details.image_tokens",
          CH_SLOT_IMAGE_CACHED),
    COUNT("response.usage.output_token_details.audio_tokens", CH_SLOT_AUDIO_OUT),
    COUNT("response.usage.output_token_details.reasoning_tokens", CH_SLOT_REASONING),
    TEXT("usage", CH_MEANS_SIDE),
    TEXT("usage.seconds", CH_MEANS_SIDE_SECONDS),
    SIDE("usage.input_tokens", CH_SLOT_INPUT),
    SIDE("usage.output_tokens", CH_SLOT_OUTPUT),
    SIDE("usage.input_token_details.audio_tokens", CH_SLOT_AUDIO_IN),
};

static const struct ch_usage_rule gemini_embeddings_rules[] = {
    TEXT("error", CH_MEANS_ERROR),
};

#define RULES(rules_)                                                                              \
    {                                                                                              \
        (rules_), sizeof(rules_) / sizeof(rules_)[0]                                               \
    }

struct ch_usage_rules ch_usage_rules_of(enum ch_usage_form form)
{
    static const struct ch_usage_rules forms[CH_USAGE_FORMS] = {
        [CH_USAGE_NONE] = {0},
        [CH_USAGE_OPENAI_CHAT] = RULES(chat_rules),
        [CH_USAGE_OPENAI_RESPONSES] = RULES(responses_rules),
        [CH_USAGE_OPENAI_EMBEDDINGS] = RULES(embeddings_rules),
        [CH_USAGE_ANTHROPIC] = RULES(anthropic_rules),
        [CH_USAGE_GEMINI] = RULES(gemini_rules),
        [CH_USAGE_GEMINI_EMBEDDINGS] = RULES(gemini_embeddings_rules),
        [CH_USAGE_OPENAI_IMAGES] = RULES(images_rules),
        [CH_USAGE_OPENAI_TRANSCRIPTION] = RULES(transcription_rules),
        [CH_USAGE_OPENAI_SPEECH] = RULES(speech_rules),
        [CH_USAGE_OPENAI_REALTIME] = RULES(realtime_rules),
        [CH_USAGE_GEMINI_INTERACTIONS] = RULES(interactions_rules),
    };
    return forms[form];
}
