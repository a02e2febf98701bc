#include "eval/coco.h"

#include <stdlib.h>
#include <string.h>

static uint32_t number_of(bif_coco *coco, bif_span id)
{
    const uint32_t number = (uint32_t)bif_intern_find(&coco->ids, id.text, id.size, true, NULL);
    if (number >= coco->capacity) {
        const size_t old = coco->capacity;
        coco->capacity = 2 * old + 1024;
        coco->pictures = bif_realloc(coco->pictures, coco->capacity, sizeof *coco->pictures);
        memset(coco->pictures + old, 0, (coco->capacity - old) * sizeof *coco->pictures);
    }
    coco->pictures[number].id = id;
    return number;
}

static void list_image(bif_coco *coco, bif_span id, bif_span domain)
{
    if (coco->listed_count == coco->listed_capacity) {
        coco->listed_capacity = 2 * coco->listed_capacity + 1024;
        coco->listed = bif_realloc(coco->listed, coco->listed_capacity, sizeof *coco->listed);
    }
    const uint32_t number = number_of(coco, id);
    coco->listed[coco->listed_count++] = number;
    coco->pictures[number].domain = domain.size > 0 ? domain : coco->pictures[number].domain;
}

static void add_caption(bif_coco *coco, bif_picture *p, bif_span caption)
{
    if (p->caption_count == p->caption_capacity) {
        bif_span *grown = bif_score_take(coco->set, (size_t)(p->caption_capacity = 2 * p->caption_capacity + 5) * sizeof *grown);
        if (p->caption_count > 0) {
            memcpy(grown, p->captions, (size_t)p->caption_count * sizeof *grown);
        }
        p->captions = grown;
    }
    p->captions[p->caption_count++] = caption;
}

static bif_status find_category(bif_coco *coco, bif_scan *s, bif_span key, uint32_t *out)
{
    *out = (uint32_t)bif_intern_find(&coco->categories, key.text, key.size, true, NULL);
    return *out < BIF_COCO_CATEGORIES ? BIF_OK : bif_scan_fail(s, "more than %d categories", BIF_COCO_CATEGORIES);
}

typedef struct {
    bif_span image, captions[64], objects[64];
    size_t caption_count, object_count;
} row;

static bif_status read_list(bif_scan *s, bif_span out[64], size_t *count)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        if (*count == 64) {
            BIF_TRY(bif_scan_fail(s, "more than 64 of them in one row"));
        }
        BIF_TRY(bif_scan_string(s, &out[(*count)++]));
    }
done:
    return st;
}

/* One row of "annotations", of "data", or a line. */
static bif_status read_annotation(bif_coco *coco, bif_scan *s)
{
    bif_status st = BIF_OK;
    bif_span name, category = {0};
    uint32_t bit = 0;
    bool listed = false;
    row r = {0};
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        if (bif_span_is(name, "image_id")) {
            BIF_TRY(bif_scan_word(s, &r.image));
        } else if (bif_span_is(name, "category_id")) {
            BIF_TRY(bif_scan_word(s, &category));
        } else if ((bif_span_is(name, "caption") || bif_span_is(name, "caption_str")) && c == '"' && r.caption_count < 64) {
            BIF_TRY(bif_scan_string(s, &r.captions[r.caption_count++]));
        } else if (bif_span_is(name, "captions") && c == '[') {
            BIF_TRY(read_list(s, r.captions, &r.caption_count));
        } else if (bif_span_is(name, "objects") && c == '[') {
            listed = true;
            BIF_TRY(read_list(s, r.objects, &r.object_count));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (r.image.text == NULL || (r.caption_count == 0 && category.text == NULL && !listed)) {
        BIF_TRY(bif_scan_fail(s, "the annotation before has no %s", r.image.text == NULL ? "image_id" : "caption and no category_id"));
    }
    const uint32_t number = number_of(coco, r.image); /* may move the pictures */
    bif_picture *p = &coco->pictures[number];
    for (size_t i = 0; i < r.caption_count; i++) {
        add_caption(coco, p, r.captions[i]);
    }
    if (category.text != NULL) {
        BIF_TRY(find_category(coco, s, category, &bit));
        p->objects[bit / 64] |= 1ull << bit % 64;
    }
    for (size_t i = 0; i < r.object_count; i++) {
        BIF_TRY(find_category(coco, s, bif_score_text(coco->set, "/%.*s", (int)r.objects[i].size, r.objects[i].text), &bit));
        coco->names[bit] = r.objects[i];
        p->objects[bit / 64] |= 1ull << bit % 64;
    }
done:
    return st;
}

/* Of "images" and "categories": an id, and perhaps a domain or a name. */
static bif_status read_named(bif_coco *coco, bif_scan *s, bool image)
{
    bif_status st = BIF_OK;
    bif_span key, id = {0}, name = {0}, domain = {0};
    uint32_t number = 0;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &key, &more)) == BIF_OK && more;) {
        if (bif_span_is(key, "id")) {
            BIF_TRY(bif_scan_word(s, &id));
        } else if (image && bif_span_is(key, "domain") && bif_scan_peek(s) == '"') {
            BIF_TRY(bif_scan_string(s, &domain));
        } else if (!image && bif_span_is(key, "name")) {
            BIF_TRY(bif_scan_string(s, &name));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (id.text == NULL || (!image && name.text == NULL)) {
        BIF_TRY(bif_scan_fail(s, "the %s before has no %s", image ? "image" : "category", id.text == NULL ? "id" : "name"));
    }
    if (image) {
        list_image(coco, id, domain);
    } else {
        BIF_TRY(find_category(coco, s, id, &number));
        coco->names[number] = name;
    }
done:
    return st;
}

static bif_status read_document(bif_coco *coco, bif_scan *s, bool *found)
{
    bif_status st = BIF_OK;
    bif_span key;
    bool another;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &key, &more)) == BIF_OK && more;) {
        const bool images = bif_span_is(key, "images"), annotations = bif_span_is(key, "annotations") || bif_span_is(key, "data");
        if (bif_scan_peek(s) != '[' || !(images || annotations || bif_span_is(key, "categories"))) {
            BIF_TRY(bif_scan_skip(s));
            continue;
        }
        *found = *found || annotations;
        BIF_TRY(bif_scan_enter(s, '['));
        while ((st = bif_scan_more(s, &another)) == BIF_OK && another) {
            BIF_TRY(annotations ? read_annotation(coco, s) : read_named(coco, s, images));
        }
        BIF_TRY(st);
    }
done:
    return st;
}

/* A document has one of the lists; else its first object is a line. */
static bool is_line(const bif_scan *s)
{
    const bif_span whole = bif_scan_whole(s);
    bif_scan *look = bif_scan_text("", whole.text, whole.size);
    bif_span key;
    bool more = false, line = false, list = false;
    if (bif_scan_enter(look, '{') == BIF_OK) {
        while (!line && !list && bif_scan_key(look, &key, &more) == BIF_OK && more) {
            line = bif_span_is(key, "image_id");
            list = bif_span_is(key, "images") || bif_span_is(key, "annotations") || bif_span_is(key, "data") ||
                   bif_span_is(key, "categories");
            if (!line && !list && bif_scan_skip(look) != BIF_OK) {
                break;
            }
        }
    }
    bif_scan_close(look);
    bif_error_clear();
    return line;
}

bif_status bif_coco_read(bif_coco *coco, const char *path)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    bool found = true, another;
    BIF_TRY(bif_score_file(coco->set, path, &s));
    if (bif_scan_peek(s) == '[') {
        BIF_TRY(bif_scan_enter(s, '['));
        while ((st = bif_scan_more(s, &another)) == BIF_OK && another) {
            BIF_TRY(read_annotation(coco, s));
        }
        BIF_TRY(st);
    } else if (is_line(s)) {
        while (bif_scan_peek(s) == '{') {
            BIF_TRY(read_annotation(coco, s));
        }
    } else {
        found = false;
        BIF_TRY(read_document(coco, s, &found));
    }
    BIF_TRY(bif_scan_end(s));
    st = found ? BIF_OK : bif_fail(BIF_ERR_DATA, "%s: no \"annotations\" in it", path);
done:
    return st;
}

void bif_coco_free(bif_coco *coco)
{
    bif_intern_free(&coco->ids);
    bif_intern_free(&coco->categories);
    free(coco->pictures);
    free(coco->listed);
    *coco = (bif_coco){0};
}

bif_picture *bif_coco_next(bif_coco *coco, size_t *next)
{
    const size_t count = coco->listed_count > 0 ? coco->listed_count : coco->ids.count;
    while (*next < count) {
        bif_picture *p = &coco->pictures[coco->listed_count > 0 ? coco->listed[*next] : *next];
        (*next)++;
        if (!p->placed) {
            p->placed = true;
            return p;
        }
    }
    return NULL;
}
