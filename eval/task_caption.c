/* Captions: BLEU-1 to 4, ROUGE-L and CIDEr-D as coco-caption computes them, on its tokens. METEOR (a 61 MB table of paraphrases) and
 * SPICE (a parser of scene graphs) are not computed.
 *
 * Pictures stand in the order of "images", as in the scorer: it tokenizes all captions in one file, where the end of one may depend on
 * the next (eval/ptb.h). Document frequencies are those of all pictures scored; a draw of the bootstrap does not count them anew. */
#include <stdlib.h>
#include <string.h>

#include "base/intern.h"
#include "eval/caption_metrics.h"
#include "eval/coco.h"
#include "eval/ptb.h"
#include "eval/score.h"

typedef struct {
    bif_span id, *captions;
    int64_t count, capacity;
    bool placed;
} picture;

typedef struct {
    bif_score_set *set;
    bif_intern ids;
    picture *pictures; /* by number */
    uint32_t *listed;  /* of "images", in their order */
    size_t capacity, listed_count, listed_capacity;
} reader;

static picture *picture_of(reader *r, bif_span id, uint32_t *number)
{
    *number = (uint32_t)bif_intern_find(&r->ids, id.text, id.size, true, NULL);
    if (*number >= r->capacity) {
        const size_t old = r->capacity;
        r->capacity = 2 * old + 1024;
        r->pictures = bif_realloc(r->pictures, r->capacity, sizeof *r->pictures);
        memset(r->pictures + old, 0, (r->capacity - old) * sizeof *r->pictures);
    }
    r->pictures[*number].id = id;
    return &r->pictures[*number];
}

static void on_image(void *to, bif_span id)
{
    reader *r = to;
    if (r->listed_count == r->listed_capacity) {
        r->listed_capacity = 2 * r->listed_capacity + 1024;
        r->listed = bif_realloc(r->listed, r->listed_capacity, sizeof *r->listed);
    }
    picture_of(r, id, &r->listed[r->listed_count++]);
}

static void on_caption(void *to, bif_span image, bif_span text)
{
    reader *r = to;
    uint32_t number;
    picture *p = picture_of(r, image, &number);
    if (p->count == p->capacity) {
        bif_span *grown = bif_score_take(r->set, (size_t)(p->capacity = 2 * p->capacity + 5) * sizeof *grown);
        if (p->count > 0) {
            memcpy(grown, p->captions, (size_t)p->count * sizeof *grown);
        }
        p->captions = grown;
    }
    p->captions[p->count++] = text;
}

static void place(reader *r, uint32_t number)
{
    picture *p = &r->pictures[number];
    if (p->count > 0 && !p->placed) {
        bif_score_item *item = bif_score_add(r->set, p->id);
        item->cluster = p->id;
        item->answers = p->captions;
        item->answer_count = p->count;
        item->more = bif_score_take(r->set, sizeof(bif_caption));
        p->placed = true;
    }
}

static bif_status read_captions(bif_score_set *set, const char *const *paths, size_t count)
{
    static const bif_coco_calls calls = {.image = on_image, .caption = on_caption};
    bif_status st = BIF_OK;
    reader r = {.set = set};
    int64_t bare = 0, unlisted = 0;
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        BIF_TRY(bif_coco_read(s, &calls, &r));
    }
    for (size_t i = 0; i < r.listed_count; i++) {
        place(&r, r.listed[i]);
        bare += r.pictures[r.listed[i]].count == 0;
    }
    for (uint32_t i = 0; i < r.ids.count; i++) {
        unlisted += r.listed_count > 0 && r.pictures[i].count > 0 && !r.pictures[i].placed;
        if (r.listed_count == 0) {
            place(&r, i);
        }
    }
    if (bare > 0) {
        bif_score_note(set, "%lld of the images have no caption: left out", (long long)bare);
    }
    if (unlisted > 0) {
        bif_score_note(set, "captions of %lld pictures that are not among the images: left out", (long long)unlisted);
    }
done:
    bif_intern_free(&r.ids);
    free(r.pictures);
    free(r.listed);
    return st;
}

/* A file of captions: each is tokenized with the next that is not blank in view. Spans become those of their tokens. */
static void tokenize(bif_score_set *set, bif_span *captions, int64_t count)
{
    bif_ptb *ptb = bif_ptb_new();
    bif_text_buffer buffer = {0};
    bif_span next = {0};
    for (int64_t i = count - 1; i >= 0; i--) {
        const bif_span caption = captions[i];
        bif_text_clear(&buffer);
        bif_ptb_caption(ptb, caption, next, &buffer);
        captions[i] = bif_score_keep(set, bif_text_span(&buffer));
        next = bif_text_strip(caption).size > 0 || next.text == NULL ? caption : next;
    }
    bif_text_free(&buffer);
    bif_ptb_free(ptb);
}

static bif_status score_captions(bif_score_set *set, bif_norm norm)
{
    (void)norm;
    int64_t total = 0, at = 0;
    for (int64_t i = 0; i < set->count; i++) {
        total += set->items[i].answer_count;
    }
    bif_span *references = bif_calloc((size_t)total, sizeof *references), *predictions = bif_calloc((size_t)set->count, sizeof *predictions);
    bif_caption *captions = bif_calloc((size_t)set->count, sizeof *captions);
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        captions[i].references = references + at;
        captions[i].reference_count = item->answer_count;
        memcpy(references + at, item->answers, (size_t)item->answer_count * sizeof *references);
        predictions[i] = item->prediction;
        at += item->answer_count;
    }
    if (!set->tokenized) {
        tokenize(set, references, total);
        tokenize(set, predictions, set->count);
    }
    for (int64_t i = 0; i < set->count; i++) {
        captions[i].prediction = predictions[i];
    }
    bif_caption_score(captions, set->count);
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        captions[i].references = NULL; /* the counts are what is kept */
        memcpy(item->more, &captions[i], sizeof captions[i]);
        item->parsed = predictions[i];
        item->score = captions[i].cider;
        item->value[0] = captions[i].rouge;
    }
    bif_score_note(set, "METEOR and SPICE are not computed");
    if (set->count == 1) {
        bif_score_note(set, "CIDEr-D of a single picture is 0: its document frequencies say nothing");
    }
    free(captions);
    free(predictions);
    free(references);
    return BIF_OK;
}

static void summarise(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    double cider = 0.0, rouge = 0.0, bleu[4];
    int64_t count = 0;
    bif_bleu sums = {0};
    for (int64_t i = 0; i < set->count; i++) {
        cider += weight[i] * set->items[i].score;
        rouge += weight[i] * set->items[i].value[0];
        count += weight[i];
        bif_bleu_add(&sums, set->items[i].more, weight[i]);
    }
    bif_bleu_score(&sums, bleu);
    bif_metric_add(out, 100.0 * cider / (double)count, count, "CIDEr");
    for (int n = 0; n < 4; n++) {
        bif_metric_add(out, 100.0 * bleu[n], count, "BLEU-%d", n + 1);
    }
    bif_metric_add(out, 100.0 * rouge / (double)count, count, "ROUGE-L");
    bif_metric_add(out, (double)sums.length, count, "tokens");
    bif_metric_add(out, (double)sums.closest, count, "tokens/references");
}

const bif_score_task bif_task_caption = {
    .name = "caption",
    .title = "captions (COCO, Flickr30k, NoCaps, TextCaps): CIDEr-D, BLEU-1 to 4, ROUGE-L",
    .references = "captions_val2014.json (images, annotations of image_id and caption), or JSONL of image_id, captions",
    .rule = "as coco-caption, x 100, on PTB tokens",
    .by_image = true,
    .tokens = true,
    .read = read_captions,
    .score = score_captions,
    .summarise = summarise,
};
