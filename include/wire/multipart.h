// SPDX-License-Identifier: Apache-2.0
// multipart/form-data request bodies (RFC 7578, RFC 2046 §5.1): the values of a few short fields,
// wherever they stand, behind a 25 MB file too.
//
// A push parser for the gate: bytes in any pieces, the same result whatever the cuts, no
// allocation, files skipped at memory speed. It is strict where parsers are known to differ, since
// the provider behind us must not find another model in the same bytes (security.md §4.8): lines
// end with CRLF, a delimiter stands in its own line without padding, the boundary occurs nowhere
// else, names are plain, and a field that was asked for stands once, short and plain. Any thread; a
// parser belongs to one body.
#ifndef CH_WIRE_MULTIPART_H
#define CH_WIRE_MULTIPART_H

#include "base/str.h"

#include <stdint.h>

#define CH_MULTIPART_BOUNDARY_MAX 70   // characters (RFC 2046 §5.1.1)
#define CH_MULTIPART_PREAMBLE_MAX 256  // bytes before the first delimiter; no SDK sends any
#define CH_MULTIPART_PARTS_MAX    256  // OpenAI takes 16 images and a few dozen fields
#define CH_MULTIPART_LINE_MAX     2048 // bytes of a header line of a part
#define CH_MULTIPART_HEAD_MAX     4096 // bytes of all header lines of a part
#define CH_MULTIPART_FIELDS_MAX   8    // header lines of a part
#define CH_MULTIPART_NAME_MAX     64   // characters of a part's name
#define CH_MULTIPART_VALUE_MAX    512  // bytes of the value of a wanted field
#define CH_MULTIPART_WANTED_MAX   16   // fields that may be asked for

enum ch_multipart_error {
    CH_MULTIPART_OK,
    // the Content-Type of the request
    CH_MULTIPART_NOT_A_FORM,
    CH_MULTIPART_BAD_BOUNDARY,   // missing, empty, too long, a character that needs care
    CH_MULTIPART_TWO_BOUNDARIES, // the parameter stands twice
    CH_MULTIPART_BAD_PARAMETER,  // any other but charset=utf-8
    // the body
    CH_MULTIPART_LONG_PREAMBLE,
    CH_MULTIPART_BAD_LINE_END,  // a bare CR or LF in a head, before the body, or at a delimiter
    CH_MULTIPART_BAD_DELIMITER, // the boundary, but not alone in a line
    CH_MULTIPART_TOO_MANY_PARTS,
    CH_MULTIPART_LONG_HEAD, // of a part
    CH_MULTIPART_MANY_FIELDS,
    CH_MULTIPART_BAD_FIELD,       // a header line that is none, is folded, or stands twice
    CH_MULTIPART_BAD_DISPOSITION, // missing, not form-data, a parameter that needs care
    CH_MULTIPART_BAD_NAME,
    CH_MULTIPART_NESTED,
    CH_MULTIPART_BAD_ENCODING,   // a Content-Transfer-Encoding that changes bytes
    CH_MULTIPART_BAD_LENGTH,     // a part's Content-Length that is not its length
    CH_MULTIPART_AMBIGUOUS_NAME, // differs from a wanted name in case or by brackets only
    CH_MULTIPART_DUPLICATE,      // a wanted field twice
    CH_MULTIPART_NOT_PLAIN,      // a wanted field with a filename, a charset, an encoding
    CH_MULTIPART_LONG_VALUE,     // of a wanted field
    CH_MULTIPART_TRAILING,       // bytes behind the last delimiter
    CH_MULTIPART_INCOMPLETE,     // no last delimiter
};
#define CH_MULTIPART_ERRORS 23
// One sentence for the caller of the API. Never quotes the body.
const char *ch_multipart_error_text(enum ch_multipart_error error);

// Whether a Content-Type names this media type at all, whatever its parameters.
bool ch_multipart_is_form(struct ch_span content_type);
// The boundary of a Content-Type value; borrows from it.
enum ch_multipart_error ch_multipart_boundary(struct ch_span content_type,
                                              struct ch_span *boundary_out);

struct ch_multipart_value {
    size_t field;        // index into the wanted names
    struct ch_span text; // borrowed until the callback returns
    uint64_t at, end;    // its place in the body, for a splice
};
// Called in the order of the body, once a value is complete.
typedef void (*ch_multipart_value_fn)(void *arg, const struct ch_multipart_value *value);

struct ch_multipart {
    uint64_t offset;     // bytes of the body fed so far; at an error: where it was noticed
    uint64_t file_bytes; // of all parts with a filename
    // private
    const char *const *wanted;
    size_t wanted_count;
    ch_multipart_value_fn on_value;
    void *arg;
    enum ch_multipart_error error;
    unsigned char state;
    bool is_file, is_typed, is_disposed, is_encoded, has_odd_field, is_plain_type;
    int field;     // the wanted one that the part is, or -1
    uint32_t seen; // bit per wanted field
    uint32_t part_count, field_count;
    uint32_t head_bytes;   // of the part being read
    uint64_t data_at;      // where the part's data begin, in the body
    int64_t stated_length; // the part's Content-Length; -1: none
    uint8_t needle_len, matched;
    uint8_t recent_len;
    uint16_t line_len, value_len;
    char needle[CH_MULTIPART_BOUNDARY_MAX + 2]; // "--boundary"
    uint8_t failure[CH_MULTIPART_BOUNDARY_MAX +
                    2]; // longest border of each prefix (Knuth-Morris-Pratt)
    char recent[CH_MULTIPART_BOUNDARY_MAX + 4]; // the last data bytes of earlier pieces
    char line[CH_MULTIPART_LINE_MAX];
    char value[CH_MULTIPART_VALUE_MAX + CH_MULTIPART_BOUNDARY_MAX + 4]; // and a delimiter behind it
};

// `boundary` is valid; `wanted` are at most CH_MULTIPART_WANTED_MAX plain names that outlive the
// parser.
void ch_multipart_init(struct ch_multipart *form, struct ch_span boundary,
                       const char *const *wanted, size_t wanted_count,
                       ch_multipart_value_fn on_value, void *arg);
// Feeds the next piece. An error stays: later calls return it again.
enum ch_multipart_error ch_multipart_feed(struct ch_multipart *form, struct ch_span piece);
// The body is over; its last delimiter must have come.
enum ch_multipart_error ch_multipart_finish(struct ch_multipart *form);

#endif
