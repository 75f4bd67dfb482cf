// SPDX-License-Identifier: Apache-2.0
#include "app/cli_output.h"

#include "base/secret.h"

#include <inttypes.h>
#include <stdio.h>

#define CELL_MAX (64 * 1024) // bytes of one cell

// ---- clean text

// Bytes of the sequence at `at` that could steer a terminal or reorder a line: C0 and DEL, the C1
// controls U+0080–9F, and U+200E/F, U+2028–202E, U+2066–69. 0: harmless.
static size_t hostile_bytes(const unsigned char *at, size_t left)
{
    if (at[0] < 0x20 || at[0] == 0x7F)
        return 1;
    if (at[0] == 0xC2 && left >= 2 && at[1] <= 0x9F)
        return 2;
    if (at[0] != 0xE2 || left < 3)
        return 0;
    if (at[1] == 0x80 && (at[2] == 0x8E || at[2] == 0x8F || (at[2] >= 0xA8 && at[2] <= 0xAE)))
        return 3;
    return at[1] == 0x81 && at[2] >= 0xA6 && at[2] <= 0xA9 ? 3 : 0;
}

static enum ch_err append_clean(struct ch_buf *out, struct ch_span text)
{
    enum ch_err err = CH_OK;
    while (text.len && !err) {
        size_t hostile = hostile_bytes((const unsigned char *)text.ptr, text.len);
        err = hostile ? ch_buf_append(out, "?", 1) : ch_buf_append(out, text.ptr, 1);
        text = ch_span_sub(text, hostile ? hostile : 1);
    }
    return err;
}

// Columns on a terminal: code points, since names and models are ASCII and labels rarely wide.
static size_t width_of(struct ch_span text)
{
    size_t width = 0;
    for (size_t i = 0; i < text.len; i++)
        width += ((unsigned char)text.ptr[i] & 0xC0) != 0x80;
    return width;
}

// ---- values as text

static enum ch_err append_value(struct ch_buf *out, const json_t *value);

static enum ch_err append_list(struct ch_buf *out, const json_t *list)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < json_array_size(list) && !err; i++) {
        err = i ? ch_buf_append(out, ",", 1) : CH_OK;
        if (!err)
            err = append_value(out, json_array_get(list, i));
    }
    return err;
}

static enum ch_err append_object(struct ch_buf *out, const json_t *object)
{
    enum ch_err err = CH_OK;
    bool first = true;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (!err && !first)
            err = ch_buf_append(out, ",", 1);
        if (!err)
            err = append_clean(out, ch_span_of(key));
        if (!err)
            err = ch_buf_append(out, "=", 1);
        if (!err)
            err = append_value(out, value);
        first = false;
    }
    return err;
}

// The value as it stands, for TSV and for plain cells; null is empty.
static enum ch_err append_value(struct ch_buf *out, const json_t *value)
{
    if (!value)
        return CH_OK;
    switch (json_typeof(value)) {
    case JSON_STRING:
        return append_clean(out,
                            (struct ch_span){json_string_value(value), json_string_length(value)});
    case JSON_INTEGER:
        return ch_buf_append_format(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    case JSON_REAL:
        return ch_buf_append_format(out, "%.15g", json_real_value(value));
    case JSON_TRUE:
        return ch_buf_append(out, "true", 4);
    case JSON_FALSE:
        return ch_buf_append(out, "false", 5);
    case JSON_NULL:
        return CH_OK;
    case JSON_ARRAY:
        return append_list(out, value);
    case JSON_OBJECT:
        return append_object(out, value);
    }
    return CH_OK;
}

// "12345" as "12,345".
static enum ch_err append_count(struct ch_buf *out, int64_t count)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%" PRId64, count);
    enum ch_err err = CH_OK;
    for (int i = 0; i < len && !err; i++) {
        if (i && text[i - 1] != '-' && (len - i) % 3 == 0)
            err = ch_buf_append(out, ",", 1);
        if (!err)
            err = ch_buf_append(out, &text[i], 1);
    }
    return err;
}

// Exact, but no more zeros than cents need: "0.005615000" as "0.005615", "12.000000000" as "12.00".
static enum ch_err append_usd(struct ch_buf *out, const json_t *value)
{
    if (!json_is_string(value))
        return ch_buf_append(out, "unpriced", 8);
    struct ch_span text = {json_string_value(value), json_string_length(value)};
    const char *point = memchr(text.ptr, '.', text.len);
    size_t least = point ? (size_t)(point - text.ptr) + 3 : text.len;
    while (text.len > least && text.ptr[text.len - 1] == '0')
        text.len--;
    return append_clean(out, text);
}

// USD a unit as USD a million units, by moving the point: prices are exact decimals.
static enum ch_err append_price(struct ch_buf *out, const json_t *value)
{
    const char *text = json_string_value(value);
    char digits[64], moved[80];
    size_t count = 0, after_point = 0;
    bool seen_point = false;
    if (!text)
        return ch_buf_append(out, "-", 1);
    for (; *text && count < sizeof digits - 8; text++) {
        if (*text == '.')
            seen_point = true;
        else if (*text < '0' || *text > '9')
            return append_value(out, value);
        else {
            digits[count++] = *text;
            after_point += seen_point;
        }
    }
    for (; after_point < 6; after_point++)
        digits[count++] = '0';
    size_t whole = count - (after_point - 6), at = 0, first = 0;
    while (first + 1 < whole && digits[first] == '0')
        first++;
    for (size_t i = first; i < count; i++) {
        if (i == whole)
            moved[at++] = '.';
        moved[at++] = digits[i];
    }
    while (whole < count && moved[at - 1] == '0')
        at--;
    if (moved[at - 1] == '.')
        at--;
    return ch_buf_append(out, moved, at);
}

// "2026-11-21T20:05:00.123Z" as "2026-11-21 20:05:00".
static enum ch_err append_time(struct ch_buf *out, const json_t *value)
{
    const char *text = json_string_value(value);
    if (!text)
        return ch_buf_append(out, "never", 5);
    if (json_string_length(value) < 19)
        return append_value(out, value);
    enum ch_err err = append_clean(out, (struct ch_span){text, 10});
    if (!err)
        err = ch_buf_append(out, " ", 1);
    return err ? err : append_clean(out, (struct ch_span){text + 11, 8});
}

static enum ch_err append_us(struct ch_buf *out, int64_t us)
{
    if (us < 0)
        return ch_buf_append(out, "-", 1);
    if (us >= 10000000)
        return ch_buf_append_format(out, "%" PRId64 ".%" PRId64 " s", us / 1000000,
                                    us % 1000000 / 100000);
    if (us >= 100000)
        return ch_buf_append_format(out, "%" PRId64 " ms", us / 1000);
    return ch_buf_append_format(out, "%" PRId64 ".%02" PRId64 " ms", us / 1000, us % 1000 / 10);
}

static enum ch_err append_seconds(struct ch_buf *out, int64_t seconds)
{
    if (seconds >= 86400)
        return ch_buf_append_format(out, "%" PRId64 "d %" PRId64 "h", seconds / 86400,
                                    seconds % 86400 / 3600);
    if (seconds >= 3600)
        return ch_buf_append_format(out, "%" PRId64 "h %" PRId64 "m", seconds / 3600,
                                    seconds % 3600 / 60);
    return ch_buf_append_format(out, "%" PRId64 "m %" PRId64 "s", seconds / 60, seconds % 60);
}

static enum ch_err append_bytes(struct ch_buf *out, int64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    int64_t tenths = bytes * 10;
    for (; tenths >= 10240 && unit < 4; unit++)
        tenths /= 1024;
    if (unit == 0)
        return ch_buf_append_format(out, "%" PRId64 " B", bytes);
    return ch_buf_append_format(out, "%" PRId64 ".%" PRId64 " %s", tenths / 10, tenths % 10,
                                units[unit]);
}

// "100.00/day learned, 12.10 spent; …"
static enum ch_err append_budgets(struct ch_buf *out, const json_t *list)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < json_array_size(list) && !err; i++) {
        const json_t *budget = json_array_get(list, i);
        err = i ? ch_buf_append(out, "; ", 2) : CH_OK;
        if (!err)
            err = append_usd(out, json_object_get(budget, "cap_usd"));
        if (!err)
            err = ch_buf_append(out, "/", 1);
        if (!err)
            err = append_value(out, json_object_get(budget, "period"));
        if (!err)
            err = ch_buf_append(out, " ", 1);
        if (!err)
            err = append_value(out, json_object_get(budget, "mode"));
        if (!err)
            err = ch_buf_append(out, ", ", 2);
        if (!err)
            err = append_usd(out, json_object_get(budget, "spent_usd"));
        if (!err)
            err = ch_buf_append(out, " spent", 6);
    }
    return err;
}

// A cell for people.
static enum ch_err append_cell(struct ch_buf *out, const json_t *value, enum ch_cli_format format)
{
    bool is_number = json_is_integer(value);
    switch (format) {
    case CH_CLI_AS_TEXT:
        return append_value(out, value);
    case CH_CLI_AS_COUNT:
        return is_number ? append_count(out, json_integer_value(value)) : append_value(out, value);
    case CH_CLI_AS_USD:
        return append_usd(out, value);
    case CH_CLI_AS_PRICE:
        return append_price(out, value);
    case CH_CLI_AS_TIME:
        return append_time(out, value);
    case CH_CLI_AS_US:
        return is_number ? append_us(out, json_integer_value(value)) : append_value(out, value);
    case CH_CLI_AS_SECONDS:
        return is_number ? append_seconds(out, json_integer_value(value))
                         : append_value(out, value);
    case CH_CLI_AS_BYTES:
        return is_number ? append_bytes(out, json_integer_value(value)) : append_value(out, value);
    case CH_CLI_AS_BUDGETS:
        return append_budgets(out, value);
    case CH_CLI_AS_YESNO:
        return ch_buf_append_span(out, json_is_true(value) ? CH_SPAN("yes") : CH_SPAN("no"));
    }
    return CH_OK;
}

// ---- columns

struct shape {
    struct ch_cli_column columns[CH_CLI_COLUMNS_MAX];
    size_t count;
};

static void add_column(struct shape *shape, const struct ch_cli_column *column)
{
    CH_ASSERT(shape->count < CH_CLI_COLUMNS_MAX);
    shape->columns[shape->count++] = *column;
}

// The columns of an answer: those it was grouped by, then the view's; without any, its own members.
static void choose_columns(struct shape *shape, const json_t *answer,
                           const struct ch_cli_view *view)
{
    const json_t *by = json_object_get(answer, "by");
    shape->count = 0;
    for (size_t i = 0; i < json_array_size(by) && i < 8; i++) {
        const char *name = json_string_value(json_array_get(by, i));
        add_column(shape, &(struct ch_cli_column){.member = name, .title = name, .is_id = i == 0});
    }
    for (const struct ch_cli_column *column = view->columns; column && column->member; column++)
        add_column(shape, column);
    if (shape->count)
        return;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)answer, key, value)
    {
        if (strcmp(key, "schema") != 0 && shape->count < CH_CLI_COLUMNS_MAX)
            add_column(shape, &(struct ch_cli_column){.member = key, .title = key});
    }
}

static bool is_shown(const struct ch_cli_column *column, enum ch_cli_output output, bool is_list)
{
    return output == CH_CLI_TSV || !is_list || !column->is_detail;
}

static bool is_right(enum ch_cli_format format)
{
    return format == CH_CLI_AS_COUNT || format == CH_CLI_AS_USD || format == CH_CLI_AS_PRICE ||
           format == CH_CLI_AS_US || format == CH_CLI_AS_BYTES;
}

// ---- TSV

static enum ch_err append_tsv_header(struct ch_buf *out, const struct shape *shape)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < shape->count && !err; i++)
        err = ch_buf_append_format(out, "%s%s", i ? "\t" : "", shape->columns[i].member);
    return err ? err : ch_buf_append(out, "\n", 1);
}

static enum ch_err append_tsv_row(struct ch_buf *out, const struct shape *shape, const json_t *item)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < shape->count && !err; i++) {
        err = i ? ch_buf_append(out, "\t", 1) : CH_OK;
        if (!err)
            err = append_value(out, json_object_get(item, shape->columns[i].member));
    }
    return err ? err : ch_buf_append(out, "\n", 1);
}

static enum ch_err render_tsv(struct ch_buf *out, const struct shape *shape, const json_t *answer,
                              bool no_header)
{
    const json_t *items = json_object_get(answer, "items");
    enum ch_err err = no_header ? CH_OK : append_tsv_header(out, shape);
    if (!err && !items)
        return append_tsv_row(out, shape, answer);
    for (size_t i = 0; i < json_array_size(items) && !err; i++)
        err = append_tsv_row(out, shape, json_array_get(items, i));
    return err;
}

// ---- tables

static enum ch_err append_blanks(struct ch_buf *out, size_t count)
{
    enum ch_err err = CH_OK;
    for (; count && !err; count--)
        err = ch_buf_append(out, " ", 1);
    return err;
}

// A table being measured, then written; one cell at a time stands in `cell`.
struct grid {
    const struct shape *shape;
    size_t widths[CH_CLI_COLUMNS_MAX];
    struct ch_buf cell;
};

static enum ch_err make_cell(struct grid *grid, const json_t *item, size_t column)
{
    const struct ch_cli_column *c = &grid->shape->columns[column];
    ch_buf_clear(&grid->cell);
    if (item)
        return append_cell(&grid->cell, json_object_get(item, c->member), c->format);
    return ch_buf_append_span(&grid->cell, ch_span_of(c->title));
}

static enum ch_err measure_row(struct grid *grid, const json_t *item)
{
    for (size_t i = 0; i < grid->shape->count; i++) {
        enum ch_err err = make_cell(grid, item, i);
        if (err)
            return err;
        size_t width = width_of(ch_buf_span(&grid->cell));
        if (width > grid->widths[i])
            grid->widths[i] = width;
    }
    return CH_OK;
}

static enum ch_err append_padded(struct ch_buf *out, const struct grid *grid, size_t column)
{
    struct ch_span cell = ch_buf_span(&grid->cell);
    size_t pad = grid->widths[column] - width_of(cell);
    bool right = is_right(grid->shape->columns[column].format);
    bool is_last = column + 1 == grid->shape->count;
    enum ch_err err = append_blanks(out, (column ? 2 : 0) + (right ? pad : 0));
    if (!err)
        err = ch_buf_append_span(out, cell);
    return err || right || is_last ? err : append_blanks(out, pad);
}

static enum ch_err append_row(struct ch_buf *out, struct grid *grid, const json_t *item)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < grid->shape->count && !err; i++) {
        err = make_cell(grid, item, i);
        if (!err)
            err = append_padded(out, grid, i);
    }
    return err ? err : ch_buf_append(out, "\n", 1);
}

static void keep_shown(struct shape *shape, bool is_list)
{
    size_t kept = 0;
    for (size_t i = 0; i < shape->count; i++)
        if (is_shown(&shape->columns[i], CH_CLI_TABLE, is_list))
            shape->columns[kept++] = shape->columns[i];
    shape->count = kept;
}

static enum ch_err render_table(struct ch_buf *out, struct shape *shape, const json_t *answer,
                                const struct ch_cli_view *view)
{
    const json_t *items = json_object_get(answer, "items");
    const json_t *total = json_array_size(items) > 1 ? json_object_get(answer, "total") : NULL;
    keep_shown(shape, true);
    struct grid grid = {.shape = shape};
    if (view->widths)
        memcpy(grid.widths, view->widths, sizeof grid.widths);
    ch_buf_init(&grid.cell, CELL_MAX);
    enum ch_err err = measure_row(&grid, NULL);
    for (size_t i = 0; i < json_array_size(items) && !err; i++)
        err = measure_row(&grid, json_array_get(items, i));
    if (!err && total)
        err = measure_row(&grid, total);
    if (!err && json_array_size(items) && !view->no_header)
        err = append_row(out, &grid, NULL);
    for (size_t i = 0; i < json_array_size(items) && !err; i++)
        err = append_row(out, &grid, json_array_get(items, i));
    if (!err && total)
        err = append_row(out, &grid, total);
    if (view->widths)
        memcpy(view->widths, grid.widths, sizeof grid.widths);
    ch_buf_fini(&grid.cell);
    return err;
}

// One object: a line a member, empty ones left out.
static enum ch_err render_record(struct ch_buf *out, const struct shape *shape,
                                 const json_t *answer)
{
    size_t width = 0;
    struct ch_buf cell;
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < shape->count; i++) {
        size_t len = strlen(shape->columns[i].title);
        width = len > width ? len : width;
    }
    ch_buf_init(&cell, CELL_MAX);
    for (size_t i = 0; i < shape->count && !err; i++) {
        const struct ch_cli_column *column = &shape->columns[i];
        const json_t *value = json_object_get(answer, column->member);
        ch_buf_clear(&cell);
        if (value)
            err = append_cell(&cell, value, column->format);
        if (!err && cell.len)
            err = ch_buf_append_format(out, "%s:%*s%.*s\n", column->title,
                                       (int)(width - strlen(column->title) + 2), "",
                                       CH_SPAN_ARG(ch_buf_span(&cell)));
    }
    ch_buf_fini(&cell);
    return err;
}

// ---- ids and JSON

static enum ch_err append_id(struct ch_buf *out, const struct shape *shape, const json_t *item)
{
    for (size_t i = 0; i < shape->count; i++)
        if (shape->columns[i].is_id) {
            enum ch_err err = append_value(out, json_object_get(item, shape->columns[i].member));
            return err ? err : ch_buf_append(out, "\n", 1);
        }
    return CH_OK;
}

static enum ch_err render_ids(struct ch_buf *out, const struct shape *shape, const json_t *answer)
{
    enum ch_err err = CH_OK;
    const json_t *items = json_object_get(answer, "items");
    if (!items)
        return append_id(out, shape, answer);
    for (size_t i = 0; i < json_array_size(items) && !err; i++)
        err = append_id(out, shape, json_array_get(items, i));
    return err;
}

static int append_piece(const char *bytes, size_t size, void *arg)
{
    return ch_buf_append(arg, bytes, size) ? -1 : 0;
}

// ASCII only: an escape in a string must not reach a terminal as a control character (C1 ones are
// legal JSON).
static enum ch_err render_json(struct ch_buf *out, const json_t *answer, size_t flags)
{
    if (json_dump_callback(answer, append_piece, out, flags | JSON_ENSURE_ASCII | JSON_ENCODE_ANY))
        return CH_ERR_LIMIT;
    return ch_buf_append(out, "\n", 1);
}

enum ch_err ch_cli_render_line(struct ch_buf *out, const json_t *value)
{
    return render_json(out, value, JSON_COMPACT);
}

enum ch_err ch_cli_render(struct ch_buf *out, const json_t *answer, const struct ch_cli_view *view)
{
    struct shape shape;
    if (view->output == CH_CLI_JSON)
        return render_json(out, answer, JSON_INDENT(2));
    choose_columns(&shape, answer, view);
    if (view->ids_only)
        return render_ids(out, &shape, answer);
    if (view->output == CH_CLI_TSV)
        return render_tsv(out, &shape, answer, view->no_header);
    return json_object_get(answer, "items") ? render_table(out, &shape, answer, view)
                                            : render_record(out, &shape, answer);
}
