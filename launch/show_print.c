/* How data show writes a sample. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/utf8.h"
#include "launch/show.h"

static const char *format_name(bif_image_format format)
{
    static const char *const names[] = {"unknown format", "JPEG", "PNG", "WebP"};
    return (size_t)format < sizeof names / sizeof *names ? names[format] : names[0];
}

static bool supervised(const bif_show *s, size_t row)
{
    return s->encoded.labels.ids[row] != BIF_LABEL_NONE;
}

/* The end of a run of image rows that starts at `row`; `row` itself when there is none. */
static size_t image_run(const bif_show *s, size_t row)
{
    for (int64_t i = 0; i < s->encoded.images; i++) {
        if (s->encoded.image_start[i] == (int64_t)row) {
            size_t end = row + (size_t)s->chat.image_tokens;
            return end < s->encoded.ids.count ? end : s->encoded.ids.count;
        }
    }
    return row;
}

static bif_status print_pictures(const bif_show *s)
{
    bif_status st = BIF_OK;
    for (int64_t i = 0; s->shard != NULL && i < s->sample.image_count; i++) {
        bif_shard_image image;
        BIF_TRY(bif_shard_get_image(s->shard, (int64_t)s->sample.images[i], &image));
        printf("picture %lld: %u x %u %s, %llu bytes\n", (long long)i, image.width, image.height,
               format_name(image.format), (unsigned long long)image.size);
    }
done:
    return st;
}

static void print_tokens(const bif_show *s, bool colour)
{
    const bif_encoded *e = &s->encoded;
    const char *green = colour ? "\033[32m" : "", *off = colour ? "\033[0m" : "";
    printf("%13s %8s    piece\n", "row", "id");
    for (size_t row = 0; row < e->ids.count;) {
        size_t end = image_run(s, row);
        if (end > row) {
            printf("%6zu-%6zu %8d    <image> x %zu\n", row, end - 1, e->ids.ids[row], end - row);
            row = end;
            continue;
        }
        size_t size = 0;
        const char *bytes = bif_tokenizer_token(s->tokenizer, e->ids.ids[row], &size);
        char *piece = bif_utf8_printable(bytes, size, false);
        printf("%s%13zu %8d %c  '%s'%s\n", supervised(s, row) ? green : "", row, e->ids.ids[row],
               supervised(s, row) ? '+' : ' ', piece, supervised(s, row) ? off : "");
        free(piece);
        row++;
    }
}

/* The sequence as text, token by token (decoding a part would take its first space off); a picture is written once. */
static char *text_of(const bif_show *s, bool brackets, size_t *size)
{
    char *text = bif_strdup("");
    size_t used = 0;
    const bif_encoded *e = &s->encoded;
    for (size_t row = 0; row < e->ids.count;) {
        const size_t end = image_run(s, row), next = end > row ? end : row + 1;
        size_t length = 0;
        const char *bytes = end > row ? "<image>" : bif_tokenizer_token(s->tokenizer, e->ids.ids[row], &length);
        length = end > row ? strlen(bytes) : length;
        const bool now = supervised(s, row) && brackets;
        text = bif_realloc(text, used + length + 3, 1);
        text[used] = '[';
        used += now && (row == 0 || !supervised(s, row - 1));
        memcpy(text + used, bytes, length);
        used += length;
        text[used] = ']';
        used += now && (next >= e->ids.count || !supervised(s, next));
        text[used] = '\0';
        row = next;
    }
    *size = used;
    return text;
}

bif_status bif_show_text(const bif_show *s)
{
    bif_status st = BIF_OK;
    char *text = NULL, *line = NULL;
    size_t size = 0;
    char *id = bif_utf8_printable(s->sample.id, s->sample.id_size, false),
         *source = bif_utf8_printable(s->sample.source, strlen(s->sample.source), false);
    if (s->shard != NULL) {
        printf("%s, sample %lld of %lld, id '%s', source '%s', template %s\n", s->file, (long long)s->local, (long long)s->total, id,
               source, bif_template_name(s->chat.kind));
    } else {
        printf("%s, sample %lld, id '%s', template %s\n", s->file, (long long)s->local, id, bif_template_name(s->chat.kind));
    }
    BIF_TRY(print_pictures(s));
    print_tokens(s, isatty(STDOUT_FILENO) && (getenv("NO_COLOR") == NULL || *getenv("NO_COLOR") == '\0'));
    text = text_of(s, true, &size);
    line = bif_utf8_printable(text, size, true);
    printf("text:\n%s\n", line);
    printf("tokens %zu, supervised %lld, pictures %lld\n", s->encoded.ids.count, (long long)s->encoded.supervised,
           (long long)s->encoded.images);
done:
    free(id);
    free(source);
    free(text);
    free(line);
    return st;
}

bif_status bif_show_json(const bif_show *s)
{
    bif_status st = BIF_OK;
    const bif_encoded *e = &s->encoded;
    char *text = NULL, *line = NULL, *dump = NULL;
    size_t size = 0;
    json_t *ids = json_array(), *labels = json_array(), *starts = json_array(), *pieces = json_array(), *root = NULL;
    json_t *pictures = s->shard == NULL ? NULL : json_array();
    for (size_t i = 0; i < e->ids.count; i++) {
        json_array_append_new(ids, json_integer(e->ids.ids[i]));
        json_array_append_new(labels, json_integer(e->labels.ids[i]));
        char *piece = bif_tokenizer_piece(s->tokenizer, e->ids.ids[i]);
        json_array_append_new(pieces, json_string(piece != NULL ? piece : "<image>"));
        free(piece);
    }
    for (int64_t i = 0; i < e->images; i++) {
        json_array_append_new(starts, json_integer(e->image_start[i]));
    }
    for (int64_t i = 0; s->shard != NULL && i < s->sample.image_count; i++) {
        bif_shard_image image;
        BIF_TRY(bif_shard_get_image(s->shard, (int64_t)s->sample.images[i], &image));
        json_array_append_new(pictures, json_pack("{s:I, s:I, s:s, s:I}", "width", (json_int_t)image.width, "height",
                                                  (json_int_t)image.height, "format", format_name(image.format),
                                                  "bytes", (json_int_t)image.size));
    }
    text = text_of(s, false, &size);
    if (bif_utf8_check(text, size) < size) { /* a character cut by the length limit */
        line = bif_utf8_printable(text, size, true);
    }
    root = json_pack("{s:s, s:I, s:s%, s:s, s:s, s:O*, s:O, s:O, s:O, s:s, s:O, s:I, s:I}", s->shard != NULL ? "shard" : "file", s->file,
                     "sample", (json_int_t)s->local, "id", s->sample.id, s->sample.id_size, "template",
                     bif_template_name(s->chat.kind), "image_place", bif_image_place_name(s->chat.image_place), "pictures", pictures,
                     "ids", ids, "labels", labels, "image_start", starts, "text", line != NULL ? line : text, "pieces", pieces, "tokens",
                     (json_int_t)e->ids.count, "supervised", (json_int_t)e->supervised);
    dump = root == NULL ? NULL : json_dumps(root, JSON_COMPACT);
    if (dump == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: sample %lld can not be written as JSON", s->file,
                         (long long)s->local));
    }
    puts(dump);
done:
    free(text);
    free(line);
    free(dump);
    json_decref(ids);
    json_decref(labels);
    json_decref(pieces);
    json_decref(starts);
    json_decref(pictures);
    json_decref(root);
    return st;
}
