#include "eval/coco.h"

/* One row of "annotations", of "data", or a line. */
static bif_status read_annotation(bif_scan *s, const bif_coco_calls *calls, void *to)
{
    enum { MANY = 64 };
    bif_status st = BIF_OK;
    bif_span name, image = {0}, category = {0}, captions[MANY];
    size_t count = 0;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more, another; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        if (bif_span_is(name, "image_id")) {
            BIF_TRY(bif_scan_word(s, &image));
        } else if (bif_span_is(name, "category_id")) {
            BIF_TRY(bif_scan_word(s, &category));
        } else if ((bif_span_is(name, "caption") || bif_span_is(name, "caption_str")) && c == '"' && count < MANY) {
            BIF_TRY(bif_scan_string(s, &captions[count++]));
        } else if (bif_span_is(name, "captions") && c == '[') {
            BIF_TRY(bif_scan_enter(s, '['));
            while ((st = bif_scan_more(s, &another)) == BIF_OK && another) {
                if (count == MANY) {
                    BIF_TRY(bif_scan_fail(s, "more than %d captions in one row", MANY));
                }
                BIF_TRY(bif_scan_string(s, &captions[count++]));
            }
            BIF_TRY(st);
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (image.text == NULL || (count == 0 && category.text == NULL)) {
        BIF_TRY(bif_scan_fail(s, "the annotation before has no %s", image.text == NULL ? "image_id" : "caption and no category_id"));
    }
    for (size_t i = 0; i < count && calls->caption != NULL; i++) {
        calls->caption(to, image, captions[i]);
    }
    if (category.text != NULL && calls->object != NULL) {
        calls->object(to, image, category);
    }
done:
    return st;
}

/* Of "images" and "categories": an id, and perhaps a name. */
static bif_status read_named(bif_scan *s, const char *what, bif_span *id, bif_span *name)
{
    bif_status st = BIF_OK;
    bif_span key;
    *id = *name = (bif_span){0};
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &key, &more)) == BIF_OK && more;) {
        if (bif_span_is(key, "id")) {
            BIF_TRY(bif_scan_word(s, id));
        } else if (bif_span_is(key, "name")) {
            BIF_TRY(bif_scan_string(s, name));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    st = id->text == NULL ? bif_scan_fail(s, "the object of \"%s\" before has no id", what) : BIF_OK;
done:
    return st;
}

static bif_status read_document(bif_scan *s, const bif_coco_calls *calls, void *to, bool *found)
{
    bif_status st = BIF_OK;
    bif_span key, id, name;
    bool another;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &key, &more)) == BIF_OK && more;) {
        const bool images = bif_span_is(key, "images"), categories = bif_span_is(key, "categories");
        const bool annotations = bif_span_is(key, "annotations") || bif_span_is(key, "data");
        if (bif_scan_peek(s) != '[' || !(images || categories || annotations)) {
            BIF_TRY(bif_scan_skip(s));
            continue;
        }
        *found = *found || annotations;
        BIF_TRY(bif_scan_enter(s, '['));
        while ((st = bif_scan_more(s, &another)) == BIF_OK && another) {
            if (annotations) {
                BIF_TRY(read_annotation(s, calls, to));
                continue;
            }
            BIF_TRY(read_named(s, images ? "images" : "categories", &id, &name));
            if (images && calls->image != NULL) {
                calls->image(to, id);
            } else if (categories && calls->category != NULL) {
                calls->category(to, id, name);
            }
        }
        BIF_TRY(st);
    }
done:
    return st;
}

/* A document has one of the lists; else its first object is a line. */
static bool is_line(bif_scan *s)
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

bif_status bif_coco_read(bif_scan *s, const bif_coco_calls *calls, void *to)
{
    bif_status st = BIF_OK;
    bool found = false, another;
    if (bif_scan_peek(s) == '[') {
        found = true;
        BIF_TRY(bif_scan_enter(s, '['));
        while ((st = bif_scan_more(s, &another)) == BIF_OK && another) {
            BIF_TRY(read_annotation(s, calls, to));
        }
        BIF_TRY(st);
    } else if (is_line(s)) {
        for (found = true; bif_scan_peek(s) == '{';) {
            BIF_TRY(read_annotation(s, calls, to));
        }
    } else {
        BIF_TRY(read_document(s, calls, to, &found));
    }
    BIF_TRY(bif_scan_end(s));
    st = found ? BIF_OK : bif_scan_fail(s, "no \"annotations\" in this file");
done:
    return st;
}
