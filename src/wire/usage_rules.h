// SPDX-License-Identifier: Apache-2.0
// Where each family of endpoints states its usage: one table of paths per form, and what stands
// there. Private to the usage scan. Constant data. Source: wire.md §2.
#ifndef CH_WIRE_USAGE_RULES_H
#define CH_WIRE_USAGE_RULES_H

#include "domain/usage.h"

// What stands at a path.
enum ch_usage_meaning {
    CH_MEANS_COUNT,    // of the rule's slot
    CH_MEANS_SUM,      // the same, to which Anthropic's compactions are added
    CH_MEANS_USAGE,    // the usage object
    CH_MEANS_X_USAGE,  // a usage object beside the regular one
    CH_MEANS_COST,     // in USD
    CH_MEANS_TICKS,    // in xAI's ticks
    CH_MEANS_UPSTREAM, // in USD, what the caller's own upstream account was charged
    CH_MEANS_BYOK,
    CH_MEANS_MODEL,
    CH_MEANS_ID,
    CH_MEANS_STORED_ID, // the same, and it can be referred to where the answer is kept
    CH_MEANS_ITEM,      // of the answer's output, likewise
    CH_MEANS_OBJECT,    // the id of something that is there beside the answer
    CH_MEANS_TIER,
    CH_MEANS_TRAFFIC, // Vertex' word for the tier
    CH_MEANS_SPEED,
    CH_MEANS_GEO,
    CH_MEANS_TYPE,   // of the event
    CH_MEANS_STATUS, // of a Responses object
    CH_MEANS_FINISH, // why the model stopped
    CH_MEANS_CHOICES,
    CH_MEANS_CHOICE,
    CH_MEANS_CONTENT, // generated, unless empty
    CH_MEANS_ERROR,
    CH_MEANS_EVENT,      // an element of a streamed array
    CH_MEANS_MODALITIES, // a list; the rule's slot takes audio, the next ones images and video
    CH_MEANS_MODALITY_ENTRY,
    CH_MEANS_MODALITY,
    CH_MEANS_MODALITY_COUNT,
    CH_MEANS_QUERY, // one web search
    CH_MEANS_ITERATIONS,
    CH_MEANS_ITERATION,
    CH_MEANS_ITERATION_TYPE,
    CH_MEANS_ITERATION_COUNT,
    CH_MEANS_SECONDS,  // billed, of audio
    CH_MEANS_DURATION, // of audio, where nothing says how much is billed
    CH_MEANS_IMAGES,   // a list
    CH_MEANS_IMAGE,
    CH_MEANS_SIDE, // usage of another model: its object, its counts, its name
    CH_MEANS_SIDE_COUNT,
    CH_MEANS_SIDE_SECONDS,
    CH_MEANS_SIDE_MODEL,
    CH_MEANS_TOOL, // an element of the list of Gemini's grounding tools
    CH_MEANS_TOOL_TYPE,
    CH_MEANS_TOOL_COUNT,
};
#define CH_USAGE_MEANINGS (CH_MEANS_TOOL_COUNT + 1)

struct ch_usage_rule {
    const char *path;
    enum ch_usage_meaning meaning;
    enum ch_usage_slot slot;
};

struct ch_usage_rules {
    const struct ch_usage_rule *rule; // by the index of its path in the plan
    size_t count;
};

struct ch_usage_rules ch_usage_rules_of(enum ch_usage_form form);

#endif
