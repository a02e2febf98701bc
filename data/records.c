#include "data/records.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/utf8.h"

#define BLOCK_BYTES ((size_t)1 << 16)
#define FIELD_CAP 256 /* columns of a CSV file */

struct bif_records {
    char *path;
    int fd;
    bif_records_format format;
    char *block;
    size_t used, at; /* bytes in the block; the next one */
    int64_t base;    /* where the block stands in the file */
    int64_t line;    /* of the next byte */
    int64_t number;  /* records so far */
    char *text;      /* the record being read */
    size_t size, capacity;
    bool ended;
    size_t field[FIELD_CAP]; /* CSV: where each field starts in text; each is terminated */
    size_t fields;
    size_t header_fields;
    int image_column, caption_column, id_column;
};

bif_status bif_records_format_by_name(const char *name, bif_records_format *out)
{
    static const char *const names[] = {"auto", "json", "jsonl", "csv"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (bif_records_format)i;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_USAGE, "'%s' is not a format of records; use auto, json, jsonl or csv", name);
}

/* The next byte without taking it; -1 at the end. */
static bif_status peek(bif_records *records, int *out)
{
    if (records->at == records->used) {
        records->at = 0;
        records->base += (int64_t)records->used;
        bif_status st = bif_read_some(records->fd, records->path, records->block, BLOCK_BYTES, &records->used);
        if (st != BIF_OK) {
            records->used = 0;
            return st;
        }
    }
    *out = records->used == 0 ? -1 : (unsigned char)records->block[records->at];
    return BIF_OK;
}

static void take(bif_records *records)
{
    records->line += records->block[records->at++] == '\n';
}

static bif_status keep(bif_records *records, char c)
{
    if (records->size + 1 >= records->capacity) {
        if (records->size >= BIF_RECORD_CAP) {
            return bif_fail(BIF_ERR_DATA, "%s: record %lld is longer than %zu MiB", records->path, (long long)records->number,
                            BIF_RECORD_CAP >> 20);
        }
        records->capacity = records->capacity ? records->capacity * 2 : 4096;
        records->text = bif_realloc(records->text, records->capacity, 1);
    }
    records->text[records->size++] = c;
    return BIF_OK;
}

static bool is_space(int c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bif_status skip_space(bif_records *records, int *c)
{
    bif_status st;
    while ((st = peek(records, c)) == BIF_OK && is_space(*c)) {
        take(records);
    }
    return st;
}

static bif_status broken(const bif_records *records, const char *what)
{
    return bif_fail(BIF_ERR_DATA, "%s:%lld: %s", records->path, (long long)records->line, what);
}

/* ---- JSON array: only the bounds of a record are found here; jansson reads what is between them ---- */

static bif_status next_element(bif_records *records, bool *more)
{
    bif_status st = BIF_OK;
    int c = 0, depth = 0;
    bool quoted = false, escaped = false;
    BIF_TRY(skip_space(records, &c));
    if (records->number > 1 && c == ',') {
        take(records);
        BIF_TRY(skip_space(records, &c));
        if (c == ']') {
            st = broken(records, "a comma before the end of the array");
            goto done;
        }
    } else if (c == ']') {
        take(records);
        BIF_TRY(skip_space(records, &c));
        if (c >= 0) {
            st = broken(records, "something follows the end of the array");
        }
        *more = false;
        goto done;
    } else if (records->number > 1 && c >= 0) {
        st = broken(records, "',' or ']' is wanted between records");
        goto done;
    }
    for (;;) {
        BIF_TRY(peek(records, &c));
        if (c < 0) {
            st = broken(records, "the file ends inside the array; it is cut short or not JSON");
            goto done;
        }
        if (!quoted && depth == 0 && records->size > 0 && (c == ',' || c == ']' || is_space(c))) {
            goto done; /* the end of a number, a word or a string */
        }
        BIF_TRY(keep(records, (char)c));
        take(records);
        if (quoted) {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
            if (depth <= 0) {
                goto done;
            }
        } else if (c == ',' && depth == 0) {
            st = broken(records, "a record is missing before ','");
            goto done;
        }
    }
done:
    return st;
}

static bif_status next_line(bif_records *records, bool *more)
{
    bif_status st = BIF_OK;
    int c = 0;
    BIF_TRY(peek(records, &c));
    *more = c >= 0;
    while (c >= 0 && c != '\n') {
        BIF_TRY(keep(records, (char)c));
        take(records);
        BIF_TRY(peek(records, &c));
    }
    if (c == '\n') {
        take(records);
    }
done:
    return st;
}

/* ---- CSV ---- */

static bif_status begin_field(bif_records *records)
{
    if (records->fields == FIELD_CAP) {
        return broken(records, "more than 256 columns");
    }
    records->field[records->fields++] = records->size;
    return BIF_OK;
}

/* One row into text, fields terminated. *bad: a quote in the wrong place, the row is read to its end all the same. */
static bif_status next_row(bif_records *records, bool *more, bool *bad)
{
    bif_status st = BIF_OK;
    int c = 0;
    bool quoted = false, closed = false, start = true;
    records->fields = 0;
    *bad = false;
    BIF_TRY(peek(records, &c));
    if (c < 0) {
        *more = false;
        goto done;
    }
    BIF_TRY(begin_field(records));
    for (;;) {
        BIF_TRY(peek(records, &c));
        if (quoted) {
            if (c < 0) {
                st = broken(records, "the file ends inside a quoted field");
                goto done;
            }
            take(records);
            if (c != '"') {
                *bad = *bad || c == '\0';
                BIF_TRY(keep(records, (char)c));
                continue;
            }
            BIF_TRY(peek(records, &c));
            if (c == '"') {
                take(records);
                BIF_TRY(keep(records, '"'));
            } else {
                quoted = false;
                closed = true;
            }
            continue;
        }
        if (c == '\r') { /* before '\n' only; alone it is text */
            take(records);
            BIF_TRY(peek(records, &c));
            if (c != '\n') {
                BIF_TRY(keep(records, '\r'));
                start = false;
                continue;
            }
        }
        if (c >= 0) {
            take(records);
        }
        if (c < 0 || c == '\n') {
            BIF_TRY(keep(records, '\0'));
            break;
        }
        if (c == ',') {
            BIF_TRY(keep(records, '\0'));
            BIF_TRY(begin_field(records));
            start = true;
            closed = false;
        } else if (c == '"' && start) {
            quoted = true;
            start = false;
        } else {
            *bad = *bad || closed || c == '"' || c == '\0';
            BIF_TRY(keep(records, (char)c));
            start = false;
        }
    }
done:
    return st;
}

static bif_status read_header(bif_records *records)
{
    bif_status st = BIF_OK;
    bool more = true, bad = false;
    records->image_column = records->caption_column = records->id_column = -1;
    BIF_TRY(next_row(records, &more, &bad));
    for (size_t i = 0; i < records->fields; i++) {
        const char *name = records->text + records->field[i];
        int *column = strcmp(name, "image") == 0     ? &records->image_column
                      : strcmp(name, "caption") == 0 ? &records->caption_column
                      : strcmp(name, "id") == 0      ? &records->id_column
                                                     : NULL;
        if (column != NULL && *column >= 0) {
            st = bif_fail(BIF_ERR_DATA, "%s:1: the column '%s' is there twice", records->path, name);
            goto done;
        }
        if (column != NULL) {
            *column = (int)i;
        }
    }
    records->header_fields = records->fields;
    if (bad || records->image_column < 0 || records->caption_column < 0) {
        st = bif_fail(BIF_ERR_DATA, "%s:1: the first line must be a header with the columns image and caption", records->path);
    }
done:
    return st;
}

/* NULL with a message when the row is bad. */
static json_t *row_value(const bif_records *records, const char *where, bool bad)
{
    if (bad) {
        bif_fail(BIF_ERR_DATA, "%s: a quote or a zero byte stands in the wrong place", where);
        return NULL;
    }
    if (records->fields != records->header_fields) {
        bif_fail(BIF_ERR_DATA, "%s: %zu columns; the header has %zu", where, records->fields, records->header_fields);
        return NULL;
    }
    const struct {
        const char *name;
        int column;
    } wanted[] = {{"id", records->id_column}, {"image", records->image_column}, {"caption", records->caption_column}};
    json_t *object = json_object();
    for (int i = 0; i < 3; i++) {
        if (wanted[i].column < 0) {
            continue;
        }
        const char *text = records->text + records->field[wanted[i].column];
        size_t length = strlen(text);
        if (bif_utf8_check(text, length) != length) {
            bif_fail(BIF_ERR_DATA, "%s: the column %s is not valid UTF-8", where, wanted[i].name);
            json_decref(object);
            return NULL;
        }
        if (wanted[i].column == records->caption_column && length == 0) {
            bif_fail(BIF_ERR_DATA, "%s: the caption is empty", where); /* a hole in a table; JSON says "" on purpose */
            json_decref(object);
            return NULL;
        }
        json_object_set_new(object, wanted[i].name, json_stringn(text, length));
    }
    return object;
}

/* ---- the file ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

bif_status bif_records_open(const char *path, bif_records_format format, bif_records **out)
{
    bif_status st = BIF_OK;
    int c = 0;
    bif_records *records = bif_calloc(1, sizeof *records);
    records->path = bif_strdup(path);
    records->block = bif_malloc(BLOCK_BYTES);
    records->line = 1;
    records->fd = -1;
    if (strcmp(path, "-") == 0) {
        records->fd = dup(STDIN_FILENO);
        BIF_TRY(records->fd < 0 ? bif_fail_errno(errno, "standard input") : BIF_OK);
    } else {
        BIF_TRY(bif_open_regular(path, &records->fd, NULL));
    }
    BIF_TRY(peek(records, &c));
    if (records->used >= 3 && memcmp(records->block, "\xEF\xBB\xBF", 3) == 0) {
        records->at = 3; /* the byte order mark of a Windows program */
    }
    if (format == BIF_RECORDS_AUTO && ends_with(path, ".csv")) {
        format = BIF_RECORDS_CSV;
    } else if (format == BIF_RECORDS_AUTO && (ends_with(path, ".jsonl") || ends_with(path, ".ndjson"))) {
        format = BIF_RECORDS_JSONL;
    }
    if (format == BIF_RECORDS_AUTO || format == BIF_RECORDS_JSON) {
        BIF_TRY(skip_space(records, &c));
        if (c == '[') {
            take(records);
        } else if (format == BIF_RECORDS_JSON) {
            st = broken(records, "a JSON array of records is wanted, so '[' must come first");
            goto done;
        }
        format = c == '[' ? BIF_RECORDS_JSON : BIF_RECORDS_JSONL;
    }
    records->format = format;
    if (format == BIF_RECORDS_CSV) {
        BIF_TRY(read_header(records));
    }
done:
    if (st != BIF_OK) {
        bif_records_close(records);
        return st;
    }
    *out = records;
    return BIF_OK;
}

bif_status bif_records_open_at(const char *path, const char *name, bif_records_format format, const bif_record *from, bif_records **out)
{
    bif_records *records = NULL;
    const bif_status st = bif_records_open(path, format, &records);
    if (st != BIF_OK) {
        return st;
    }
    free(records->path);
    records->path = bif_strdup(name);
    if (from != NULL && lseek(records->fd, (off_t)from->offset, SEEK_SET) != (off_t)from->offset) {
        const int err = errno;
        bif_records_close(records);
        return bif_fail_errno(err, "cannot go to byte %lld of '%s'", (long long)from->offset, path);
    }
    if (from != NULL) {
        records->used = records->at = 0;
        records->base = from->offset;
        records->line = from->line;
        records->number = from->number - 1;
    }
    *out = records;
    return BIF_OK;
}

void bif_records_close(bif_records *records)
{
    if (records == NULL) {
        return;
    }
    if (records->fd >= 0) {
        close(records->fd);
    }
    free(records->text);
    free(records->block);
    free(records->path);
    free(records);
}

static bool is_blank(const bif_records *records)
{
    for (size_t i = 0; i < records->size; i++) {
        if (!is_space(records->text[i])) {
            return false;
        }
    }
    return true;
}

bif_status bif_records_next(bif_records *records, bif_record *out, bool *more)
{
    bif_status st = BIF_OK;
    bool bad = false;
    char *where = NULL;
    int c = 0;
    *more = !records->ended;
    records->number++;
    out->value = NULL;
    do {
        records->size = 0;
        if (records->format == BIF_RECORDS_JSON && *more) {
            BIF_TRY(skip_space(records, &c));
        }
        out->line = records->line;
        out->offset = records->base + (int64_t)records->at;
        if (*more && records->format == BIF_RECORDS_JSON) {
            BIF_TRY(next_element(records, more));
        } else if (*more && records->format == BIF_RECORDS_JSONL) {
            BIF_TRY(next_line(records, more));
        } else if (*more) {
            BIF_TRY(next_row(records, more, &bad));
        }
        /* empty lines are no records */
    } while (*more && (records->format == BIF_RECORDS_CSV ? records->size == 1 && records->header_fields > 1 : is_blank(records)));
    records->ended = !*more;
    if (!*more) {
        goto done;
    }
    out->number = records->number;
    where = bif_format("%s:%lld", records->path, (long long)out->line);
    if (records->format == BIF_RECORDS_CSV) {
        out->value = row_value(records, where, bad);
    } else {
        (void)bif_json_parse(where, records->text, records->size, &out->value); /* a bad record, not a bad file */
    }
done:
    free(where);
    return st;
}
