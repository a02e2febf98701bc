/* RefCOCO, RefCOCO+, RefCOCOg: is the box in the answer the one that is meant (intersection over union of at least 0.5). References, JSON
 * lines (or one list) of image, width, height and bbox in pixels: rows with "sent" (Qwen-VL's files) or "expression" (Shikra's) have
 * corners x1, y1, x2, y2; rows with "answer" (lmms-eval's) a corner and a size x, y, w, h, and with several texts are several questions
 * ID/0, ID/1, ... Rows without question_id or id are numbered from 0. A box of no size, or one that leaves its picture by more than two pixels
 * (those of COCO do by rounding), has been read in the wrong form, and is refused. A note says how many were read as what.
 *
 * The box of an answer: its first [a, b, c, d], else its first (a,b),(c,d). What the numbers are relative to must be said (--box-space); a
 * picture that was padded to a square lies in its middle. */
#include <string.h>

#include "base/utf8.h"
#include "eval/score.h"

enum { IOU = 0, CENTRE = 1 }; /* item->value */

typedef struct {
    double box[4]; /* x1, y1, x2, y2 as shares of the picture */
    double width, height;
} target;

bif_status bif_box_space_by_name(const char *name, bif_box_space *out)
{
    static const char *const units[] = {"unit", "1000", "999", "pixel"};
    for (int i = 0; i < 4; i++) {
        const size_t size = strlen(units[i]);
        if (strncmp(name, units[i], size) == 0 && (name[size] == '\0' || strcmp(name + size, ",padded") == 0)) {
            *out = (bif_box_space){.unit = (bif_box_unit)(BIF_BOX_UNIT + i), .padded = name[size] == ','};
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_USAGE, "there is no box space '%s'; unit, 1000, 999 and pixel are, each perhaps with ,padded behind", name);
}

/* Written so that a NaN is no box, either. */
static bool is_box(const double box[4], double width, double height)
{
    return box[0] >= -2.0 && box[1] >= -2.0 && box[0] < box[2] && box[1] < box[3] && box[2] <= width + 2.0 && box[3] <= height + 2.0;
}

/* read: counts of rows with corners, and with a corner and a size. */
static bif_status read_row(bif_score_set *set, bif_scan *s, int64_t number, int64_t read[2])
{
    bif_status st = BIF_OK;
    bif_span name, id = {0}, image = {0}, text, split = {0};
    double box[4] = {0}, width = 0.0, height = 0.0;
    int64_t texts = 0, numbers = 0;
    bool corners = false, sizes = false;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        if (bif_span_is(name, "question_id") || (bif_span_is(name, "id") && id.text == NULL)) {
            BIF_TRY(bif_scan_word(s, &id));
        } else if ((bif_span_is(name, "image") || bif_span_is(name, "img_path") || bif_span_is(name, "file_name")) && c == '"') {
            BIF_TRY(bif_scan_string(s, &image));
        } else if (bif_span_is(name, "dataset_name") && c == '"') {
            BIF_TRY(bif_scan_string(s, &split));
        } else if (bif_span_is(name, "width") || bif_span_is(name, "height")) {
            BIF_TRY(bif_scan_f64(s, name.text[0] == 'w' ? &width : &height));
        } else if (bif_span_is(name, "sent") || bif_span_is(name, "expression")) {
            corners = true;
            BIF_TRY(bif_scan_skip(s));
        } else if (bif_span_is(name, "answer")) {
            sizes = true;
            if (c != '[') {
                texts++;
                BIF_TRY(bif_scan_skip(s));
                continue;
            }
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another; texts++) {
                BIF_TRY(bif_scan_string(s, &text));
            }
            BIF_TRY(st);
        } else if (bif_span_is(name, "bbox") && c == '[') {
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another; numbers++) {
                double value = 0.0;
                BIF_TRY(bif_scan_f64(s, &value));
                box[numbers & 3] = value;
            }
            BIF_TRY(st);
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (numbers != 4 || width < 1.0 || height < 1.0 || corners == sizes) {
        BIF_TRY(bif_scan_fail(s, "the row before has no %s",
                              numbers != 4       ? "bbox of four numbers"
                              : corners == sizes ? "sent, expression or answer, which tell whether its bbox is corners or "
                                                   "a corner and a size"
                                                 : "width and height"));
    }
    const double edges[4] = {box[0], box[1], sizes ? box[0] + box[2] : box[2], sizes ? box[1] + box[3] : box[3]};
    if (!is_box(edges, width, height)) {
        BIF_TRY(bif_scan_fail(s, "bbox [%g, %g, %g, %g] of the row before is no box in a picture of %g x %g; of a row with %s it is read as %s",
                              box[0], box[1], box[2], box[3], width, height, sizes ? "answer" : "sent or expression",
                              sizes ? "a corner and a size x, y, w, h" : "corners x1, y1, x2, y2"));
    }
    read[sizes]++;
    target *t = bif_score_take(set, sizeof *t);
    *t = (target){.width = width, .height = height};
    for (int k = 0; k < 4; k++) {
        t->box[k] = edges[k] / (k % 2 == 0 ? width : height);
    }
    const bif_span own = id.text != NULL ? id : bif_score_text(set, "%lld", (long long)number);
    for (int64_t k = 0; k < (corners || texts == 0 ? 1 : texts); k++) {
        bif_span *answers = bif_score_take(set, sizeof *answers);
        *answers = bif_score_text(set, "[%.4f, %.4f, %.4f, %.4f]", t->box[0], t->box[1], t->box[2], t->box[3]);
        bif_score_item *item =
            bif_score_add(set, texts > 1 ? bif_score_text(set, "%.*s/%lld", (int)own.size, own.text, (long long)k) : own);
        item->cluster = image;
        item->group[0] = split;
        item->answers = answers;
        item->answer_count = 1;
        item->more = t;
    }
done:
    return st;
}

static bif_status read_refcoco(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    int64_t number = 0, read[2] = {0};
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        bool more = false;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        if (bif_scan_peek(s) == '[') {
            BIF_TRY(bif_scan_enter(s, '['));
            while ((st = bif_scan_more(s, &more)) == BIF_OK && more) {
                BIF_TRY(read_row(set, s, number++, read));
            }
            BIF_TRY(st);
        }
        while (bif_scan_peek(s) == '{') {
            BIF_TRY(read_row(set, s, number++, read));
        }
        BIF_TRY(bif_scan_end(s));
    }
    bif_score_note(set, "boxes of the references: %lld read as corners x1, y1, x2, y2, %lld as a corner and a size x, y, w, h",
                   (long long)read[0], (long long)read[1]);
done:
    return st;
}

/* ---- the box of an answer ---- */

typedef struct {
    const char *at, *end;
} cursor;

static uint32_t code_at(const cursor *c, size_t *step)
{
    uint32_t code = 0;
    *step = c->at < c->end ? bif_utf8_decode(c->at, (size_t)(c->end - c->at), &code) : 0;
    return *step > 0 ? code : 0;
}

static void skip_space(cursor *c)
{
    for (size_t step; bif_text_is_space(code_at(c, &step)) && step > 0;) {
        c->at += step;
    }
}

static bool skip_digits(cursor *c)
{
    const char *from = c->at;
    for (size_t step; bif_text_is_digit(code_at(c, &step)) && step > 0;) {
        c->at += step;
    }
    return c->at > from;
}

static bool take_char(cursor *c, char wanted)
{
    const bool is = c->at < c->end && *c->at == wanted;
    c->at += is;
    return is;
}

/* -?\d+(\.\d+)? */
static bool take_number(cursor *c, double *out)
{
    const char *from = c->at;
    take_char(c, '-');
    if (!skip_digits(c)) {
        return false;
    }
    cursor fraction = *c;
    if (take_char(&fraction, '.') && skip_digits(&fraction)) {
        *c = fraction;
    }
    return bif_text_float((bif_span){from, (size_t)(c->at - from)}, out);
}

/* [a, b, c, d]: white space behind commas and inside of the brackets. */
static bool take_list(cursor c, double box[4])
{
    bool ok = take_char(&c, '[');
    for (int k = 0; k < 4 && ok; k++) {
        ok = k == 0 || take_char(&c, ',');
        skip_space(&c);
        ok = ok && take_number(&c, &box[k]);
    }
    skip_space(&c);
    return ok && take_char(&c, ']');
}

/* (a,b),(c,d) */
static bool take_corners(cursor c, double box[4])
{
    bool ok = true;
    for (int k = 0; k < 4 && ok; k++) {
        ok = (k != 2 || take_char(&c, ',')) && (k % 2 == 0 ? take_char(&c, '(') : take_char(&c, ','));
        skip_space(&c);
        ok = ok && take_number(&c, &box[k]);
        skip_space(&c);
        ok = ok && (k % 2 == 0 || take_char(&c, ')'));
    }
    return ok;
}

static bool box_of(bif_span text, double box[4])
{
    for (int form = 0; form < 2; form++) {
        for (size_t i = 0; i < text.size; i++) {
            const cursor c = {text.text + i, text.text + text.size};
            if (form == 0 ? take_list(c, box) : take_corners(c, box)) {
                return true;
            }
        }
    }
    return false;
}

/* To shares of the picture. */
static void to_shares(double box[4], const target *t, bif_box_space space)
{
    const double side = t->width > t->height ? t->width : t->height;
    const double scale = space.unit == BIF_BOX_1000 ? 1000.0 : space.unit == BIF_BOX_999 ? 999.0 : 1.0;
    for (int k = 0; k < 4; k++) {
        const double own = k % 2 == 0 ? t->width : t->height;
        if (space.unit != BIF_BOX_PIXEL && !space.padded) {
            box[k] /= scale;
        } else {
            const double pixel = space.unit == BIF_BOX_PIXEL ? box[k] : box[k] / scale * side;
            const double before = space.padded ? (double)((int64_t)(side - own) / 2) : 0.0;
            box[k] = (pixel - before) / own;
        }
    }
}

static double overlap(const double a[4], const double b[4])
{
    const double left = a[0] > b[0] ? a[0] : b[0], top = a[1] > b[1] ? a[1] : b[1];
    const double right = a[2] < b[2] ? a[2] : b[2], bottom = a[3] < b[3] ? a[3] : b[3];
    const double both = (right > left ? right - left : 0.0) * (bottom > top ? bottom - top : 0.0);
    const double either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both;
    return either > 0.0 ? both / either : 0.0;
}

static bif_status score_refcoco(bif_score_set *set, bif_norm norm)
{
    (void)norm;
    if (set->boxes.unit == BIF_BOX_NONE) {
        return bif_fail(BIF_ERR_USAGE, "boxes cannot be scored before it is said what they are relative to (--box-space)");
    }
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const target *t = item->more;
        double box[4] = {0};
        item->unparsed = !box_of(item->prediction, box);
        if (item->unparsed) {
            memset(box, 0, sizeof box);
        }
        to_shares(box, t, set->boxes);
        item->parsed = item->unparsed ? (bif_span){"", 0} : bif_score_text(set, "[%.4f, %.4f, %.4f, %.4f]", box[0], box[1], box[2], box[3]);
        item->value[IOU] = item->unparsed ? 0.0 : overlap(t->box, box);
        const double x = (box[0] + box[2]) / 2.0, y = (box[1] + box[3]) / 2.0;
        item->value[CENTRE] = !item->unparsed && t->box[0] <= x && x <= t->box[2] && t->box[1] <= y && y <= t->box[3];
        item->score = item->value[IOU] >= 0.5;
    }
    return BIF_OK;
}

static void summarise_refcoco(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    static const double at[] = {0.1, 0.3, 0.7, 0.9};
    double sum = 0.0, centre = 0.0, above[4] = {0};
    int64_t count = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        count += weight[i];
        sum += weight[i] * item->value[IOU];
        centre += weight[i] * item->value[CENTRE];
        for (int k = 0; k < 4; k++) {
            above[k] += item->value[IOU] >= at[k] ? weight[i] : 0;
        }
    }
    bif_score_means(set, "accuracy@0.5", weight, out);
    for (int k = 0; k < 4; k++) {
        bif_metric_add(out, 100.0 * above[k] / (double)count, count, "accuracy@%.1f", at[k]);
    }
    bif_metric_add(out, 100.0 * sum / (double)count, count, "mean IoU");
    bif_metric_add(out, 100.0 * centre / (double)count, count, "centre");
}

const bif_score_task bif_task_refcoco = {
    .name = "refcoco",
    .title = "RefCOCO, + and g: boxes",
    .references = "JSON lines of image, width, height and bbox in pixels: x1, y1, x2, y2 with sent or expression, x, y, w, h with answer",
    .rule =
        "the first [a, b, c, d] or (a,b),(c,d) of the answer overlaps the box by 0.5; --box-space says what its numbers are relative to",
    .dimension = {"dataset"},
    .boxes = true,
    .read = read_refcoco,
    .score = score_refcoco,
    .summarise = summarise_refcoco,
};
