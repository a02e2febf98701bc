/* CHAIR: objects that a caption names and the picture does not have. What a picture has: the categories of its instances and the objects
 * that its reference captions name. */
#include <stdlib.h>
#include <string.h>

#include "eval/chair_words.h"
#include "eval/coco.h"
#include "eval/score.h"

enum { MENTIONS = 0, HALLUCINATED = 1, FOUND = 2, PRESENT = 3 }; /* item->value */

typedef struct {
    uint64_t objects[BIF_CHAIR_OBJECTS / 64];
} seen;

/* The categories of COCO's files as objects of the synonyms; -1 = not named. */
static bif_status match_categories(const bif_coco *coco, const bif_synonyms *synonyms, int object[BIF_COCO_CATEGORIES])
{
    for (size_t c = 0; c < BIF_COCO_CATEGORIES; c++) {
        object[c] = coco->names[c].text == NULL ? -1 : bif_synonyms_find(synonyms, coco->names[c]);
        if (coco->names[c].text != NULL && object[c] < 0) {
            return bif_fail(BIF_ERR_DATA, "category '%.*s' is not among the synonyms", (int)coco->names[c].size, coco->names[c].text);
        }
    }
    return BIF_OK;
}

static bif_status add_picture(bif_score_set *set, const bif_picture *p, const int object[BIF_COCO_CATEGORIES])
{
    bif_score_item *item = bif_score_add(set, p->id);
    seen *s = bif_score_take(set, sizeof *s);
    item->cluster = p->id;
    item->answers = p->captions;
    item->answer_count = p->caption_count;
    item->optional = true;
    item->more = s;
    for (size_t c = 0; c < BIF_COCO_CATEGORIES; c++) {
        if ((p->objects[c / 64] >> c % 64 & 1) == 0) {
            continue;
        }
        if (object[c] < 0) {
            return bif_fail(BIF_ERR_DATA, "picture %.*s has an object of a category without a name in \"categories\"", (int)p->id.size,
                            p->id.text);
        }
        s->objects[object[c] / 64] |= 1ull << object[c] % 64;
    }
    return BIF_OK;
}

static bif_status read_chair(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    bif_coco coco = {.set = set};
    bif_synonyms *synonyms = set->own = bif_score_take(set, sizeof *synonyms);
    int object[BIF_COCO_CATEGORIES];
    size_t next = 0;
    bool captions = false, instances = false;
    for (size_t i = 0; i < count; i++) {
        bif_span text;
        BIF_TRY(bif_score_bytes(set, paths[i], &text));
        const bif_span start = bif_text_strip(text);
        if (start.size > 0 && (*start.text == '{' || *start.text == '[')) {
            BIF_TRY(bif_coco_read(&coco, paths[i]));
        } else if (synonyms->count > 0) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: neither JSON nor the first file of synonyms", paths[i]));
        } else {
            BIF_TRY(bif_synonyms_read(synonyms, paths[i], text));
        }
    }
    if (synonyms->count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no synonyms among the references: a text file, a line an object, its names parted by \", \" "
                         "(the authors' data/synonyms.txt)", paths[0]));
    }
    BIF_TRY(match_categories(&coco, synonyms, object));
    for (bif_picture *p; (p = bif_coco_next(&coco, &next)) != NULL;) {
        BIF_TRY(add_picture(set, p, object));
        captions = captions || p->caption_count > 0;
        instances = instances || p->objects[0] != 0 || p->objects[1] != 0;
    }
    if (!captions || !instances) {
        bif_score_note(set, "no %s among the references; the published numbers rest on instances and captions both",
                       captions ? "instances" : "captions");
    }
done:
    bif_coco_free(&coco);
    return st;
}

static void close_chair(bif_score_set *set)
{
    bif_synonyms_free(set->own);
}

/* {"overall": .., "imgToEval": {"..": {"image_id": .., "caption": ..}}}: what the authors' code reads. */
static bif_status predict(bif_score_set *set, bif_score_reader *reader, const char *path, bool *own)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    bif_span key, name, caption;
    BIF_TRY(bif_score_file(set, path, &s));
    if (bif_scan_peek(s) != '{' || memmem(bif_scan_whole(s).text, bif_scan_whole(s).size, "\"imgToEval\"", 11) == NULL) {
        goto done;
    }
    *own = true;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more, another, member; (st = bif_scan_key(s, &key, &more)) == BIF_OK && more;) {
        if (!bif_span_is(key, "imgToEval")) {
            BIF_TRY(bif_scan_skip(s));
            continue;
        }
        BIF_TRY(bif_scan_enter(s, '{'));
        while ((st = bif_scan_key(s, &key, &another)) == BIF_OK && another) {
            const int64_t line = bif_scan_line(s);
            caption = (bif_span){0};
            BIF_TRY(bif_scan_enter(s, '{'));
            while ((st = bif_scan_key(s, &name, &member)) == BIF_OK && member) {
                if (bif_span_is(name, "image_id")) {
                    BIF_TRY(bif_scan_word(s, &key));
                } else if (bif_span_is(name, "caption")) {
                    BIF_TRY(bif_scan_string(s, &caption));
                } else {
                    BIF_TRY(bif_scan_skip(s));
                }
            }
            BIF_TRY(st);
            if (caption.text == NULL) {
                BIF_TRY(bif_scan_fail(s, "no caption of picture %.*s", (int)key.size, key.text));
            }
            bif_score_answer(reader, path, line, key, caption);
        }
        BIF_TRY(st);
    }
    BIF_TRY(st);
    st = bif_scan_end(s);
done:
    return st;
}

static void add_words(bif_text_buffer *out, const char *text, bif_span name)
{
    bif_text_add(out, text, strlen(text));
    bif_text_add(out, name.text, name.size);
}

static void score_item(bif_score_set *set, bif_score_item *item, bif_mentions *m, bif_text_buffer *report)
{
    const bif_synonyms *synonyms = set->own;
    seen present = *(const seen *)item->more, named = {0};
    for (int64_t k = 0; k < item->answer_count; k++) {
        bif_mentions_find(m, synonyms, item->answers[k]);
        for (size_t i = 0; i < m->count; i++) {
            present.objects[m->objects[i] / 64] |= 1ull << m->objects[i] % 64;
        }
    }
    bif_mentions_find(m, synonyms, item->prediction);
    bif_text_clear(report);
    for (size_t i = 0; i < m->count; i++) {
        const uint8_t o = m->objects[i];
        const bool there = (present.objects[o / 64] >> o % 64 & 1) != 0;
        item->value[HALLUCINATED] += !there;
        named.objects[o / 64] |= 1ull << o % 64;
        add_words(report, i > 0 ? ", " : "", synonyms->name[o]);
        bif_text_add(report, "!", there ? 0 : 1);
    }
    item->value[MENTIONS] = (double)m->count;
    for (size_t k = 0; k < BIF_CHAIR_OBJECTS / 64; k++) {
        item->value[FOUND] += __builtin_popcountll(present.objects[k] & named.objects[k]);
        item->value[PRESENT] += __builtin_popcountll(present.objects[k]);
    }
    item->parsed = bif_score_keep(set, bif_text_span(report));
    item->score = item->value[HALLUCINATED] == 0.0;
}

static bif_status score_chair(bif_score_set *set, bif_norm norm)
{
    (void)norm;
    bif_mentions m = {0};
    bif_text_buffer report = {0};
    int64_t answered = 0;
    for (int64_t i = 0; i < set->count; i++) {
        if (set->items[i].line > 0) {
            score_item(set, &set->items[i], &m, &report);
            answered++;
        }
    }
    if (answered < set->count) {
        bif_score_note(set, "%lld of %lld pictures have a caption; the others are left out", (long long)answered, (long long)set->count);
    }
    bif_text_free(&report);
    bif_mentions_free(&m);
    return BIF_OK;
}

static void summarise(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    double sums[BIF_SCORE_VALUES] = {0}, hallucinated = 0.0;
    int64_t count = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        if (item->line == 0) {
            continue;
        }
        count += weight[i];
        hallucinated += weight[i] * (item->value[HALLUCINATED] > 0.0);
        for (int k = 0; k < BIF_SCORE_VALUES; k++) {
            sums[k] += weight[i] * item->value[k];
        }
    }
    bif_metric_add(out, 100.0 * sums[HALLUCINATED] / sums[MENTIONS], count, "CHAIR_i");
    bif_metric_add(out, 100.0 * hallucinated / (double)count, count, "CHAIR_s");
    bif_metric_add(out, 100.0 * sums[FOUND] / sums[PRESENT], count, "recall");
    bif_metric_add(out, sums[MENTIONS] / (double)count, count, "mentions");
}

const bif_score_task bif_task_chair = {
    .name = "chair",
    .title = "CHAIR: hallucinated objects among those a caption names (CHAIR_i), captions with any (CHAIR_s)",
    .references = "instances_*.json, captions_*.json of COCO (or JSONL of image_id, objects, captions) and synonyms.txt",
    .rule = "as the authors' chair.py, x 100; recall: objects of the pictures that are named",
    .by_image = true,
    .read = read_chair,
    .close = close_chair,
    .predict = predict,
    .score = score_chair,
    .summarise = summarise,
};
