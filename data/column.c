#include "data/column.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/npy.h"

#define NOTE_CAP ((size_t)1 << 20)

static const struct {
    const char *name, *npy;
    size_t size;
} types[] = {
    [BIF_COLUMN_U8] = {"u8", "|u1", 1},   [BIF_COLUMN_U16] = {"u16", "<u2", 2}, [BIF_COLUMN_U32] = {"u32", "<u4", 4},
    [BIF_COLUMN_U64] = {"u64", "<u8", 8}, [BIF_COLUMN_F16] = {"f16", "<f2", 2}, [BIF_COLUMN_F32] = {"f32", "<f4", 4},
    [BIF_COLUMN_TEXT] = {"text", "", 0},
};
#define TYPES ((int)(sizeof types / sizeof *types))
static const char *const ofs[] = {[BIF_COLUMN_OF_IMAGE] = "image", [BIF_COLUMN_OF_SAMPLE] = "sample"};

struct bif_column {
    bif_column_info info;
    char *name, *method;
    void *map; /* the other file, mapped */
    size_t map_size;
    const void *data;
    char *texts;   /* TEXT: all of them, terminated */
    int64_t *text; /* [rows] into texts; -1: none */
};

size_t bif_column_type_size(bif_column_type type)
{
    return types[type].size;
}

char *bif_column_folder(const char *shard_path)
{
    size_t length = strlen(shard_path);
    length -= length > 3 && strcmp(shard_path + length - 3, ".h5") == 0 ? 3 : 0;
    return bif_format("%.*s.columns", (int)length, shard_path);
}

bool bif_column_name_ok(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    const size_t length = strlen(name);
    return length > 0 && length <= 128 && name[0] != '.' && strspn(name, letters) == length;
}

static int64_t rows_of(const bif_shard *shard, bif_column_of of)
{
    return of == BIF_COLUMN_OF_IMAGE ? bif_shard_images(shard) : bif_shard_samples(shard);
}

/* ---- reading ---- */

static bif_status map_file(int folder, const char *folder_name, const char *file, void **map, size_t *size)
{
    bif_status st = BIF_OK;
    int fd = -1;
    BIF_TRY(bif_open_beneath(folder, folder_name, file, &fd, size));
    *map = NULL;
    if (*size > 0) {
        *map = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (*map == MAP_FAILED) {
            *map = NULL;
            st = bif_fail_errno(errno, "cannot map '%s/%s'", folder_name, file);
        }
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

static void append(char *out, size_t *used, const char *text)
{
    const size_t n = strlen(text) + 1;
    memcpy(out + *used, text, n);
    *used += n;
}

/* A JSON string takes no fewer bytes than its text and a terminator: quotes stand around it, and escapes are longer than what they mean. */
static bif_status read_texts(bif_column *column, const char *where)
{
    bif_status st = BIF_OK;
    const char *at = column->map != NULL ? column->map : "", *end = at + column->map_size;
    const int64_t rows = column->info.rows;
    size_t used = 0;
    column->texts = malloc(column->map_size + 1); /* not bif_malloc: sizes come from the file */
    column->text = malloc(((size_t)rows + 1) * sizeof *column->text);
    if (column->texts == NULL || column->text == NULL) {
        return bif_fail(BIF_ERR_MEMORY, "out of memory for the texts of %s (%zu bytes)", where, column->map_size);
    }
    for (int64_t row = 0; row < rows; row++) {
        const char *stop = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
        json_t *value = NULL;
        if (stop == NULL) {
            return bif_fail(BIF_ERR_DATA, "%s: it ends after %" PRId64 " of %" PRId64 " lines", where, row, rows);
        }
        char *line = bif_format("%s:%" PRId64, where, row + 1);
        st = bif_json_parse(line, at, (size_t)(stop - at), &value);
        if (st == BIF_OK && !json_is_string(value) && !json_is_null(value)) {
            st = bif_fail(BIF_ERR_DATA, "%s: a JSON string or null is wanted", line);
        }
        free(line);
        if (st != BIF_OK) {
            json_decref(value);
            return st;
        }
        column->text[row] = json_is_string(value) ? (int64_t)used : -1;
        if (json_is_string(value)) {
            append(column->texts, &used, json_string_value(value));
        }
        json_decref(value);
        at = stop + 1;
    }
    return at == end ? BIF_OK : bif_fail(BIF_ERR_DATA, "%s: it has more lines than the %" PRId64 " rows of the shard", where, rows);
}

/* What NAME.json says, checked against the shard and the other file. *whole = false: the other file is not the one it speaks of. */
static bif_status check(bif_column *column, const bif_shard *shard, const char *where, const json_t *note, const char *data_name, bool *whole)
{
    bif_status st = BIF_OK;
    const char *format = NULL, *of = NULL, *type = NULL, *method = NULL, *owner = NULL, *digest = NULL;
    int64_t version = 0;
    char hex[33];
    bif_column_info *info = &column->info;
    BIF_TRY(bif_json_string(where, note, "format", true, &format));
    BIF_TRY(bif_json_i64(where, note, "version", true, &version));
    if (strcmp(format, "bifocal-column") != 0 || version != 1) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: format '%s' version %" PRId64 " is not 'bifocal-column' version 1", where, format, version));
    }
    BIF_TRY(bif_json_string(where, note, "of", true, &of));
    BIF_TRY(bif_json_string(where, note, "type", true, &type));
    BIF_TRY(bif_json_string(where, note, "method", true, &method));
    BIF_TRY(bif_json_string(where, note, "shard", true, &owner));
    BIF_TRY(bif_json_string(where, note, "xxh3", true, &digest));
    BIF_TRY(bif_json_i64(where, note, "rows", true, &info->rows));
    BIF_TRY(bif_json_i64(where, note, "width", true, &info->width));
    if (strcmp(owner, bif_shard_payload_digest(shard)) != 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: this column was made of another shard (%s; '%s' is %s); make it anew with --overwrite", where, owner, bif_shard_path(shard),
                         bif_shard_payload_digest(shard)));
    }
    int t = 0;
    while (t < TYPES && strcmp(types[t].name, type) != 0) {
        t++;
    }
    if (t == TYPES || (strcmp(of, ofs[0]) != 0 && strcmp(of, ofs[1]) != 0)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a column of '%s' with numbers of type '%s' is not known", where, of, type));
    }
    info->type = (bif_column_type)t;
    info->of = strcmp(of, ofs[0]) == 0 ? BIF_COLUMN_OF_IMAGE : BIF_COLUMN_OF_SAMPLE;
    info->method = column->method = bif_strdup(method);
    if (info->rows != rows_of(shard, info->of) || info->width < 1 || info->width > 1 << 20 || (info->type == BIF_COLUMN_TEXT && info->width != 1)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %" PRId64 " rows of %" PRId64 " numbers; the shard has %" PRId64 " %ss", where, info->rows, info->width,
                         rows_of(shard, info->of), of));
    }
    bif_digest_bytes(column->map, column->map_size, hex);
    *whole = strcmp(hex, digest) == 0;
    if (!*whole) {
        goto done;
    }
    if (info->type == BIF_COLUMN_TEXT) {
        BIF_TRY(read_texts(column, data_name));
        goto done;
    }
    bif_npy npy;
    BIF_TRY(bif_npy_read(data_name, column->map, column->map_size, &npy));
    if (strcmp(npy.type, types[t].npy) != 0 || npy.shape[0] != info->rows || npy.dims < 1 || npy.dims > 2 || npy.shape[1] != info->width) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: an array of another shape or type than %s says", data_name, where));
    }
    if (npy.at % types[t].size != 0) { /* readers take numbers from where they lie */
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: its numbers begin at byte %zu, which is no multiple of their %zu bytes; save it with numpy.save", data_name, npy.at,
                         types[t].size));
    }
    column->data = (const char *)column->map + npy.at;
done:
    return st;
}

bif_status bif_column_open(const bif_shard *shard, const char *name, bif_column **out)
{
    bif_status st = BIF_OK;
    char *folder_name = bif_column_folder(bif_shard_path(shard)), *where = NULL, *note_file = NULL, *data_file = NULL, *data_name = NULL;
    void *note_map = NULL;
    size_t note_size = 0;
    json_t *note = NULL;
    bif_column *column = NULL;
    bool whole = false;
    *out = NULL;
    BIF_BUG_IF(!bif_column_name_ok(name), "a column named '%s'", name);
    const int folder = open(folder_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        st = errno == ENOENT ? BIF_OK : bif_fail_errno(errno, "cannot open the folder '%s'", folder_name);
        goto done;
    }
    note_file = bif_format("%s.json", name);
    where = bif_path_join(folder_name, note_file);
    if (faccessat(folder, note_file, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
        goto done;
    }
    BIF_TRY(map_file(folder, folder_name, note_file, &note_map, &note_size));
    if (note_size > NOTE_CAP) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %zu bytes are too many for the note of a column", where, note_size));
    }
    if (bif_json_parse(where, note_map, note_size, &note) != BIF_OK) {
        bif_warn("%s; the column counts as missing", bif_error_message());
        bif_error_clear();
        goto done;
    }
    const char *type = json_string_value(json_object_get(note, "type"));
    column = bif_calloc(1, sizeof *column);
    column->name = bif_strdup(name);
    column->info.name = column->name;
    data_file = bif_format("%s.%s", name, type != NULL && strcmp(type, "text") == 0 ? "jsonl" : "npy");
    data_name = bif_path_join(folder_name, data_file);
    if (faccessat(folder, data_file, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
        bif_warn("%s is gone, of which %s speaks; the column counts as missing", data_name, where);
        goto done;
    }
    BIF_TRY(map_file(folder, folder_name, data_file, &column->map, &column->map_size));
    BIF_TRY(check(column, shard, where, note, data_name, &whole));
    if (!whole) {
        bif_warn("%s does not belong to %s (its making was cut off, or it was changed since); the column counts as missing", data_name, where);
        goto done;
    }
    *out = column;
    column = NULL;
done:
    if (folder >= 0) {
        close(folder);
    }
    if (note_map != NULL) {
        munmap(note_map, note_size);
    }
    bif_column_close(column);
    json_decref(note);
    free(folder_name);
    free(where);
    free(note_file);
    free(data_file);
    free(data_name);
    return st;
}

/* Of that kind, or closed. */
static bif_status check_kind(const bif_shard *shard, bif_column_of of, bif_column_type type, int64_t width, const char *advice, bif_column **out)
{
    bif_status st = BIF_OK;
    const bif_column_info info = (*out)->info;
    if (info.of != of || info.type != type || (width != 0 && info.width != width)) {
        st = bif_fail(BIF_ERR_DATA,
                      "shard '%s': its column '%s' holds %" PRId64 " numbers of type %s for each %s, where %" PRId64 " of %s for each %s are wanted; %s",
                      bif_shard_path(shard), info.name, info.width, types[info.type].name, ofs[info.of], width == 0 ? info.width : width,
                      types[type].name, ofs[of], advice);
        bif_column_close(*out);
        *out = NULL;
    }
    return st;
}

bif_status bif_column_need(const bif_shard *shard, const char *name, bif_column_of of, bif_column_type type, int64_t width,
                           const char *advice, bif_column **out)
{
    const bif_status st = bif_column_open(shard, name, out);
    if (st != BIF_OK) {
        return st;
    }
    if (*out == NULL) {
        return bif_fail(BIF_ERR_DATA, "shard '%s' has no column '%s'; %s", bif_shard_path(shard), name, advice);
    }
    return check_kind(shard, of, type, width, advice, out);
}

bif_status bif_column_need_captions(const bif_shard *shard, const char *name, bif_column **out)
{
    char *prefixed = bif_format("caption-%s", name);
    bif_status st = bif_column_open(shard, name, out);
    if (st == BIF_OK && *out == NULL && bif_column_name_ok(prefixed)) {
        st = bif_column_open(shard, prefixed, out);
    }
    if (st == BIF_OK && *out == NULL) {
        st = bif_fail(BIF_ERR_DATA, "shard '%s' has no column '%s', nor '%s'; bifocal data recaption makes such columns", bif_shard_path(shard), name,
                      prefixed);
    } else if (st == BIF_OK) {
        st = check_kind(shard, BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_TEXT, 1, "captions are a column of texts", out);
    }
    free(prefixed);
    return st;
}

bif_status bif_column_same_method(const bif_shard *shard, const bif_column *column, const char *method)
{
    if (column == NULL || method == NULL || strcmp(column->info.method, method) == 0) {
        return BIF_OK;
    }
    return bif_fail(BIF_ERR_DATA, "%s: column %s was made by '%s', that of the first shard by '%s'; make them alike", bif_shard_path(shard),
                    column->name, column->info.method, method);
}

const bif_column_info *bif_column_describe(const bif_column *column)
{
    return &column->info;
}

const void *bif_column_data(const bif_column *column)
{
    return column->data;
}

const char *bif_column_text(const bif_column *column, int64_t row)
{
    BIF_BUG_IF(column->text == NULL || row < 0 || row >= column->info.rows, "row %" PRId64 " of the texts of column %s", row, column->name);
    return column->text[row] < 0 ? NULL : column->texts + column->text[row];
}

void bif_column_close(bif_column *column)
{
    if (column == NULL) {
        return;
    }
    if (column->map != NULL) {
        munmap(column->map, column->map_size);
    }
    free(column->texts);
    free(column->text);
    free(column->name);
    free(column->method);
    free(column);
}

static int is_note(const struct dirent *entry)
{
    const size_t n = strlen(entry->d_name);
    return n > 5 && entry->d_name[0] != '.' && strcmp(entry->d_name + n - 5, ".json") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

bif_status bif_column_list(const bif_shard *shard, char ***names, size_t *count)
{
    struct dirent **entries = NULL;
    char *folder = bif_column_folder(bif_shard_path(shard));
    const int found = bif_is_folder(folder) ? scandir(folder, &entries, is_note, by_name) : 0;
    bif_status st = found < 0 ? bif_fail_errno(errno, "cannot list the folder '%s'", folder) : BIF_OK;
    *names = bif_calloc(found > 0 ? (size_t)found : 1, sizeof **names);
    *count = 0;
    for (int i = 0; i < found; i++) {
        char *name = strndup(entries[i]->d_name, strlen(entries[i]->d_name) - 5);
        if (name != NULL && bif_column_name_ok(name)) {
            (*names)[(*count)++] = name;
        } else {
            free(name);
        }
        free(entries[i]);
    }
    free(entries);
    free(folder);
    return st;
}

/* ---- writing ---- */

typedef struct {
    bif_writer *writer;
    bif_digest *digest;
} output;

static bif_status put(output *out, const void *data, size_t size)
{
    bif_digest_update(out->digest, data, size);
    return bif_writer_write(out->writer, data, size);
}

static bif_status put_texts(output *out, const bif_column_info *info, const char *const *text)
{
    bif_status st = BIF_OK;
    for (int64_t row = 0; row < info->rows && st == BIF_OK; row++) {
        json_t *value = text[row] == NULL ? json_null() : json_string(text[row]);
        BIF_BUG_IF(value == NULL, "row %" PRId64 " of column %s is not UTF-8", row, info->name);
        char *line = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        st = put(out, line, strlen(line));
        st = st == BIF_OK ? put(out, "\n", 1) : st;
        free(line);
        json_decref(value);
    }
    return st;
}

static bif_status put_numbers(output *out, const bif_column_info *info, const void *data)
{
    bif_status st = BIF_OK;
    char head[BIF_NPY_HEAD];
    const int64_t shape[2] = {info->rows, info->width};
    int64_t bytes = 0;
    BIF_BUG_IF(!bif_mul_i64(info->rows, info->width, &bytes) || !bif_mul_i64(bytes, (int64_t)types[info->type].size, &bytes),
               "column %s is too large", info->name);
    BIF_TRY(put(out, head, bif_npy_head(types[info->type].npy, info->width == 1 ? 1 : 2, shape, head)));
    BIF_TRY(put(out, data, (size_t)bytes));
done:
    return st;
}

bif_status bif_column_write(const bif_shard *shard, const bif_column_info *info, const void *data)
{
    bif_status st = BIF_OK;
    char *folder = bif_column_folder(bif_shard_path(shard)), *path = NULL, *note_path = NULL;
    char hex[33];
    output out = {0};
    json_t *note = NULL;
    const bool text = info->type == BIF_COLUMN_TEXT;
    BIF_BUG_IF(!bif_column_name_ok(info->name), "a column named '%s'", info->name);
    BIF_BUG_IF(info->rows != rows_of(shard, info->of) || info->width < 1 || (text && info->width != 1), "column %s: wrong shape", info->name);
    BIF_TRY(bif_make_dirs(folder));
    path = bif_format("%s/%s.%s", folder, info->name, text ? "jsonl" : "npy");
    note_path = bif_format("%s/%s.json", folder, info->name);
    BIF_TRY(bif_writer_open(path, &out.writer));
    out.digest = bif_digest_new();
    BIF_TRY(text ? put_texts(&out, info, (const char *const *)data) : put_numbers(&out, info, data));
    bif_digest_finish(out.digest, hex);
    out.digest = NULL;
    bif_writer *writer = out.writer;
    out.writer = NULL;
    BIF_TRY(bif_writer_commit(writer));
    note = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s}", "format", "bifocal-column", "version", 1, "name", info->name, "of",
                     ofs[info->of], "type", types[info->type].name, "method", info->method, "rows", (json_int_t)info->rows, "width",
                     (json_int_t)info->width, "shard", bif_shard_payload_digest(shard), "xxh3", hex);
    BIF_BUG_IF(note == NULL, "the note of column %s", info->name);
    BIF_TRY(bif_json_save_file(note_path, note));
done:
    if (out.digest != NULL) {
        bif_digest_finish(out.digest, hex);
    }
    bif_writer_abandon(out.writer);
    json_decref(note);
    free(path);
    free(note_path);
    free(folder);
    return st;
}
