#include "eval/jsonl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"

bif_status bif_jsonl_read(const char *path, int64_t limit, bif_jsonl *out)
{
    bif_status st = BIF_OK;
    char *text = NULL;
    size_t size = 0;
    int64_t capacity = 0;
    *out = (bif_jsonl){0};
    BIF_TRY(bif_file_read(path, (size_t)4 << 30, &text, &size));
    int64_t number = 0;
    for (const char *at = text + bif_utf8_mark(text, size), *end = text + size; at < end && (limit == 0 || out->count < limit);) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        number++;
        if (strspn(at, " \t\r") < (size_t)(stop - at)) {
            if (out->count == capacity) {
                capacity = capacity > 0 ? 2 * capacity : 256;
                out->items = bif_realloc(out->items, (size_t)capacity, sizeof *out->items);
            }
            bif_jsonl_line *line = &out->items[out->count];
            line->object = NULL;
            snprintf(line->where, sizeof line->where, "%s:%lld", path, (long long)number);
            BIF_TRY(bif_json_parse(line->where, at, (size_t)(stop - at), &line->object));
            out->count++;
            if (!json_is_object(line->object)) {
                BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: is not a JSON object; one object a line is expected", line->where));
            }
        }
        at = stop + 1;
    }
done:
    free(text);
    if (st != BIF_OK) {
        bif_jsonl_free(out);
    }
    return st;
}

void bif_jsonl_free(bif_jsonl *jsonl)
{
    for (int64_t i = 0; i < jsonl->count; i++) {
        json_decref(jsonl->items[i].object);
    }
    free(jsonl->items);
    *jsonl = (bif_jsonl){0};
}
